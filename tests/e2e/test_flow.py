"""The whole way with real models: ingest, search, ask; and what is left when processes are killed under it."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gannet_client import (
    AnswerOptions,
    Cited,
    Completed,
    Delta,
    DocumentIndexed,
    DocumentInput,
    FinishReason,
    GannetClient,
    GannetError,
    Retrieved,
    RetryPolicy,
    ServingStatus,
    document_name,
)

GANNETS = """# Gannets

The northern gannet – Morus bassanus – is the largest seabird of the northern Atlantic. Gannets dive into the sea from a
height of thirty metres to catch fish.
"""
QUESTION = "From what height do gannets dive into the sea?"
SERVICES = ["edge", "embedder", "reranker", "generator", "gateway"]
BACK_TIMEOUT_S = 60
DOCUMENTS = 60
# The gateway undoes writes that lost their vector store every 15 s; until then it refuses those documents.
PATIENT = RetryPolicy(attempts_max=30)


@pytest.fixture
async def client(stack):
    """A client of the real stack."""
    async with GannetClient(stack.target, api_key=stack.api_key) as connected:
        yield connected


@pytest.fixture
async def birds(client):
    """A collection with a document; gone afterwards."""
    await client.create_collection("birds")
    document = DocumentInput(document_id="sea/gannets.md", content=GANNETS.encode(), mime_type="text/markdown")
    (ack,) = [ack async for ack in client.upload("birds", [document])]
    assert isinstance(ack, DocumentIndexed)
    yield "birds"
    await client.delete_collection("birds")


async def test_flow_ask_streams_an_answer_that_quotes_its_source(client, birds):
    """Deltas add up to the text, and each citation is in the document, byte for byte."""
    events = [event async for event in client.stream_answer(birds, QUESTION)]

    completed = events[-1]
    assert isinstance(completed, Completed)
    assert completed.finish_reason is FinishReason.STOP
    assert "".join(event.text for event in events if isinstance(event, Delta)) == completed.text
    assert "thirty metres" in " ".join(completed.text.split())
    (passages,) = [event.passages for event in events if isinstance(event, Retrieved)]
    citations = [event.citation for event in events if isinstance(event, Cited)]
    assert citations == list(completed.citations) != []
    for citation in citations:
        source = citation.sources[0]
        name = passages[source.passage_index].document
        quote = GANNETS.encode()[source.start_byte : source.end_byte]
        assert await client.read_text(name, source.start_byte, source.end_byte) == quote
        assert completed.text.encode()[citation.start_byte : citation.end_byte] == quote


async def test_flow_ask_unanswerable_has_no_answer(client, birds):
    """What the documents do not say is not invented."""
    answer = await client.answer(birds, "Who won the chess world championship in 1972?")

    assert (answer.text, answer.finish_reason) == ("", FinishReason.NO_ANSWER)


def gannet(stack, *arguments):
    """The command line against the real stack."""
    environment = {**os.environ, "GANNET_TARGET": stack.target, "GANNET_API_KEY": stack.api_key}
    command = [Path(sys.executable).with_name("gannet"), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


async def test_flow_command_line_asks_in_a_conversation_and_comes_back(stack, birds):
    """Footnotes quote the document; a follow-up finds what it is about; a resumable answer is shown again by its id."""
    first = await asyncio.to_thread(gannet, stack, "ask", QUESTION, "-c", birds, "--conversation", "new", "--resumable")
    assert (first.returncode, first.stderr.count("conversation: ")) == (0, 1)
    assert "thirty metres" in " ".join(first.stdout.split())
    assert "[1] Gannets (sea/gannets.md, bytes " in first.stdout
    conversation = re.search(r"conversation: ([0-9a-f]{32})", first.stderr)[1]
    again = await asyncio.to_thread(
        gannet, stack, "ask", "--resume", re.search(r"answer: ([0-9a-f]{32})", first.stderr)[1]
    )
    assert (again.returncode, again.stdout) == (0, first.stdout)
    follow_up = ("--json", "ask", "And why?", "-c", birds, "--conversation", conversation, "--generator", "extractive")
    second = await asyncio.to_thread(gannet, stack, *follow_up)
    (started,) = [line for line in map(json.loads, second.stdout.splitlines()) if line["event"] == "started"]
    assert started["data"]["rewritten_queries"] == ["height gannets dive And why?"]


async def test_flow_conversation_and_verification_through_the_sdk(client, birds):
    """Turns are kept; a text's sentences are told apart by what the document says; feedback is taken."""
    conversation = await client.conversations.create(birds, title="Birds")
    answer = await client.answer(birds, QUESTION, how=AnswerOptions(conversation=conversation.name))
    assert [turn.answer async for turn in client.conversations.turns(conversation.name)] == [answer.text]
    assert [one.name async for one in client.conversations.list(birds)] == [conversation.name]
    await client.conversations.delete(conversation.name)
    text = "Gannets dive into the sea from a height of thirty metres. The moon is made of green cheese."
    verified = await client.verify_answer(birds, text)
    assert [claim.supported for claim in verified.claims] == [True, False]
    source = verified.claims[0].sources[0]
    assert b"thirty metres" in GANNETS.encode()[source.start_byte : source.end_byte]
    given = await client.verify_answer(birds, text, passages=["Everyone knows that the moon is made of green cheese."])
    assert [claim.supported for claim in given.claims] == [False, True]
    await client.send_feedback(birds, helped=True, answer_id=answer.answer_id, comment="da")


async def test_flow_answer_asked_again_comes_from_the_cache(client, birds):
    """The same text and citations under another id; a new document makes it anew."""
    first, second = [[event async for event in client.stream_answer(birds, QUESTION)] for _ in range(2)]
    assert second[-1].cache_hits == ("answer",)
    assert (second[-1].text, second[-1].citations) == (first[-1].text, first[-1].citations)
    assert second[0].answer_id != first[0].answer_id
    document = DocumentInput(document_id="auk.md", content=b"Auks swim.")
    assert [ack async for ack in client.upload(birds, [document])]
    assert (await anext(client.stream_answer(birds, QUESTION))).generation == first[0].generation + 1


async def test_flow_health_names_every_dependency(client):
    """The gateway says of each dependency that it serves."""
    health = await client.health()

    assert health.status is ServingStatus.SERVING
    for name in ("embedder", "reranker", "generator", "vectors", "ledger"):
        assert health.parts[f"dependency:{name}"] is ServingStatus.SERVING


@pytest.mark.parametrize("service", SERVICES)
async def test_flow_service_killed_while_ingesting_loses_nothing(client, stack, service):
    """After kill -9 of any process the stack answers again and has every document that was acknowledged."""
    collection = f"killed-{service}"
    await client.create_collection(collection)
    contents = {
        f"d{index:02}": f"Fact {index}: the lighthouse number {index} is painted red." for index in range(DOCUMENTS)
    }
    documents = [DocumentInput(document_id=key, content=text.encode()) for key, text in contents.items()]
    acknowledged = []
    async for ack in client.upload(collection, documents, retry=PATIENT):
        acknowledged.append(ack)
        if len(acknowledged) == DOCUMENTS // 4:
            os.kill(stack.pids()[service], signal.SIGKILL)

    assert sorted(ack.document_id for ack in acknowledged) == sorted(contents)
    assert [ack for ack in acknowledged if not isinstance(ack, DocumentIndexed)] == []
    answer = await _answered(client, collection, "What colour is the lighthouse number 7?")
    assert "red" in answer
    for document_id, text in contents.items():
        assert await client.read_text(document_name(collection, document_id)) == text.encode()
    found = await client.search(collection, "lighthouse painted red")
    assert found.passages
    assert (await client.get_collection(collection)).document_count == DOCUMENTS
    await client.delete_collection(collection)


async def _answered(client: GannetClient, collection: str, question: str) -> str:
    """The answer, as soon as there is one."""
    async with asyncio.timeout(BACK_TIMEOUT_S):
        while True:
            try:
                answer = await client.answer(collection, question)
            except GannetError:
                continue
            if answer.finish_reason is not FinishReason.NO_ANSWER:
                return answer.text
