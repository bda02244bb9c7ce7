"""The SDK against the fake gateway, over a socket."""

import grpc
import pytest
from fakes.gateway import API_KEY, Refused, drain

from gannet_client import (
    AnswerOptions,
    Cited,
    Completed,
    Conflict,
    Delta,
    DocumentInput,
    FinishReason,
    GannetClient,
    GannetError,
    Heartbeat,
    InvalidInput,
    NotFound,
    Overloaded,
    Retrieved,
    RetryPolicy,
    SearchMode,
    SearchOptions,
    ServerError,
    ServingStatus,
    Started,
    Unauthenticated,
    Unavailable,
    document_name,
)

TEXT = "# Geese\n\nGannets dive from thirty metres. They eat fish.\n\nPuffins dig burrows."


@pytest.fixture
async def filled(client: GannetClient) -> GannetClient:
    """A client whose gateway has one document."""
    await client.create_collection("docs")
    document = DocumentInput(document_id="birds/a.md", content=TEXT.encode(), metadata={"year": 2026, "tags": ["a"]})
    assert [ack.document_id async for ack in client.upload("docs", [document])] == ["birds/a.md"]
    return client


async def test_search_finds_passages_with_offsets_and_metadata(filled):
    """A passage is typed and equals the document's bytes that it names."""
    result = await filled.search("docs", "gannets", SearchOptions(top_k=1, mode=SearchMode.SPARSE))

    (passage,) = result.passages
    assert passage.document_id == "birds/a.md"
    assert passage.metadata == {"year": 2026.0, "tags": ["a"]}
    assert passage.scores.dense is None
    assert await filled.read_text(passage.document, passage.start_byte, passage.end_byte) == passage.text.encode()


async def test_search_unknown_collection_raises_not_found_with_request_id(client, state):
    """An error carries the server's reason and the id of its call."""
    with pytest.raises(NotFound, match="no collection 'none'") as caught:
        await client.search("none", "gannets")

    assert caught.value.reason == "FAKE_NOT_FOUND"
    assert caught.value.request_id == state.calls[-1][1]["x-request-id"]


async def test_search_empty_query_names_the_field(filled):
    """A field violation survives the wire."""
    with pytest.raises(InvalidInput) as caught:
        await filled.search("docs", " ")

    assert [violation.field for violation in caught.value.violations] == ["query"]


async def test_call_without_key_raises_unauthenticated(target):
    """A client without a key is told so."""
    async with GannetClient(target) as client:
        with pytest.raises(Unauthenticated):
            await client.get_collection("docs")


async def test_unary_unavailable_is_repeated_under_one_request_id(filled, state):
    """UNAVAILABLE and a dead server's CANCELLED are tried again, and count as one request."""
    state.calls.clear()
    state.faults["Search"] += [Refused(grpc.StatusCode.UNAVAILABLE, "x"), Refused(grpc.StatusCode.CANCELLED, "x")]

    assert (await filled.search("docs", "gannets")).passages
    assert len(state.calls) == 3
    assert len({metadata["x-request-id"] for _, metadata in state.calls}) == 1


async def test_unary_unavailable_for_ever_raises_after_the_last_attempt(filled, state):
    """Attempts are bounded."""
    state.faults["Search"] += [Refused(grpc.StatusCode.UNAVAILABLE, "down")] * 9

    with pytest.raises(Unavailable, match="down"):
        await filled.search("docs", "gannets")
    assert len(state.faults["Search"]) == 5


async def test_unary_retry_info_beyond_the_deadline_raises_at_once(filled, state):
    """A pause that the server asks for is honoured, and not begun if the call could not be made after it."""
    state.faults["Search"] += [Refused(grpc.StatusCode.UNAVAILABLE, "later", retry_after_s=0.9)] * 2

    with pytest.raises(Unavailable) as caught:
        await filled.search("docs", "gannets", timeout_s=0.5)
    assert caught.value.retry_after_s == pytest.approx(0.9)
    assert len(state.faults["Search"]) == 1


@pytest.mark.parametrize(
    "code", [grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.INTERNAL, grpc.StatusCode.RESOURCE_EXHAUSTED]
)
async def test_unary_other_errors_are_not_repeated(filled, state, code):
    """What would fail again, and what is overloaded without saying until when, is tried once."""
    state.faults["Search"] += [Refused(code, "no")] * 2

    with pytest.raises(GannetError):
        await filled.search("docs", "gannets")
    assert len(state.faults["Search"]) == 1


def test_retry_policy_pause_grows_and_is_bounded():
    """Pauses double up to the limit, shortened by at most half; RetryInfo is a lower bound."""
    policy = RetryPolicy(attempts_max=6, pause_initial_s=1.0, pause_max_s=4.0)
    error = Unavailable("x")

    for attempt, longest in enumerate([1.0, 2.0, 4.0, 4.0, 4.0], start=1):
        pause_s = policy.pause_s(attempt, error)
        assert pause_s is not None
        assert longest / 2 <= pause_s <= longest
    assert policy.pause_s(6, error) is None
    assert policy.pause_s(1, Overloaded("x", retry_after_s=7.0)) == 7.0


async def test_connection_refused_raises_unavailable():
    """A server that is not there is Unavailable."""
    async with GannetClient("127.0.0.1:1", api_key=API_KEY, retry=RetryPolicy(attempts_max=1)) as client:
        with pytest.raises(Unavailable):
            await client.get_collection("docs")


async def test_stream_answer_events_are_typed_and_consistent(filled):
    """Events arrive in order; deltas add up to the text; a citation quotes the document."""
    events = [event async for event in filled.stream_answer("docs", "gannets dive")]

    assert [type(event) for event in events] == [Started, Retrieved, Heartbeat, Delta, Cited, Completed]
    assert [event.seq for event in events] == list(range(6))
    retrieved, delta, cited, completed = events[1], events[3], events[4], events[5]
    assert delta.text == completed.text == "Gannets dive from thirty metres."
    assert completed.finish_reason is FinishReason.STOP
    (source,) = cited.citation.sources
    document = retrieved.passages[source.passage_index].document
    assert await filled.read_text(document, source.start_byte, source.end_byte) == delta.text.encode()


async def test_stream_answer_unavailable_before_first_event_is_repeated(filled, state):
    """Nothing has been seen yet, so the call may be made again."""
    state.faults["StreamAnswer"].append(Refused(grpc.StatusCode.UNAVAILABLE, "x"))

    assert [event async for event in filled.stream_answer("docs", "gannets")][-1].text


async def test_stream_answer_unavailable_after_first_event_raises(filled, state):
    """What has been seen is never sent twice."""
    state.answer_fault_after_delta = Refused(grpc.StatusCode.UNAVAILABLE, "died")
    seen = []

    with pytest.raises(Unavailable):
        await drain(filled.stream_answer("docs", "gannets"), seen)
    assert [type(event) for event in seen] == [Started, Retrieved, Heartbeat, Delta]


async def test_stream_answer_that_breaks_is_gone_on_with_if_it_is_resumable(filled, state):
    """The same events, each once, however often the connection breaks."""
    whole = []
    await drain(filled.stream_answer("docs", "gannets puffins", how=AnswerOptions(resumable=True)), whole)
    broken = Refused(grpc.StatusCode.UNAVAILABLE, "connection reset")
    broken.status.ClearField("details")  # no server said so
    state.answer_fault_after_delta = state.resumed_fault_after_delta = broken
    seen = []
    await drain(filled.stream_answer("docs", "gannets puffins", how=AnswerOptions(resumable=True)), seen)
    assert seen == whole
    assert [event.seq for event in seen] == list(range(len(whole)))
    assert [method for method, _ in state.calls].count("StreamAnswer") == 2


async def test_resumed_answer_that_the_server_refuses_is_not_asked_again(filled, state):
    """A server that says why is believed."""
    with pytest.raises(NotFound):
        await drain(filled.resume_answer("a2"), [])
    assert [method for method, _ in state.calls].count("ResumeAnswer") == 1


async def test_stream_answer_without_its_last_event_raises(filled, state):
    """A stream that just ends is not taken for a whole answer."""
    state.truncated_answers = True
    with pytest.raises(ServerError, match="without the answer's last event"):
        await drain(filled.stream_answer("docs", "gannets"), [])


async def test_answer_no_common_word_has_no_answer(filled):
    """No answer is a result, not an error."""
    answer = await filled.answer("docs", "quantum")

    assert (answer.text, answer.finish_reason) == ("", FinishReason.NO_ANSWER)


async def test_read_text_larger_than_a_reply_is_complete(client):
    """Ranges beyond the server's limit are read in several calls."""
    await client.create_collection("docs")
    content = b"0123456789abcde\n" * (3 << 16)
    _ = [ack async for ack in client.upload("docs", [DocumentInput(document_id="big", content=content)])]
    name = document_name("docs", "big")

    assert await client.read_text(name) == content
    assert await client.read_text(name, 5, 9) == content[5:9]
    assert await client.read_text(name, 1, (2 << 20) + 3) == content[1 : (2 << 20) + 3]


async def test_documents_list_get_delete_across_pages(client):
    """Lists go on over pages; an etag guards a delete."""
    await client.create_collection("docs")
    inputs = [DocumentInput(document_id=f"d{index}", content=b"text") for index in range(5)]
    _ = [ack async for ack in client.upload("docs", inputs)]

    assert [document.document_id async for document in client.list_documents("docs")] == ["d0", "d1", "d2", "d3", "d4"]
    record = await client.get_document(document_name("docs", "d3"))
    with pytest.raises(Conflict):
        await client.delete_document(record.name, etag="other")
    await client.delete_document(record.name, etag=record.etag)
    with pytest.raises(NotFound):
        await client.get_document(record.name)


async def test_collections_create_list_delete(client):
    """Collections are listed over pages with their counts."""
    for name in ("a", "b", "c"):
        await client.create_collection(name, chunk_size=500, language="en", rerank=True)
    await client.delete_collection("b")

    listed = [collection async for collection in client.list_collections()]
    assert [(item.collection_id, item.chunk_size, item.document_count) for item in listed] == [
        ("a", 500, 0),
        ("c", 500, 0),
    ]


@pytest.mark.parametrize("lists_health", [True, False])
async def test_health_names_each_dependency(client, state, lists_health):
    """Health is listed at once, or asked one by one where the server cannot list it."""
    state.lists_health = lists_health
    state.health["dependency:vectors"] = 2

    health = await client.health()
    assert health.status is ServingStatus.SERVING
    assert health.parts == {
        "dependency:embedder": ServingStatus.SERVING,
        "dependency:vectors": ServingStatus.NOT_SERVING,
    }
