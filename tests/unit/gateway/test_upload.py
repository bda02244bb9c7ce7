import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterable
from typing import Any, cast

import pytest
from unit.gateway.fakes import COLLECTION, job_record

from gannet_gateway.blobs.blobs import Blobs
from gannet_gateway.blobs.uploads import IncomingUpload, StoredUpload
from gannet_gateway.documents.ingest import Upload
from gannet_gateway.documents.upload import (
    Acceptance,
    Accepted,
    Ack,
    Draining,
    End,
    Message,
    Received,
    Start,
    UploadStream,
)
from gannet_gateway.ledger.job import Job
from gannet_gateway.names import OperationName
from gannet_gateway.parsing.parser import Held
from gannet_service.errors import AlreadyExists, InternalError, InvalidInput, NotReady, Overloaded


def start(document_id: str) -> Start:
    """Opens a document."""

    def make(content: Held | StoredUpload) -> Upload:
        name = COLLECTION.document(document_id)
        return Upload(name=name, content=content, mime_type="text/plain", title="", metadata={}, create_only=False)

    return Start(document_id=document_id, make=make)


def whole(*document_ids: str) -> list[Message]:
    """All messages of small documents."""
    return [message for each in document_ids for message in (start(each), each.encode(), End(sha256=b""))]


async def sent(messages: Iterable[Message]) -> AsyncIterator[Message]:
    """Messages as they arrive."""
    for message in messages:
        yield message


async def accept_at_once(upload: Upload, _request_id: str) -> OperationName:
    """Keeps nothing."""
    return OperationName("acme", upload.name.document)


async def end_at_once(operation: OperationName) -> Job:
    """The job has succeeded."""
    return job_record(operation=operation.operation, document=COLLECTION.document(operation.operation))


def receive() -> IncomingUpload:
    """None of these documents is large enough for a store."""
    return IncomingUpload(cast("Blobs", None), COLLECTION)


def stream(
    accept: Any = accept_at_once, ended: Any = end_at_once, *, accepted_only: bool = False, **options: Any
) -> Any:
    """A stream with small limits."""
    defaults = {"document_bytes_max": 10, "in_work_max": 2, "draining": asyncio.Event()}
    acceptance = Acceptance(receive=receive, accept=accept, ended=ended, accepted_only=accepted_only)
    return UploadStream(acceptance, **{**defaults, **options})


async def acks(messages: Iterable[Message], **options: Any) -> list[Ack]:
    """All acknowledgements, those of one document in order."""
    return sorted([ack async for ack in stream(**options).run(sent(messages))], key=lambda ack: ack.index)


def outcomes(found: list[Ack]) -> list[tuple[int, type]]:
    """What became of which document."""
    return [(ack.index, type(ack.outcome)) for ack in found]


async def test_upload_of_documents_acknowledges_each_thrice():
    """That it has arrived, that it is accepted, that it is indexed; index and id say which one."""
    found = await acks([start("a"), b"12", b"34", End(sha256=b""), *whole("b")])
    assert outcomes(found) == [(0, Received), (0, Accepted), (0, Job), (1, Received), (1, Accepted), (1, Job)]
    assert found[0].outcome == Received(size=4)
    assert [ack.document_id for ack in found] == ["a"] * 3 + ["b"] * 3


async def test_upload_without_documents_ends_quietly():
    """A header alone is a stream."""
    assert await acks([]) == []


async def test_upload_of_the_same_id_twice_refuses_the_second():
    """The first one stands."""
    found = await acks(whole("a", "a", "b"))
    assert outcomes(found) == [
        (0, Received),
        (0, Accepted),
        (0, Job),
        (1, AlreadyExists),
        (2, Received),
        (2, Accepted),
        (2, Job),
    ]
    assert (found[3].outcome.message, found[3].outcome.field) == (
        "document_id: 'a' was in this stream before",
        "document_id",
    )


@pytest.mark.parametrize("pieces", [[b"x" * 11], [b"x" * 10, b"y"], [b"x" * 10, b"y", b"z" * 10]])
async def test_upload_of_a_large_document_refuses_it_alone(pieces: list[bytes]):
    """At the limit it is taken; one byte more is refused, and the limit named, however many pieces it comes in."""
    whole_one = [start("a"), b"x" * 10, End(sha256=b"")]
    found = await acks([*whole_one, start("b"), *pieces, End(sha256=b""), *whole("c")])
    assert outcomes(found) == [
        (0, Received),
        (0, Accepted),
        (0, Job),
        (1, InvalidInput),
        (2, Received),
        (2, Accepted),
        (2, Job),
    ]
    assert found[3].outcome.message == "content: larger than document_bytes_max = 10 bytes"


async def test_upload_with_a_digest_checks_it():
    """The right one passes, another is refused before anything is stored."""
    right, wrong = hashlib.sha256(b"a").digest(), hashlib.sha256(b"b").digest()
    found = await acks([start("a"), b"a", End(sha256=right), start("b"), b"x", End(sha256=wrong)])
    assert outcomes(found) == [(0, Received), (0, Accepted), (0, Job), (1, InvalidInput)]
    assert found[3].outcome.field == "sha256"


async def test_upload_that_fails_is_acknowledged_and_the_stream_goes_on():
    """One document's error is its own."""

    async def fail_for_a(upload: Upload, request_id: str) -> OperationName:
        if upload.name.document == "a":
            raise Overloaded("full")
        return await accept_at_once(upload, request_id)

    found = await acks(whole("a", "b"), accept=fail_for_a)
    assert outcomes(found) == [(0, Received), (0, Overloaded), (1, Received), (1, Accepted), (1, Job)]


async def test_upload_that_meets_a_full_disk_is_acknowledged_without_its_text():
    """What nobody foresaw is one document's, too; the log has it, the caller is told nothing of the machine."""

    async def fail_for_a(upload: Upload, request_id: str) -> OperationName:
        if upload.name.document == "a":
            raise OSError(28, "No space left on device")
        return await accept_at_once(upload, request_id)

    found = await acks(whole("a", "b"), accept=fail_for_a)
    assert outcomes(found) == [(0, Received), (0, InternalError), (1, Received), (1, Accepted), (1, Job)]
    assert "space" not in found[1].outcome.message


@pytest.mark.parametrize(
    "messages, field",
    [
        ([b"x"], "content"),
        ([End(sha256=b"")], "end"),
        ([start("b"), start("c")], "start"),
        ([start("b"), b"x"], "end"),
    ],
)
async def test_upload_in_a_broken_order_finishes_what_was_whole_and_ends(messages: list[Message], field: str):
    """Documents before the mistake get their acknowledgements; then the stream ends with the mistake's name."""
    running = stream().run(sent([*whole("a"), *messages]))
    found = [await anext(running) for _ in range(3)]
    with pytest.raises(InvalidInput) as caught:
        await anext(running)
    assert outcomes(found) == [(0, Received), (0, Accepted), (0, Job)]
    assert caught.value.field == field


async def test_upload_while_draining_hands_documents_back():
    """What is in work is finished; what comes later is told to go elsewhere."""
    draining, entered, release = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def hold(operation: OperationName) -> Job:
        entered.set()
        await release.wait()
        return await end_at_once(operation)

    async def messages() -> AsyncIterator[Message]:
        for message in whole("a"):
            yield message
        await entered.wait()
        draining.set()
        release.set()
        for message in whole("b"):
            yield message

    found = [ack async for ack in stream(ended=hold, draining=draining).run(messages())]
    assert sorted(outcomes(found), key=lambda entry: entry[0]) == [
        (0, Received),
        (0, Accepted),
        (0, Job),
        (1, Draining),
    ]


async def test_upload_of_many_documents_works_on_few_at_once():
    """Reading stops until one of the documents in work is done."""
    in_work, most, read = 0, 0, 0
    full, release = asyncio.Event(), asyncio.Event()

    async def count(upload: Upload, request_id: str) -> OperationName:
        nonlocal in_work, most
        in_work += 1
        most = max(most, in_work)
        if in_work == 2:
            full.set()
        await release.wait()
        in_work -= 1
        return await accept_at_once(upload, request_id)

    async def messages() -> AsyncIterator[Message]:
        nonlocal read
        for message in whole(*map(str, range(50))):
            read += 1
            yield message

    running = asyncio.ensure_future(_all(stream(count, in_work_max=2).run(messages())))
    await full.wait()
    for _ in range(100):
        await asyncio.sleep(0)
    assert read <= 3 * 3  # two documents in work, the third waits for its place
    release.set()
    assert len(await running) == 150
    assert most == 2


async def test_upload_whose_acks_are_not_read_stops_reading():
    """A client that does not listen fills a bounded queue, not the memory; when it listens again, nothing is lost."""
    read = 0

    async def messages() -> AsyncIterator[Message]:
        nonlocal read
        for message in whole(*map(str, range(200))):
            read += 1
            yield message

    running = stream(in_work_max=2).run(messages())
    first = await anext(running)
    for _ in range(1000):
        await asyncio.sleep(0)
    stopped_at = read
    assert stopped_at < 3 * 30
    rest = await _all(running)
    assert len([first, *rest]) == 600


async def test_upload_closed_with_a_full_queue_ends():
    """A client that leaves without reading its acknowledgements does not hold the server's task."""
    running = stream(in_work_max=2).run(sent(whole(*map(str, range(200)))))
    await anext(running)
    for _ in range(1000):
        await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await running.aclose()


async def test_upload_closed_with_documents_in_work_stops_waiting_for_them():
    """Their jobs go on; nobody waits for a client that has left."""
    entered, cancelled = asyncio.Event(), asyncio.Event()

    async def hang(_operation: OperationName) -> Job:
        entered.set()
        try:
            return await asyncio.Future()
        finally:
            cancelled.set()

    running = stream(ended=hang).run(sent(whole("a")))
    await anext(running)
    await entered.wait()
    await running.aclose()
    assert cancelled.is_set()


async def test_upload_that_wants_no_more_ends_with_accepted():
    """Nobody waits for the jobs."""

    async def never(_operation: OperationName) -> Job:
        raise AssertionError

    found = await acks(whole("a"), ended=never, accepted_only=True)
    assert [ack.outcome for ack in found] == [Received(size=1), Accepted(operation=OperationName("acme", "a"))]


async def test_upload_of_a_job_that_failed_says_why():
    """The last word is the job's error."""

    async def fail(_operation: OperationName) -> InvalidInput:
        return InvalidInput("content: bad")

    assert outcomes(await acks(whole("a"), ended=fail)) == [(0, Received), (0, Accepted), (0, InvalidInput)]


async def test_upload_of_a_job_left_to_another_gateway_says_draining():
    """It is accepted, and this gateway will not see its end."""

    async def leave(_operation: OperationName) -> Job:
        raise NotReady("going away", reason="DRAINING")

    assert outcomes(await acks(whole("a"), ended=leave)) == [(0, Received), (0, Accepted), (0, Draining)]


async def _all(running: AsyncIterator[Ack]) -> list[Ack]:
    return [ack async for ack in running]
