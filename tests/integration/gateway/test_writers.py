"""Answers by generators that write, through the whole stack: a tiny decoder, and a small server in the place of an upstream."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from fakes.decoder import manifest_of, write_folder
from fakes.openai_server import DONE, Cut, OpenAiServer, Reply, Stall, chunk, refusal, serving, usage
from integration.conftest import StartService
from integration.gateway.answer_checks import check_answer, check_stream
from integration.gateway.conftest import KEY, Stack
from integration.gateway.stack import COLLECTION, TIMEOUT_S, Client

from gannet.gateway.v1 import answer_pb2, answer_pb2_grpc
from gannet_service.errors import DependencyUnavailable, GannetError, from_rpc_error

SENTENCE = "The northern gannet dives from 30 metres and reaches 22 metres below the surface."
TEXT = f"# Gannets\n\n{SENTENCE} It nests on cliffs of the North Atlantic.\n"
QUESTION = "How deep does the northern gannet dive?"
WAIT_S = 30.0


class Upstream:
    """The fake upstream in a thread and loop of its own, so that it outlives a test's loop."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._serving = serving()
        self.server: OpenAiServer = self.run(self._serving.__aenter__())

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """What `work` gives, done in the server's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(WAIT_S)

    def close(self) -> None:
        """End server, loop and thread."""
        self.run(self._serving.__aexit__(None, None, None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(WAIT_S)
        self._loop.close()


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    """One for all tests; each says what it replies."""
    made = Upstream()
    yield made
    made.close()


@pytest.fixture(scope="module")
def writers(
    upstream: Upstream,
    start_service: StartService,
    start_gateway: Callable[..., Stack],
    models_dir: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Stack:
    """A gateway whose generator server has all three kinds; who answers by default is what it was without the others."""
    folder = tmp_path_factory.mktemp("writers")
    write_folder(folder / "tiny", positions=4096)
    (folder / "models.toml").write_text(manifest_of(folder / "tiny", tokens_max=4096))
    one = {"base_url": upstream.server.base_url, "model": "wader", "attempts_max": 1}
    generator = start_service(
        "gannet_generator",
        {
            "GANNET_GENERATOR_MODELS_DIR": models_dir,
            "GANNET_GENERATOR_MANIFEST": folder / "models.toml",
            "GANNET_GENERATOR_DECODER_MODEL": "tiny-writer",
            "GANNET_GENERATOR_DECODER_SLOTS": 2,
            "GANNET_GENERATOR_DECODER_THREADS": 1,
            "GANNET_GENERATOR_UPSTREAMS": json.dumps([one]),
        },
    )
    return start_gateway(generator_target=generator.address, generator_failures_max=1000)


@pytest.fixture
async def writing(writers: Stack, connect: Callable[[Stack, str], Client]) -> AsyncIterator[Client]:
    """A client with one document."""
    client = connect(writers, KEY)
    await client.create("docs")
    await client.upload([("gannet.md", TEXT)])
    yield client
    await client.delete_collection(COLLECTION)


def by(*generators: str, **options: Any) -> dict[str, Any]:
    """Generation options."""
    return {"generation": answer_pb2.GenerationOptions(generators=generators, **options)}


def warnings_of(events: list[answer_pb2.AnswerEvent]) -> list[str]:
    """What went less well."""
    return [event.warning.message for event in events if event.WhichOneof("event") == "warning"]


async def broken_off(client: Client, *generators: str) -> tuple[list[answer_pb2.AnswerEvent], GannetError]:
    """The events of an answer that does not end well, and its status."""
    stub: Any = answer_pb2_grpc.AnswerServiceStub(client.channel)
    request = answer_pb2.AnswerRequest(parent=COLLECTION, query=QUESTION, **by(*generators))
    events: list[answer_pb2.AnswerEvent] = []
    try:
        async for event in stub.StreamAnswer(request, metadata=client.metadata, timeout=TIMEOUT_S):
            events.append(event)  # noqa: PERF401 - they are wanted although the loop raises
    except grpc.aio.AioRpcError as error:
        return events, from_rpc_error(error)
    raise AssertionError("the answer ended well")


async def test_upstreams_answer_is_cited_sentence_by_sentence(writing: Client, upstream: Upstream):
    """Marks are taken out of the text, the sentence that the document says is cited with its bytes, the invented one is flagged."""
    words = [SENTENCE[:20], SENTENCE[20:], " [", "1] It", " also plays chess with 7 whales [1]."]
    upstream.server.replies = [Reply(steps=[*map(chunk, words), chunk(finish="stop"), usage(70, 20), DONE])]
    completed = await check_answer(await writing.answer(QUESTION, **by("upstream")), writing, quotes=False)
    assert completed.text == f"{SENTENCE} It also plays chess with 7 whales."
    said = completed.text.encode()
    (citation,) = completed.citations
    assert said[citation.start_byte : citation.end_byte].decode() == SENTENCE
    record = await writing.document("gannet.md", citation.sources[0].start_byte, citation.sources[0].end_byte)
    assert record.text.decode() == SENTENCE
    (flagged,) = completed.unsupported
    assert said[flagged.start_byte : flagged.end_byte] == b"It also plays chess with 7 whales."
    assert (completed.generator, completed.model) == ("upstream", "wader-7b")
    assert (completed.usage.prompt_tokens, completed.usage.completion_tokens) == (70, 20)


async def test_upstream_that_says_the_opposite_is_flagged(writing: Client, upstream: Upstream):
    """A "not" in the place of the source's words is no citation of them."""
    denied = SENTENCE.replace("dives", "never dives")
    upstream.server.replies = [Reply(steps=[chunk(f"{denied} [1]"), chunk(finish="stop"), DONE])]
    completed = await check_answer(await writing.answer(QUESTION, **by("upstream")), writing, quotes=False)
    assert (list(completed.citations), len(completed.unsupported)) == ([], 1)


async def test_decoders_answer_keeps_every_invariant(writing: Client):
    """Random weights write bytes that are seldom text: pieces of characters are held back, and each sentence is cited or flagged."""
    for seed in range(3):
        events = await writing.answer(QUESTION, **by("decoder", temperature=1.5, max_tokens=60, seed=seed))
        completed = await check_answer(events, writing, quotes=False)
        assert completed.generator == "decoder"
        assert 0 < completed.usage.completion_tokens <= 60
        assert completed.usage.prompt_tokens > len(TEXT)
        assert not warnings_of(events)


@pytest.mark.parametrize(
    "reply",
    [refusal(500, "broken"), refusal(429, "slow down"), Reply(steps=[Cut()]), Reply(steps=[chunk(""), DONE])],
    ids=["500", "429", "cut off", "nothing said"],
)
async def test_chain_falls_over_before_the_first_word(reply: Reply, writing: Client, upstream: Upstream):
    """The next generator answers whole, after one warning that names who was passed over."""
    upstream.server.replies = [reply]
    events = await writing.answer(QUESTION, **by("upstream", "extractive"))
    completed = await check_answer(events, writing)
    assert (completed.generator, completed.text) == ("extractive", SENTENCE)
    (warning,) = warnings_of(events)
    assert warning.startswith("generator/upstream was skipped: UPSTREAM_")


async def test_chain_ends_clearly_after_the_first_word(writing: Client, upstream: Upstream):
    """What was said stands, no other generator goes on, and the status says what broke."""
    upstream.server.replies = [Reply(steps=[chunk("The gannet dives deep"), Cut()])]
    events, error = await broken_off(writing, "upstream", "extractive")
    text, citations = check_stream(events)
    assert (text, citations) == (b"The gannet dives deep", [])
    assert (type(error), error.reason) == (DependencyUnavailable, "UPSTREAM_UNREACHABLE")
    assert not any(event.WhichOneof("event") == "completed" for event in events)


async def test_client_who_leaves_closes_the_upstreams_stream(writing: Client, upstream: Upstream):
    """Through both servers."""
    upstream.server.replies = [Reply(steps=[chunk("The gannet dives deep. It "), Stall()])]
    left = upstream.server.left
    stub: Any = answer_pb2_grpc.AnswerServiceStub(writing.channel)
    request = answer_pb2.AnswerRequest(parent=COLLECTION, query=QUESTION, **by("upstream"))
    stream = stub.StreamAnswer(request, metadata=writing.metadata, timeout=TIMEOUT_S)
    while (await stream.read()).WhichOneof("event") != "delta":
        pass
    stream.cancel()
    await asyncio.to_thread(upstream.run, upstream.server.until_left(left + 1))


async def test_generator_that_was_added_answers_nobody_who_did_not_name_it(writing: Client, upstream: Upstream):
    """The default stays the one that quotes."""
    asked = len(upstream.server.asked)
    completed = await check_answer(await writing.answer(QUESTION), writing)
    assert (completed.generator, len(upstream.server.asked)) == ("extractive", asked)
