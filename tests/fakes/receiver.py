"""A receiver of webhooks on loopback: a real HTTP server that answers, stalls, breaks off, or never stops answering."""

import asyncio
import contextlib
import ssl
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Literal, Self

Behaviour = int | Literal["stall", "cut", "endless"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """A request as it arrived; names of headers in lower case."""

    path: str
    headers: dict[str, str]
    body: bytes


class Receiver:
    """Does what `script` says, one entry a request, then answers 204.

    A number is answered with that status and a link to elsewhere. "stall" never answers, "cut" closes the connection without a word,
    "endless" answers 200 with a body that does not end.
    """

    def __init__(self) -> None:
        self.script: deque[Behaviour] = deque()
        self.posts: list[Post] = []
        self.connections = 0
        self.port = 0
        self._arrived = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, tls: ssl.SSLContext | None = None) -> AsyncGenerator[Self]:
        """A receiver that listens."""
        receiver = cls()
        server = await asyncio.start_server(receiver._connected, "127.0.0.1", 0, ssl=tls)
        receiver.port = server.sockets[0].getsockname()[1]
        try:
            yield receiver
        finally:
            server.close()
            for task in receiver._tasks:
                task.cancel()
            await asyncio.gather(*receiver._tasks, return_exceptions=True)
            await server.wait_closed()

    @property
    def url(self) -> str:
        """Where to post to."""
        return f"http://127.0.0.1:{self.port}/events"

    async def received(self, count: int) -> list[Post]:
        """Wait until so many requests have arrived."""
        async with asyncio.timeout(60), self._arrived:
            await self._arrived.wait_for(lambda: len(self.posts) >= count)
        return self.posts

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            with contextlib.suppress(
                ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError, ssl.SSLError
            ):
                await self._serve(reader, writer)
        finally:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        behaviour = self.script.popleft() if self.script else 204
        async with self._arrived:
            self.posts.append(Post(path=head[0].split(" ")[1], headers=headers, body=body))
            self._arrived.notify_all()
        match behaviour:
            case "stall":
                await asyncio.Event().wait()
            case "cut":
                return
            case "endless":
                writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
                while True:
                    writer.write(b"400\r\n" + b"x" * 1024 + b"\r\n")
                    await writer.drain()
            case status:
                location = f"location: http://127.0.0.1:{self.port}/elsewhere\r\nset-cookie: a=b\r\n"
                writer.write(f"HTTP/1.1 {status} Status\r\n{location}content-length: 0\r\n\r\n".encode())
                await writer.drain()
