"""An OpenAI-compatible server on a real socket that does what a test tells it: streams, stalls, cuts off, refuses, sends garbage."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Any

WAIT_S = 30.0
DONE = b"data: [DONE]\n\n"


class Stall:
    """Send nothing more until the client has left."""


class Cut:
    """Break the connection off."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """How one request is answered: a head, then steps, each sent by itself."""

    steps: Iterable[bytes | Stall | Cut] = ()
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a client sent."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]


def chunk(content: str | None = None, *, finish: str | None = None, **choice: Any) -> bytes:
    """One event of the stream, as vLLM writes it."""
    delta = {} if content is None else {"content": content}
    choices = [{"index": 0, "delta": delta, "finish_reason": finish, **choice}]
    return event({"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "wader-7b", "choices": choices})


def usage(prompt: int, completion: int) -> bytes:
    """The event behind the last chunk."""
    tokens = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    head = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "wader-7b"}
    return event({**head, "choices": [], "usage": tokens})


def event(data: object) -> bytes:
    """Anything as an event."""
    return f"data: {json.dumps(data)}\n\n".encode()


def refusal(status: int, message: str, *, headers: dict[str, str] | None = None, code: str | None = None) -> Reply:
    """A refusal in OpenAI's words."""
    body = json.dumps({"error": {"message": message, "type": "error", "code": code}}).encode()
    return Reply(status=status, headers={"content-type": "application/json", **(headers or {})}, steps=[body])


class OpenAiServer:
    """Answers each request with the next reply; the last one stays.

    Attributes:
        asked: what came, in order.
        left: how many clients have left before their reply was over.
        open: connections that are open.
    """

    def __init__(self) -> None:
        """Knows no reply yet."""
        self.replies: list[Reply] = []
        self.asked: list[Asked] = []
        self.left = 0
        self.open = 0
        self.base_url = ""
        self.changed = asyncio.Condition()

    async def until_left(self, count: int) -> None:
        """Wait until so many clients have left."""
        async with asyncio.timeout(WAIT_S), self.changed:
            await self.changed.wait_for(lambda: self.left >= count)

    async def until_asked(self, count: int) -> None:
        """Wait until so many requests have come."""
        async with asyncio.timeout(WAIT_S), self.changed:
            await self.changed.wait_for(lambda: len(self.asked) >= count)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, request by request."""
        self.open += 1
        try:
            while (asked := await _request(reader)) is not None:
                async with self.changed:
                    self.asked.append(asked)
                    self.changed.notify_all()
                reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
                if not await self._answer(reply, reader, writer):
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            await self._gone()
        finally:
            self.open -= 1
            writer.close()

    async def _answer(self, reply: Reply, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        headers = {"content-type": "text/event-stream", **reply.headers, "transfer-encoding": "chunked"}
        lines = [f"HTTP/1.1 {reply.status} Status", *(f"{name}: {value}" for name, value in headers.items())]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        for step in reply.steps:
            match step:
                case Cut():
                    writer.transport.abort()
                    return False
                case Stall():
                    await reader.read(1)  # nothing comes but the end
                    await self._gone()
                    return False
                case bytes():
                    writer.write(f"{len(step):x}\r\n".encode() + step + b"\r\n")
                    await writer.drain()
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True

    async def _gone(self) -> None:
        async with self.changed:
            self.left += 1
            self.changed.notify_all()


async def _request(reader: asyncio.StreamReader) -> Asked | None:
    """The next request; None where the client has left between two."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines) if name}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Asked(path=first.split()[1], headers=headers, body=json.loads(body))


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[OpenAiServer]:
    """A server on a free port of the loopback interface."""
    fake = OpenAiServer()
    server = await asyncio.start_server(fake.serve, "127.0.0.1", 0)
    fake.base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield fake
    finally:
        server.close()
