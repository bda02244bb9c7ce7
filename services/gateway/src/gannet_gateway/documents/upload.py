"""The upload stream: messages to documents, documents to acknowledgements. Knows nothing of protobuf."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import structlog

from gannet_gateway.blobs.uploads import IncomingUpload, StoredUpload
from gannet_gateway.documents.ingest import Upload
from gannet_gateway.ledger.job import Job
from gannet_gateway.names import OperationName
from gannet_gateway.parsing.parser import Held
from gannet_service.errors import AlreadyExists, GannetError, InternalError, InvalidInput

DOCUMENTS_MAX = 1_000_000
# Documents that wait for their jobs, for each that is being accepted: they hold no bytes.
WAITING_FACTOR = 16
# A client hears of a long job now and then, so that it can tell it from a dead server.
SAID_AGAIN_S = 20.0

_log: structlog.stdlib.BoundLogger = structlog.get_logger("upload")


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Opens a document. `make` builds the upload from its content, or raises for a bad field."""

    document_id: str
    make: Callable[[Held | StoredUpload], Upload]
    request_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """Closes the open document; `sha256` is empty or the digest of its content."""

    sha256: bytes


Message = Start | bytes | End


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """All bytes of a document have arrived."""

    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A document is durable, and a job."""

    operation: OperationName


@dataclass(frozen=True, slots=True, kw_only=True)
class Draining:
    """The server is going away: it did not take the document, or leaves it to another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ack:
    """What became of one document."""

    index: int
    document_id: str
    outcome: Received | Accepted | Job | Draining | GannetError


@dataclass(slots=True, kw_only=True)
class _Open:
    """The document that bytes are arriving for."""

    index: int
    start: Start
    content: IncomingUpload
    failure: GannetError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """How documents become jobs.

    Attributes:
        receive: takes the bytes of a document as they arrive.
        accept: makes an upload durable, with its request id, and returns its operation.
        ended: waits for the one job of an operation; an error where it failed.
        accepted_only: nobody waits for the jobs.
    """

    receive: Callable[[], IncomingUpload]
    accept: Callable[[Upload, str], Awaitable[OperationName]]
    ended: Callable[[OperationName], Awaitable[Job | GannetError]]
    accepted_only: bool = False


class UploadStream:
    """Runs one stream. `draining` tells that the server is going away."""

    def __init__(
        self, acceptance: Acceptance, *, document_bytes_max: int, in_work_max: int, draining: asyncio.Event
    ) -> None:
        self._acceptance = acceptance
        self._document_bytes_max = document_bytes_max
        # Documents whose bytes are being stored, and documents without their last word.
        self._slots = asyncio.Semaphore(in_work_max)
        self._unanswered = asyncio.Semaphore(WAITING_FACTOR * in_work_max)
        # Bounded, so that a client that does not read its acknowledgements stops the stream and not the server.
        self._acks: asyncio.Queue[Ack | None] = asyncio.Queue(4 * in_work_max)
        self._draining = draining
        self._seen: set[str] = set()
        self._opened = 0

    async def run(self, messages: AsyncIterator[Message]) -> AsyncIterator[Ack]:
        """Yield acknowledgements until every document has its final one.

        Raises:
            InvalidInput: messages in a broken order, or too many documents; documents before it have been acknowledged.
        """
        reading = asyncio.create_task(self._read(messages))
        try:
            while (ack := await self._acks.get()) is not None:
                yield ack
            await reading
        finally:
            reading.cancel()
            await asyncio.wait([reading])

    async def _read(self, messages: AsyncIterator[Message]) -> None:
        broken: GannetError | None = None
        try:
            async with asyncio.TaskGroup() as tasks:
                try:
                    await self._dispatch(messages, tasks)
                except GannetError as error:
                    broken = error  # documents in work are finished first
        finally:
            # A cancelled stream has no reader any more: nobody would ever make room for the last word.
            task = asyncio.current_task()
            if task is None or not task.cancelling():
                await self._acks.put(None)
        if broken is not None:
            raise broken

    async def _dispatch(self, messages: AsyncIterator[Message], tasks: asyncio.TaskGroup) -> None:
        document: _Open | None = None
        try:
            async for message in messages:
                match message:
                    case Start():
                        if document is not None:
                            raise InvalidInput("start: the document before it has no end", field="start")
                        document = self._open(message)
                    case End():
                        if document is None:
                            raise InvalidInput("end: no document is open", field="end")
                        # Reading goes on only when there is room for another document in work.
                        await self._unanswered.acquire()
                        await self._slots.acquire()
                        tasks.create_task(self._finish(document, message))
                        document = None
                    case data:
                        if document is None:
                            raise InvalidInput("content: no document is open", field="content")
                        await self._append(document, data)
            if document is not None:
                raise InvalidInput(f"end: missing for document {document.start.document_id!r}", field="end")
        finally:
            if document is not None:
                await asyncio.shield(document.content.discard())

    def _open(self, start: Start) -> _Open:
        document = _Open(index=self._opened, start=start, content=self._acceptance.receive())
        self._opened += 1
        if self._opened > DOCUMENTS_MAX:
            raise InvalidInput(f"start: more than {DOCUMENTS_MAX} documents in one stream", field="start")
        if start.document_id in self._seen:
            document.failure = AlreadyExists(
                f"document_id: {start.document_id[:100]!r} was in this stream before", field="document_id"
            )
        self._seen.add(start.document_id)
        return document

    async def _append(self, document: _Open, data: bytes) -> None:
        if document.failure is not None:
            return
        if document.content.size + len(data) > self._document_bytes_max:
            document.failure = InvalidInput(
                f"content: larger than document_bytes_max = {self._document_bytes_max} bytes", field="content"
            )
        else:
            try:
                await document.content.write(data)
            except Exception as error:  # noqa: BLE001 - a store that is down or full is this document's failure, not the stream's
                document.failure = _failure(error, document)
        if document.failure is not None:
            await document.content.discard()

    async def _finish(self, document: _Open, end: End) -> None:
        try:
            outcome: Accepted | Job | Draining | GannetError = Draining()
            try:
                outcome = await self._accepted(document, end)
            finally:
                if not isinstance(outcome, Accepted):
                    await asyncio.shield(document.content.discard())
                self._slots.release()
            if isinstance(outcome, Accepted) and not self._acceptance.accepted_only:
                outcome = await self._ended(document, outcome)
            await self._say(document, outcome)
        finally:
            self._unanswered.release()

    async def _say(self, document: _Open, outcome: Received | Accepted | Job | Draining | GannetError) -> None:
        await self._acks.put(Ack(index=document.index, document_id=document.start.document_id, outcome=outcome))

    async def _accepted(self, document: _Open, end: End) -> Accepted | Draining | GannetError:
        if document.failure is not None:
            return document.failure
        if self._draining.is_set():
            return Draining()
        if end.sha256 and document.content.sha256 != end.sha256:
            return InvalidInput("sha256: not the digest of the content that arrived", field="sha256")
        try:
            upload = document.start.make(await document.content.finish())
            await self._say(document, Received(size=document.content.size))
            return Accepted(operation=await self._acceptance.accept(upload, document.start.request_id))
        except Exception as error:  # noqa: BLE001 - the root of a document's task: a bug or a full disk must not end the others
            return _failure(error, document)

    async def _ended(self, document: _Open, accepted: Accepted) -> Job | Draining | GannetError:
        ended = asyncio.ensure_future(self._acceptance.ended(accepted.operation))
        try:
            while not ended.done():
                await self._say(document, accepted)
                await asyncio.wait([ended], timeout=SAID_AGAIN_S)
            return ended.result()
        except GannetError as error:
            return Draining() if error.reason == "DRAINING" else error
        finally:
            ended.cancel()


def _failure(error: Exception, document: _Open) -> GannetError:
    if isinstance(error, GannetError):
        return error
    _log.error("document failed", document_id=document.start.document_id, exc_info=error)
    return InternalError("internal error; the gateway's log has it")
