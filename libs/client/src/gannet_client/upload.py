"""Uploading many documents over one stream, and over another one when the server dies under it.

A document is sent again until the server has said what became of it. That is safe: its request id finds the job that it is already.
"""

from __future__ import annotations  # grpc's classes are generic in their stubs only

import asyncio
import contextlib
import hashlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Any

import grpc

from gannet.gateway.v1 import collections_pb2, documents_pb2
from gannet.gateway.v1.collections_pb2_grpc import CollectionServiceStub
from gannet.gateway.v1.documents_pb2_grpc import DocumentServiceStub
from gannet_client import wire
from gannet_client.errors import Conflict, DeadlineExceeded, GannetError, Unavailable, from_rpc_error
from gannet_client.transport import RetryPolicy, Transport, new_request_id
from gannet_client.types import DocumentFailed, DocumentInput, UploadAck

PIECE_BYTES = 256 << 10
# Enough to keep the server's batches full; each is held in memory until its ack.
IN_FLIGHT_MAX = 32
# A document that the server received this often without a word on what became of it may be what kills the server: give it up.
RECEIVED_MAX = 5

_Request = documents_pb2.UploadDocumentsRequest
_Response = documents_pb2.UploadDocumentsResponse


@dataclass(slots=True, eq=False)
class _Outgoing:
    """A document on its way: how often a server had all of it and said no more, and how often one could not take it just then."""

    document: DocumentInput
    # A stream that broke is gone on with: the server knows by it what it has accepted.
    request_id: str = field(default_factory=new_request_id)
    received: int = 0
    refusals: int = 0

    def refused(self, error: GannetError, retry: RetryPolicy) -> float | None:
        """When to send it again after the server has refused it, in seconds; None if that is final."""
        if isinstance(error, Conflict) and (self.received > 1 or self.refusals):
            # Not somebody else's write: our own earlier attempt, which the server has not put away yet.
            error = Unavailable(error.message, retry_after_s=error.retry_after_s)
        self.received = 0
        self.refusals += 1
        self.request_id = new_request_id()  # what was refused is over
        return retry.pause_s(self.refusals, error)


async def upload(
    transport: Transport,
    collection: str,
    documents: AsyncIterable[DocumentInput] | Iterable[DocumentInput],
    *,
    ack_timeout_s: float,
    retry: RetryPolicy,
) -> AsyncGenerator[UploadAck]:
    """Send `documents` and yield one final word on each, in the order in which the server gives them.

    Args:
        transport: where to send them.
        collection: the collection's resource name.
        documents: read as they are sent; at most IN_FLIGHT_MAX wait for their ack.
        ack_timeout_s: longest silence while documents wait for their ack.
        retry: how often a broken stream is opened again without progress, and a document sent again that the server could
            not take just then.

    Raises:
        GannetError: the upload cannot go on; every document in flight was yielded as unacknowledged before.
    """
    async with contextlib.aclosing(_Backlog(documents)) as backlog:
        async for ack in _over_streams(transport, collection, backlog, ack_timeout_s, retry):
            yield ack


async def _over_streams(
    transport: Transport, collection: str, backlog: _Backlog, ack_timeout_s: float, retry: RetryPolicy
) -> AsyncGenerator[UploadAck]:
    attempt = 0
    while True:
        stream = _Stream(transport, collection, backlog, ack_timeout_s)
        postponed: list[_Outgoing] = []
        pause_s: float | None = 0.0
        try:
            async with contextlib.aclosing(stream.acks()) as acks:
                async for item, ack in acks:
                    attempt = 0
                    if isinstance(ack, DocumentFailed):
                        later_s = item.refused(ack.error, retry)
                        if later_s is not None:
                            # An id may come once in a stream: it waits for the next one.
                            postponed.append(item)
                            pause_s = max(pause_s, later_s)
                            continue
                    yield ack
        except GannetError as error:
            attempt += 1
            pause_s = retry.pause_s(attempt, error)
            unacknowledged = [*postponed, *stream.unacknowledged()]
            backlog.put_back(unacknowledged)
            for document in backlog.give_up(everything=pause_s is None):
                yield DocumentFailed(document_id=document.document_id, error=error, acknowledged=False)
            if pause_s is None:
                raise
        else:
            if not postponed:
                return
            backlog.put_back(postponed)
        await asyncio.sleep(pause_s)


class _Backlog:
    """What is still to be sent: what has to be sent again, then the caller's documents."""

    def __init__(self, documents: AsyncIterable[DocumentInput] | Iterable[DocumentInput]) -> None:
        self._again: deque[_Outgoing] = deque()
        self._documents = aiter(documents) if isinstance(documents, AsyncIterable) else _asynchronous(documents)
        self._fetching: asyncio.Task[DocumentInput | None] | None = None

    def put_back(self, items: list[_Outgoing]) -> None:
        """Keep `items` to be sent again, before all others."""
        self._again.extendleft(reversed(items))

    def give_up(self, *, everything: bool) -> list[DocumentInput]:
        """Drop and return everything that was ever sent, or only what may be what kills the server."""
        dropped = [item for item in self._again if everything or item.received >= RECEIVED_MAX]
        for item in dropped:
            self._again.remove(item)
        return [item.document for item in dropped]

    async def next(self) -> _Outgoing | None:
        """What to send next, or None at the end."""
        if self._again:
            return self._again.popleft()
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._fetch())
        # Shielded: a stream that breaks cancels its sender, and that must not end the caller's generator.
        document = await asyncio.shield(self._fetching)
        self._fetching = None
        return None if document is None else _Outgoing(document)

    async def _fetch(self) -> DocumentInput | None:
        return await anext(self._documents, None)

    async def aclose(self) -> None:
        """Stop waiting for the caller's next document."""
        if self._fetching is not None:
            await _cancelled(self._fetching)


async def _asynchronous(documents: Iterable[DocumentInput]) -> AsyncIterator[DocumentInput]:
    for document in documents:
        yield document


class _Stream:
    """One UploadDocuments call."""

    def __init__(self, transport: Transport, collection: str, backlog: _Backlog, ack_timeout_s: float) -> None:
        self._request_id = new_request_id()
        self._metadata = transport.metadata(self._request_id)
        self._transport = transport
        self._collection = collection
        self._backlog = backlog
        self._ack_timeout_s = ack_timeout_s
        self._pending: dict[int, _Outgoing] = {}
        self._slots = asyncio.Semaphore(IN_FLIGHT_MAX)
        self._silence: asyncio.Timeout | None = None
        self._all_sent = self._draining = False

    def unacknowledged(self) -> list[_Outgoing]:
        """What was sent, at least in part, and got no final word."""
        return list(self._pending.values())

    async def acks(self) -> AsyncGenerator[tuple[_Outgoing, UploadAck]]:
        """Send until nothing is left, the server drains or the call breaks; yield the last word on each document.

        Raises:
            GannetError: the call broke.
        """
        await self._check_collection()
        stub = DocumentServiceStub(self._transport.channel)
        self._call: grpc.aio.StreamStreamCall[_Request, _Response] = stub.UploadDocuments(metadata=self._metadata)
        sender = asyncio.create_task(self._send())
        retry_after_s: float | None = None
        try:
            while (response := await self._read()) is not None:
                match response.WhichOneof("ack"):
                    case "received" if response.index in self._pending:
                        self._pending[response.index].received += 1
                    case "accepted" if response.index in self._pending:
                        self._pending[response.index].received = 0  # it is durable: no death of a server is its fault
                    case "draining":
                        # The document stays pending, to be sent over the next stream; this one gets no more.
                        retry_after_s = response.draining.retry_delay.ToNanoseconds() / 1e9
                        self._draining = True
                    case _:
                        ack = wire.upload_ack(response, self._request_id)
                        if ack is not None and response.index in self._pending:
                            self._slots.release()
                            yield self._pending.pop(response.index), ack
        except asyncio.CancelledError:
            # The sender ends the call when the caller's iterable fails; that error is the one to tell.
            if sender.done() and not sender.cancelled() and (cause := sender.exception()) is not None:
                raise cause from None
            raise
        finally:
            self._call.cancel()
            await _cancelled(sender)
        if self._pending or not self._all_sent:
            message = "the server ended the upload before it had taken everything"
            raise Unavailable(message, retry_after_s=retry_after_s, request_id=self._request_id)

    async def _check_collection(self) -> None:
        """Learn of a wrong key or name from a unary call: grpc.aio can lose the status of a stream that is being written to."""
        request = collections_pb2.GetCollectionRequest(name=self._collection)
        get_collection = CollectionServiceStub(self._transport.channel).GetCollection
        try:
            await get_collection(request, timeout=self._ack_timeout_s, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            said = from_rpc_error(error, self._request_id)
            if said.reason != "SCOPE_MISSING":  # a key that writes documents need not read collections
                raise said from error

    async def _read(self) -> _Response | None:
        """The next message, or None at the end of the stream."""
        try:
            async with asyncio.timeout_at(self._silent_until()) as self._silence:
                response = await self._call.read()
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, self._request_id) from error
        except TimeoutError:
            message = f"no acknowledgement for {self._ack_timeout_s:.0f} s"
            raise DeadlineExceeded(message, request_id=self._request_id) from None
        finally:
            self._silence = None
        return response if isinstance(response, _Response) else None

    def _silent_until(self) -> float | None:
        if not self._pending:
            return None
        return asyncio.get_running_loop().time() + self._ack_timeout_s

    async def _send(self) -> None:
        try:
            if not await self._write(_Request(header=documents_pb2.UploadHeader(parent=self._collection))):
                return
            index = 0
            while True:
                await self._slots.acquire()
                if self._draining:
                    break
                item = await self._backlog.next()
                if item is None:
                    self._all_sent = True
                    break
                self._pending[index] = item
                index += 1
                if self._silence is not None and self._silence.when() is None:
                    self._silence.reschedule(self._silent_until())
                for message in _messages(item):
                    if not await self._write(message):
                        return
            await self._finish_writing()
        except Exception:
            # The root of the writing task. The caller's iterable failed: end the call, so that the reader wakes up and tells.
            self._call.cancel()
            raise

    async def _write(self, message: _Request) -> bool:
        """Whether the stream still takes messages; if not, the reader learns why."""
        try:
            await self._call.write(message)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return False
        return True

    async def _finish_writing(self) -> None:
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await self._call.done_writing()


async def _cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.wait([task])


def _messages(item: _Outgoing) -> Iterable[_Request]:
    document = item.document
    start = wire.document_start(document)
    start.start.request_id = item.request_id
    yield start
    for start in range(0, len(document.content), PIECE_BYTES):
        piece = document.content[start : start + PIECE_BYTES]
        yield _Request(content=documents_pb2.DocumentContent(data=piece))
    yield _Request(end=documents_pb2.DocumentEnd(sha256=hashlib.sha256(document.content).digest()))
