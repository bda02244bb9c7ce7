"""Searches and answers over real documents, models and stores."""

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from integration.gateway.answer_checks import check_answer
from integration.gateway.conftest import KEY, OTHER_KEY, Stack
from integration.gateway.stack import COLLECTION, TEXTS, Client, log_line

from gannet.gateway.v1 import answer_pb2, answer_pb2_grpc, search_pb2

QUESTION = "When is the yield expression used?"


@pytest.mark.parametrize("mode", [0, 1, 2, 3])
async def test_passages_found_are_the_bytes_of_their_documents(mode: int, client: Client):
    """In every mode: text, offsets, revision and order agree with the stored documents."""
    found = await client.search("generator yield expression statement Zagreb", mode=mode, top_k=20)
    assert found.passages
    for passage in found.passages:
        record = await client.document(passage.document, 0)
        assert record.text[passage.start_byte : passage.end_byte].decode() == passage.text
        assert record.revision == passage.revision
        assert passage.name.startswith(f"{passage.document}/chunks/")
    finals = [passage.scores.final for passage in found.passages]
    assert finals == sorted(finals, reverse=True)
    assert len({passage.name for passage in found.passages}) == len(found.passages)
    assert found.generation == (await client.collection()).generation
    assert not found.degraded


@pytest.mark.parametrize(
    "query, document", [("How do I define a generator?", "yield.md"), ("context manager exit", "with.md")]
)
async def test_search_of_a_subject_finds_its_document_first(query: str, document: str, client: Client):
    """With reranking, and without."""
    for enabled in (True, False):
        found = await client.search(query, rerank={"enabled": enabled})
        assert found.passages[0].document.endswith(f"/documents/{document}")
        assert found.passages[0].scores.HasField("rerank") is enabled
        assert (found.timings.rerank_us > 0) is enabled


async def test_search_repeated_is_equal(client: Client):
    """The same question gets the same passages in the same order."""
    first, second = [await client.search("generator function exception", top_k=5) for _ in range(2)]
    assert list(first.passages) == list(second.passages)


async def test_search_for_fewer_returns_fewer(client: Client):
    """`top_k` is a bound; the first stays the first."""
    many, one = [await client.search("generator", top_k=top_k, rerank={"enabled": False}) for top_k in (10, 1)]
    assert len(one.passages) == 1
    assert one.passages[0].name == many.passages[0].name


async def test_answer_on_real_documents_quotes_its_sources(client: Client):
    """Streamed, cited, complete; every citation is the source's own bytes as GetDocument returns them."""
    completed = await check_answer(await client.answer(QUESTION), client)
    assert completed.finish_reason in (answer_pb2.FINISH_REASON_STOP, answer_pb2.FINISH_REASON_LENGTH)
    assert "yield expression is used when defining a generator function" in completed.text
    assert completed.citations
    assert completed.timings.total_us >= completed.timings.first_delta_us > 0
    assert completed.usage.passages > 0


async def test_answers_while_their_document_is_replaced_quote_the_revision_that_they_read(client: Client):
    """Each answer is made from one generation: every cited byte is that revision's, whatever is published meanwhile."""
    await client.create("moving")
    parent = "tenants/-/collections/moving"
    texts = [f"# Depths\n\nThe gannet dives {20 + each} metres deep. It nests on cliff {each}." for each in range(1, 9)]
    await client.upload([("depth.md", texts[0])], parent)
    seen: set[int] = set()

    async def replace_it() -> None:
        for text in texts[1:]:
            await client.upload([("depth.md", text)], parent)

    replacing = asyncio.create_task(replace_it())
    last = False
    while not last:
        last = replacing.done()  # one more answer, from the last revision
        events = await client.answer("How deep does the gannet dive?", parent)
        passages, completed = events[1].retrieved.passages, events[-1].completed
        (revision,) = {passage.revision for passage in passages}
        seen.add(revision)
        assert completed.citations
        for citation in completed.citations:
            quoted = completed.text.encode()[citation.start_byte : citation.end_byte]
            for source in citation.sources:
                assert texts[revision - 1].encode()[source.start_byte : source.end_byte] == quoted
    await replacing
    assert max(seen) == len(texts)
    await client.delete_collection(parent)


async def test_answer_to_what_no_document_says_is_no_answer(client: Client):
    """An explicit finish reason and no text, not an invention."""
    completed = await check_answer(await client.answer("Who won the football world cup in 1998?"), client)
    assert (completed.finish_reason, completed.text) == (answer_pb2.FINISH_REASON_NO_ANSWER, "")


async def test_answer_from_an_empty_collection_is_no_answer(client: Client):
    """Nothing was found, and that is said."""
    await client.create("empty")
    events = await client.answer(QUESTION, "tenants/-/collections/empty")
    assert [event.WhichOneof("event") for event in events] == ["started", "retrieved", "completed"]
    assert events[-1].completed.finish_reason == answer_pb2.FINISH_REASON_NO_ANSWER
    await client.delete_collection("tenants/-/collections/empty")


async def test_answer_in_one_message_equals_the_stream(client: Client):
    """Text, citations and passages."""
    whole = await client.whole_answer(QUESTION)
    events = await client.answer(QUESTION)
    completed = events[-1].completed
    assert (whole.completed.text, list(whole.completed.citations)) == (completed.text, list(completed.citations))
    assert list(whole.passages) == list(events[1].retrieved.passages)
    assert whole.answer_id


async def test_answer_bounded_to_one_sentence_says_so(client: Client):
    """`sentences_max` ends the answer with LENGTH or at its own end."""
    completed = await check_answer(await client.answer(QUESTION, sentences_max=1), client)
    assert len(completed.citations) == 1


async def test_answer_cancelled_after_its_first_event_is_logged_as_cancelled(stack: Stack, client: Client):
    """The handler ends with the call; the server goes on."""
    stub = answer_pb2_grpc.AnswerServiceStub(client.channel)
    metadata = (*client.metadata, ("x-request-id", "leaving"))
    stream = stub.StreamAnswer(answer_pb2.AnswerRequest(parent=COLLECTION, query=QUESTION), metadata=metadata)
    await stream.read()
    stream.cancel()
    line = await asyncio.to_thread(log_line, stack.gateway, request_id="leaving", event="rpc")
    assert line["code"] in ("CANCELLED", "OK")
    assert await client.search("generator")


async def test_answer_past_its_deadline_ends_in_its_status(client: Client):
    """No Completed, and not an INTERNAL."""
    stub = answer_pb2_grpc.AnswerServiceStub(client.channel)
    request = answer_pb2.AnswerRequest(parent=COLLECTION, query="A question that no cache has an answer to?")
    stream = stub.StreamAnswer(request, metadata=client.metadata, timeout=0.003)
    seen: list[answer_pb2.AnswerEvent] = []
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await _read_all(stream, seen)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert "completed" not in [event.WhichOneof("event") for event in seen]


async def _read_all(stream: Any, seen: list[answer_pb2.AnswerEvent]) -> None:
    async for event in stream:
        seen.append(event)  # noqa: PERF401 - they are wanted although the loop raises


async def test_tenants_do_not_see_each_other(client: Client, other: Client):
    """The same names and words in two tenants: each finds its own, and neither moves the other's scores."""
    await other.create("docs")
    (ack,) = await other.upload([("yield.md", "Generators of the other tenant yield electricity.")])
    assert ack.name.startswith("tenants/second/")
    before = await client.search("generator yield", mode=search_pb2.SEARCH_MODE_SPARSE, rerank={"enabled": False})
    await other.upload([(f"more{place}.txt", f"Generator number {place} can yield power.") for place in range(30)])
    after = await client.search("generator yield", mode=search_pb2.SEARCH_MODE_SPARSE, rerank={"enabled": False})
    assert list(after.passages) == list(before.passages)
    for tenant, own in ((client, "tenants/first/"), (other, "tenants/second/")):
        for mode in (1, 2, 3):
            found = await tenant.search("generator yield electricity", mode=mode, top_k=50)
            assert found.passages
            assert all(passage.document.startswith(own) for passage in found.passages)
        listed = await tenant.documents()
        assert all(document.name.startswith(own) for document in listed.documents)
    assert (await client.collection()).document_count == len(TEXTS)
    await other.delete_collection(COLLECTION)
    assert (await client.search("generator")).passages


async def test_same_request_and_trace_id_is_in_every_log(stack: Stack, connect: Callable[[Stack, str], Client]):
    """One call, two processes, the same ids in their lines."""
    ids = (("x-request-id", "req-of-two"), ("traceparent", f"00-{'ab' * 16}-{'cd' * 8}-01"))
    client = connect(stack, KEY)
    await client.search("a generator that no cache holds", extra=ids)
    for service, method in ((stack.gateway, "Search"), (stack.embedder, "Embed")):
        line = await asyncio.to_thread(log_line, service, request_id="req-of-two", event="rpc")
        assert line["method"].endswith(f"/{method}")
        assert (line["trace_id"], line["code"]) == ("ab" * 16, "OK")
    assert OTHER_KEY not in "".join(stack.gateway.lines)
    assert KEY not in "".join(stack.gateway.lines)
