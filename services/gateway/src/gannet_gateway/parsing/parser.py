"""Reads uploads as text: small ones here, the rest in worker processes, so that a file which crashes or hangs its parser fails alone."""

import asyncio
import contextlib
import hashlib
import io
import json
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Protocol

import structlog

from gannet_gateway.parsing.formats import ALIASES, CSV, HTML, JSONL, MIME_TYPES, PLAIN, VERBATIM, to_text
from gannet_gateway.parsing.text import Limits, Unreadable
from gannet_gateway.parsing.worker import FRAME_BYTES
from gannet_gateway.threads import for_length
from gannet_service.errors import InvalidInput

PIECE_BYTES = 256 << 10
# A worker's round trip is 0.1 ms, as much as parsing 1 KiB here; at 8 KiB it is 5 %, and the worker leaves the gateway's core alone.
IN_PLACE_BYTES_MAX = 8 << 10
# A worker may have been killed for another's sake, by the kernel say: a file has to kill two.
ATTEMPTS = 2
_WORKER = "gannet_gateway.parsing.worker"

_log: structlog.stdlib.BoundLogger = structlog.get_logger("parser")


def check_mime_type(mime_type: str) -> str:
    """The given type under its one name, or text/plain for an empty one; parameters such as a charset are cut off."""
    bare = mime_type.partition(";")[0].strip().lower() or PLAIN
    bare = ALIASES.get(bare, bare)
    if bare not in MIME_TYPES:
        raise InvalidInput(f"mime_type: {mime_type[:100]!r} is not one of {', '.join(MIME_TYPES)}", field="mime_type")
    return bare


class Content(Protocol):
    """An upload that may be read more than once, a piece at a time."""

    @property
    def size(self) -> int:
        """Its length in bytes."""
        ...

    def pieces(self) -> AsyncIterator[bytes]:
        """Its bytes in order, from the start."""
        ...


@dataclass(frozen=True, slots=True)
class Held:
    """A content in memory."""

    content: bytes

    @property
    def size(self) -> int:
        """Its length in bytes."""
        return len(self.content)

    @property
    def sha256(self) -> bytes:
        """The digest of its bytes."""
        return hashlib.sha256(self.content).digest()

    async def pieces(self) -> AsyncIterator[bytes]:
        """Its bytes, cut to what a pipe takes well."""
        for at in range(0, len(self.content), PIECE_BYTES):
            yield self.content[at : at + PIECE_BYTES]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLimits:
    """What one file may cost: `timeout_s` to be read, from its last byte on, `memory_bytes_max` of address space."""

    timeout_s: float
    memory_bytes_max: int


class Parser:
    """Turns uploads into text. Workers start when they are needed and stay; `workers_max` files are read at once."""

    def __init__(self, limits: Limits, worker_limits: WorkerLimits, *, workers_max: int) -> None:
        self._limits = limits
        self._worker_limits = worker_limits
        self._slots = asyncio.Semaphore(workers_max)
        self._idle: list[_Worker] = []

    async def text(self, content: Content, mime_type: str) -> str:
        """The text of `content`; cancellation ends the worker that reads it.

        Raises:
            InvalidInput: no text can be taken out of it, or not within a limit, which is named.
        """
        try:
            if mime_type in VERBATIM or (mime_type in (HTML, CSV, JSONL) and content.size <= IN_PLACE_BYTES_MAX):
                return await self._in_place(content, mime_type)
            return await self._in_worker(content, mime_type)
        except Unreadable as error:
            raise InvalidInput(f"content: {error}", field="content") from error

    async def close(self) -> None:
        """End the workers."""
        while self._idle:
            await self._idle.pop().end()

    async def _in_place(self, content: Content, mime_type: str) -> str:
        if content.size > self._limits.text_bytes_max:
            raise Unreadable(f"its text is longer than text_bytes_max = {self._limits.text_bytes_max} bytes")
        whole = b"".join([piece async for piece in content.pieces()])
        # What a parser makes of a few bytes may take long.
        length = len(whole) if mime_type in VERBATIM else sys.maxsize
        return await for_length(length, to_text, io.BytesIO(whole), mime_type, self._limits)

    async def _in_worker(self, content: Content, mime_type: str) -> str:
        async with self._slots:
            for attempt in range(1, ATTEMPTS + 1):
                worker = self._idle.pop() if self._idle else await _Worker.start(self._limits, self._worker_limits)
                is_settled = False
                try:
                    text = await worker.parse(content, mime_type)
                    is_settled = True
                except Unreadable:
                    is_settled = True
                    await self._keep(worker)
                    raise
                except _Gone as error:
                    _log.warning("parser died", mime_type=mime_type, bytes=content.size, cause=str(error))
                    if attempt == ATTEMPTS:
                        raise Unreadable(f"reading it as {mime_type} ended the parser's process ({error})") from error
                else:
                    await self._keep(worker)
                    return text
                finally:
                    if not is_settled:  # it died, or its caller left in the middle
                        await asyncio.shield(worker.end())
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _keep(self, worker: "_Worker") -> None:
        if worker.usable:
            self._idle.append(worker)
        else:
            await worker.end()


class _Gone(Exception):
    """The worker's process ended; the message says how."""


class _Worker:
    """One worker process. `usable` as long as it can take another file."""

    def __init__(self, process: asyncio.subprocess.Process, limits: WorkerLimits) -> None:
        self._process = process
        self._timeout_s = limits.timeout_s
        self.usable = True

    @classmethod
    async def start(cls, limits: Limits, worker_limits: WorkerLimits) -> "_Worker":
        settings = {
            "text_bytes_max": limits.text_bytes_max,
            "unpacked_bytes_max": limits.unpacked_bytes_max,
            "memory_bytes_max": worker_limits.memory_bytes_max,
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            _WORKER,
            json.dumps(settings),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            # Libraries complain there about every odd file.
            stderr=asyncio.subprocess.DEVNULL,
            # None of the gateway's secrets.
            env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "TMPDIR": tempfile.gettempdir()},
        )
        return cls(process, worker_limits)

    async def parse(self, content: Content, mime_type: str) -> str:
        self.usable = False
        try:
            await self._send(content, mime_type)
            async with asyncio.timeout(self._timeout_s):
                reply, text = await self._receive()
        except TimeoutError as error:
            raise Unreadable(f"not read within parse_timeout_s = {self._timeout_s:g} seconds") from error
        except (ConnectionError, asyncio.IncompleteReadError, json.JSONDecodeError) as error:
            raise _Gone(await self._cause()) from error
        self.usable = not reply.get("exhausted", False)
        if "error" in reply:
            raise Unreadable(reply["error"])
        return text.decode()

    async def end(self) -> None:
        """Kill it and wait until it is gone."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.communicate()

    async def _send(self, content: Content, mime_type: str) -> None:
        pipe = self._process.stdin
        assert pipe is not None  # noqa: S101 - it was asked for
        pipe.write(json.dumps({"mime_type": mime_type, "timeout_s": self._timeout_s}).encode() + b"\n")
        async for piece in content.pieces():
            pipe.write(len(piece).to_bytes(FRAME_BYTES, "big") + piece)
            await pipe.drain()
        pipe.write(bytes(FRAME_BYTES))
        await pipe.drain()

    async def _receive(self) -> tuple[dict[str, Any], bytes]:
        pipe = self._process.stdout
        assert pipe is not None  # noqa: S101 - it was asked for
        reply: dict[str, Any] = json.loads(await pipe.readline())
        return reply, await pipe.readexactly(reply.get("text_bytes", 0))

    async def _cause(self) -> str:
        code = await self._process.wait()
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"
