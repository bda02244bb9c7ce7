"""Uploads against the fake gateway: what happens to documents when servers fail under them."""

import asyncio

import grpc
import pytest
from fakes.gateway import Refused, drain
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gannet_client import (
    AlreadyExists,
    Conflict,
    DeadlineExceeded,
    DocumentFailed,
    DocumentIndexed,
    DocumentInput,
    InvalidInput,
    NotFound,
    RetryPolicy,
    Unavailable,
)
from gannet_client.upload import IN_FLIGHT_MAX, PIECE_BYTES


def inputs(count: int) -> list[DocumentInput]:
    """Small documents."""
    return [DocumentInput(document_id=f"d{index:03}", content=f"text {index}".encode()) for index in range(count)]


@pytest.fixture
async def docs(client):
    """A collection."""
    await client.create_collection("docs")


async def test_upload_more_than_fit_in_flight_indexes_each_once(client, state, docs):
    """The window moves on with the acknowledgements."""
    count = 3 * IN_FLIGHT_MAX
    acks = [ack async for ack in client.upload("docs", inputs(count))]

    assert [type(ack) for ack in acks] == [DocumentIndexed] * count
    assert len(state.collections["docs"].documents) == count


async def test_upload_large_document_arrives_whole(client, state, docs):
    """Content is cut into pieces and put together again."""
    content = b"0123456789abcdef" * (PIECE_BYTES // 8) + b"rest"
    acks = [ack async for ack in client.upload("docs", [DocumentInput(document_id="big", content=content)])]

    assert acks[0].revision == 1
    assert state.collections["docs"].contents["big"] == content


async def test_upload_again_answers_unchanged(client, docs):
    """The same content twice is one revision."""
    for unchanged in (False, True):
        acks = [ack async for ack in client.upload("docs", inputs(2))]
        assert [(ack.revision, ack.unchanged) for ack in acks] == [(1, unchanged)] * 2


async def test_upload_bad_document_fails_alone(client, docs):
    """One document's error does not stop the others."""
    documents = [
        *inputs(2),
        DocumentInput(document_id="empty", content=b" "),
        DocumentInput(document_id="d000", content=b"x"),
    ]
    acks = {(ack.document_id, type(ack)): ack async for ack in client.upload("docs", documents)}

    assert ("d001", DocumentIndexed) in acks
    assert isinstance(acks["empty", DocumentFailed].error, InvalidInput)
    assert acks["empty", DocumentFailed].acknowledged
    assert isinstance(acks["d000", DocumentFailed].error, AlreadyExists)


async def test_upload_server_dies_after_received_is_resumed(client, state, docs):
    """Documents without a final word are sent again until there is one."""
    state.drop_after_received = 3
    acks = [ack async for ack in client.upload("docs", inputs(50))]

    assert sorted(ack.document_id for ack in acks) == [f"d{index:03}" for index in range(50)]
    assert all(isinstance(ack, DocumentIndexed) for ack in acks)


async def test_upload_document_refused_for_now_is_sent_again(client, state, docs):
    """A document that the server could not take just then gets another chance; one that it never takes is reported."""
    state.document_faults["d001"] += [Refused(grpc.StatusCode.UNAVAILABLE, "embedder down")] * 2
    state.document_faults["d002"] += [Refused(grpc.StatusCode.UNAVAILABLE, "embedder down")] * 99
    acks = {ack.document_id: ack async for ack in client.upload("docs", inputs(4))}

    assert [type(acks[key]) for key in sorted(acks)] == [
        DocumentIndexed,
        DocumentIndexed,
        DocumentFailed,
        DocumentIndexed,
    ]
    assert acks["d002"].acknowledged
    assert len(state.document_faults["d002"]) == 95


async def test_upload_document_refused_many_times_keeps_its_place(client, state, docs):
    """However often a document is refused for now, and even if a server dies then, it gets a final word."""
    state.document_faults["d001"] += [Refused(grpc.StatusCode.UNAVAILABLE, "embedder down")] * 12
    state.document_faults["d001"].append(Refused(grpc.StatusCode.CANCELLED, "dies"))
    retry = RetryPolicy(attempts_max=20, pause_initial_s=0.001, pause_max_s=0.001)
    acks = [ack async for ack in client.upload("docs", inputs(3), retry=retry)]

    assert sorted((ack.document_id, type(ack)) for ack in acks) == [
        (f"d00{index}", DocumentIndexed) for index in range(3)
    ]


async def test_upload_document_that_kills_servers_is_given_up(client, state, docs):
    """A document that servers die of is reported after some of them, and the others are stored."""
    state.deadly.add("d001")
    retry = RetryPolicy(attempts_max=8, pause_initial_s=0.001, pause_max_s=0.001)
    acks = {ack.document_id: ack async for ack in client.upload("docs", inputs(40), retry=retry)}

    assert len(acks) == 40
    assert not acks["d001"].acknowledged
    assert all(isinstance(ack, DocumentIndexed) for key, ack in acks.items() if key != "d001")


async def test_upload_conflict_with_the_own_earlier_attempt_is_sent_again(client, state, docs):
    """A conflict is final for a document that is sent for the first time, and passes for one whose first attempt still lingers."""
    conflict = Refused(grpc.StatusCode.ABORTED, "being written by another call")
    state.document_faults["d000"].append(conflict)
    state.document_faults["d001"] += [Refused(grpc.StatusCode.UNAVAILABLE, "edge down"), conflict]
    acks = {ack.document_id: ack async for ack in client.upload("docs", inputs(2))}

    assert isinstance(acks["d000"].error, Conflict)
    assert isinstance(acks["d001"], DocumentIndexed)


async def test_upload_draining_server_is_resumed(client, state, docs):
    """A draining server's documents go to the next stream."""
    state.drain_after_indexed = 2
    acks = [ack async for ack in client.upload("docs", inputs(10))]

    assert sorted(ack.document_id for ack in acks) == [f"d{index:03}" for index in range(10)]


async def test_upload_server_stays_down_reports_what_is_unacknowledged(client, state, docs):
    """After the last attempt every document that was begun is named, and the error raised."""
    state.drop_after_received = 100
    acks = []

    with pytest.raises(Unavailable):
        await drain(client.upload("docs", inputs(3)), acks)
    assert {(ack.document_id, ack.acknowledged) for ack in acks} == {
        (f"d{index:03}", False) for index in range(len(acks))
    }
    assert acks


async def test_upload_unknown_collection_raises_not_found(client):
    """An error that concerns the whole upload ends it."""
    with pytest.raises(NotFound):
        await drain(client.upload("none", inputs(1)), [])


async def test_upload_silent_server_raises_deadline_exceeded(client, state, docs):
    """A server that takes documents and says nothing is not waited for without end."""
    state.silent_uploads = True

    with pytest.raises(DeadlineExceeded):
        await drain(client.upload("docs", inputs(1), ack_timeout_s=0.05), [])


async def test_upload_slow_source_survives_a_broken_stream(client, state, docs):
    """A stream that breaks while the caller's next document is awaited does not end the caller's generator."""
    state.drop_after_received = 1
    broken = asyncio.Event()

    async def source():
        yield inputs(2)[0]
        await broken.wait()
        yield inputs(2)[1]

    acks = []
    async for ack in client.upload("docs", source()):
        acks.append(ack.document_id)
        broken.set()
    assert acks == ["d000", "d001"]


async def test_upload_server_ends_early_is_resumed(client, state, docs):
    """A stream that the server ends while there is more to come is not the end of the upload."""
    state.end_after_indexed = 1
    uploads = []
    opened_again = asyncio.Event()

    def on_call(method: str) -> None:
        uploads.append(method)
        if uploads.count("UploadDocuments") == 2:
            opened_again.set()

    async def source():
        yield inputs(2)[0]
        await opened_again.wait()
        yield inputs(2)[1]

    state.on_call = on_call
    assert [ack.document_id async for ack in client.upload("docs", source())] == ["d000", "d001"]


async def test_upload_source_fails_raises_its_error(client, docs):
    """The caller's own error comes back to the caller."""

    def source():
        yield inputs(1)[0]
        raise RuntimeError("no such folder")

    with pytest.raises(RuntimeError, match="no such folder"):
        await drain(client.upload("docs", source()), [])


async def test_upload_consumer_leaves_early_closes_the_call(client, state, docs):
    """Closing the iterator ends the upload; the client goes on working."""
    acks = client.upload("docs", inputs(5))
    assert (await anext(acks)).document_id == "d000"
    await acks.aclose()

    assert (await client.get_collection("docs")).document_count >= 1


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(count=st.integers(0, 80), faults=st.lists(st.sampled_from(["open", "received", "drain"]), max_size=3))
async def test_upload_any_faults_acknowledge_each_document_once(client, state, count, faults):
    """Whatever few faults occur, every document gets exactly one final word and is stored."""
    state.collections.clear()
    await client.create_collection("docs")
    state.faults["UploadDocuments"].clear()
    state.faults["UploadDocuments"] += [Refused(grpc.StatusCode.UNAVAILABLE, "x")] * faults.count("open")
    state.drop_after_received, state.drain_after_indexed = faults.count("received"), faults.count("drain")

    acks = [ack async for ack in client.upload("docs", inputs(count))]
    assert sorted(ack.document_id for ack in acks) == [item.document_id for item in inputs(count)]
    assert sorted(state.collections["docs"].documents) == [item.document_id for item in inputs(count)]


async def test_upload_over_a_broken_stream_keeps_the_request_ids(client, state, docs):
    """The server knows by them what it has accepted; no two documents share one."""
    state.drop_after_received = 1
    acks = [ack async for ack in client.upload("docs", inputs(3))]

    assert [type(ack) for ack in acks] == [DocumentIndexed] * 3
    sent = [set(ids) for ids in state.request_ids.values()]
    assert [len(ids) for ids in sent] == [1] * 3
    assert len(set.union(*sent)) == 3
    assert len(state.request_ids["d000"]) == 2


async def test_upload_that_finds_the_queue_full_waits_and_is_sent_again(client, state, docs):
    """As often as the policy allows, under a request id of its own each time."""
    state.backoffs["d001"] = 2
    acks = [ack async for ack in client.upload("docs", inputs(3))]

    assert sorted(ack.document_id for ack in acks if isinstance(ack, DocumentIndexed)) == ["d000", "d001", "d002"]
    assert len(set(state.request_ids["d001"])) == 3
