"""Whole answers from the cache, and texts that are verified, through the real servicer."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.gateway.answering import (
    RECORD,
    SOURCE,
    SUPPORTED,
    UNSUPPORTED,
    Behaviour,
    FakeGenerator,
    Search,
    answerer,
    done,
    question,
)

from gannet.gateway.v1 import answer_pb2
from gannet_gateway.answers import wire
from gannet_gateway.answers.cached import AnswerCache
from gannet_gateway.answers.prompt import Template
from gannet_gateway.answers.question import Question
from gannet_gateway.answers.sentences import split_sentences
from gannet_gateway.answers.verification import Verifier
from gannet_gateway.cache.local import LocalTier
from gannet_gateway.cache.tiers import TieredCache
from gannet_gateway.clients import Cited, Said, Sampling, Verdict
from gannet_gateway.config import GatewayConfig
from gannet_gateway.names import CollectionName, ConversationName
from gannet_gateway.search.query import Degradation
from gannet_service import call
from gannet_service.call import Call, Principal
from gannet_service.errors import DependencyUnavailable, GannetError, InvalidInput

PIECES = (Said(text="čaj"), Cited(start_byte=0, end_byte=4, sources=((0, 6, 8),), score=2.5), done())


class Reranker:
    """A reranker whose model a test changes."""

    digest = "r1"

    async def model_digest(self) -> str:
        """The model in service."""
        return self.digest


class Kept:
    """An answer cache over one generator, and how often it was asked."""

    def __init__(self, pieces: Any = PIECES, *, free_text: bool = False, search: Search | None = None) -> None:
        self.behaviour = Behaviour(pieces, free_text=free_text)
        self.generator = FakeGenerator({"g": self.behaviour})
        self.reranker = Reranker()
        self.search = search
        tiers = TieredCache("test", LocalTier(bytes_max=1 << 20, ttl_s=60), None)
        self._cache = AnswerCache(tiers, self.generator, self.reranker)

    async def answer(self, asked: Question | None = None) -> list[answer_pb2.AnswerEvent]:
        """The messages of one answer; raises what it ends in."""
        asked = asked or question()
        made = answerer(self.generator, self.search).stream(asked)
        stream = self._cache.through(asked, wire.numbered(made, asked.answer_id))
        return [message async for message in stream]


async def test_answer_asked_again_is_replayed_under_an_id_of_its_own():
    """The same events, without the work; only id, times and the hit differ."""
    kept = Kept()
    first = await kept.answer()
    second = await kept.answer(question(answer_id="c" * 32))
    assert kept.behaviour.opened == 1
    assert {message.answer_id for message in second} == {"c" * 32}
    assert list(second[-1].completed.cache_hits) == ["answer"]
    for message in (*first, *second):
        message.answer_id = ""
        message.completed.ClearField("timings") if message.HasField("completed") else None
    second[-1].completed.ClearField("cache_hits")
    assert second == first


def with_record(**fields: Any) -> Callable[[], Question]:
    """The question to a collection that differs."""
    return lambda: question(collection=replace(RECORD, **fields))


CHANGES: dict[str, Callable[[], Question]] = {
    "tenant": with_record(name=CollectionName("other", "docs")),
    "collection": with_record(name=CollectionName("acme", "else")),
    "created again": with_record(created_at_s=5.0),
    "generation": with_record(generation=2),
    "epoch": with_record(cache_epoch=1),
    "template": lambda: question(template=Template(name="p", version=1, system="s", user="u")),
    "sampling": lambda: question(sampling=Sampling(max_tokens=9)),
    "sentences": lambda: question(sentences_max=2),
    "language": lambda: question(language="hr"),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_answer_to_anything_else_is_made_anew(change: str):
    """Each part of the key matters."""
    kept = Kept()
    await kept.answer()
    await kept.answer(CHANGES[change]())
    assert kept.behaviour.opened == 2


async def test_answer_to_another_reader_or_by_another_model_is_made_anew():
    """Who may read other documents, and what would write other words."""
    kept = Kept()
    await kept.answer()
    call.set_current(
        Call(
            method="test",
            request_id="r",
            deadline=None,
            principal=Principal(tenant="acme", credential="k", identities=("user:ann",)),
        )
    )
    await kept.answer()
    assert kept.behaviour.opened == 2
    kept.generator.context_tokens_max = 99
    await kept.answer()
    assert kept.behaviour.opened == 3


@pytest.mark.parametrize(
    "kept, asked",
    [
        (Kept(free_text=True), question()),
        (Kept(free_text=True), question(sampling=Sampling(temperature=0.7))),
        (Kept(search=Search(1, (Degradation(stage="rerank", reason="DEADLINE"),))), question()),
        (Kept(), question(generators=("none", "g"))),
    ],
    ids=["free", "warm", "degraded", "warned"],
)
async def test_answer_that_might_come_out_otherwise_is_not_kept(kept: Kept, asked: Question):
    """Drawn, degraded, or by a chain of which nobody knows all."""
    for _ in range(2):
        await kept.answer(asked)
    assert kept.behaviour.opened == 2


@pytest.mark.parametrize("sampling", [Sampling(temperature=0.0), Sampling(temperature=1.0, seed=7)])
async def test_free_text_that_is_determined_is_kept(sampling: Sampling):
    """The likeliest token, or a seed."""
    kept = Kept([Said(text="It dives [1]."), done()], free_text=True)
    for _ in range(2):
        await kept.answer(question(sampling=sampling))
    assert kept.behaviour.opened == 1


async def test_answer_in_a_conversation_is_not_kept():
    """It depends on the turns, and becomes one."""
    kept = Kept()
    assert await kept._cache._key(question()) is not None
    name = ConversationName("acme", "docs", "a" * 32)
    assert await kept._cache._key(question(conversation=name)) is None


async def test_answer_of_a_collection_that_keeps_none_is_not_kept():
    """The collection's owner has the last word."""
    kept = Kept()
    asked = with_record(cache_results=False)()
    for _ in range(2):
        await kept.answer(asked)
    assert kept.behaviour.opened == 2


async def test_answer_that_fails_or_is_left_is_not_kept():
    """Half an answer is none."""
    kept = Kept([Said(text="a"), DependencyUnavailable("gone")])
    with pytest.raises(DependencyUnavailable):
        await kept.answer()
    kept.behaviour.pieces = PIECES
    asked = question()
    stream = kept._cache.through(asked, wire.numbered(answerer(kept.generator).stream(asked), asked.answer_id))
    await anext(stream)
    await stream.aclose()
    await kept.answer()
    assert kept.behaviour.opened == 2


async def test_answer_without_word_of_the_generators_is_made_uncached():
    """Nobody knows which model it would be."""
    kept = Kept()
    kept.generator.down = DependencyUnavailable("gone")
    for _ in range(2):
        with pytest.raises(GannetError):
            await kept.answer()
    assert kept.behaviour.opened == 0


@given(st.lists(st.sampled_from(["a", "č", "😀 "]), min_size=1, max_size=6))
def test_replayed_answer_keeps_every_event(texts: list[str]):
    """For any deltas: kinds, texts and offsets as they were, numbered from 0."""

    async def run() -> tuple[list[Any], list[Any]]:
        kept = Kept([*(Said(text=text) for text in texts), done()])
        return await kept.answer(), await kept.answer()

    first, second = asyncio.run(_as_caller(run()))
    assert [message.seq for message in second] == list(range(len(first)))
    assert [(message.WhichOneof("event"), message.delta) for message in second] == [
        (message.WhichOneof("event"), message.delta) for message in first
    ]


async def _as_caller(work: Any) -> Any:
    call.set_current(
        Call(method="t", request_id="r", deadline=None, principal=Principal(tenant="acme", credential="k"))
    )
    return await work


# ---- verifying ------------------------------------------------------------------------------------------------------

TEXT = "Gannets dive. They swim. They fly."


async def test_text_is_verified_against_passages_that_are_given():
    """A verdict a sentence, in batches; bytes count in the passages."""
    verifier = Verifier(Search(), FakeGenerator({"g": Behaviour([])}, SUPPORTED), GatewayConfig())
    verified = await verifier.against(split_sentences(TEXT), [SOURCE])
    assert [(one.sentence.text, one.supported) for one in verified.claims] == [
        ("Gannets dive.", True),
        ("They swim.", True),
        ("They fly.", True),
    ]
    (source,) = verified.claims[0].sources
    assert (source.passage_index, source.start_byte, source.end_byte) == (0, 6, 13)
    assert (verified.passages, verified.tokens_read) == ((), 14)


async def test_text_is_verified_against_what_a_search_finds_for_each_sentence():
    """Passages come once, and bytes count in their documents."""
    search = Search(2)
    generator = FakeGenerator({"g": Behaviour([])}, Verdict(score=0.9, supported=True, spans=((1, 6, 13, 0.9),)))
    verified = await Verifier(search, generator, GatewayConfig()).by_search(
        split_sentences(TEXT), RECORD, question().query
    )
    assert search.searched == ["Gannets dive.", "They swim.", "They fly."]
    assert len(verified.passages) == 2
    assert [(source.passage_index, source.start_byte) for one in verified.claims for source in one.sources] == [
        (1, 106)
    ] * 3


async def test_claim_that_nothing_is_found_for_is_unsupported():
    """The verifier is not asked."""
    generator = FakeGenerator({"g": Behaviour([])}, UNSUPPORTED)
    verified = await Verifier(Search(0), generator, GatewayConfig()).by_search(
        split_sentences("One."), RECORD, question().query
    )
    assert [(one.supported, one.sources, one.score) for one in verified.claims] == [(False, (), 0.0)]
    assert generator.claims == []


@pytest.mark.parametrize("text", ["", "...", "x" * 16_385, "A b. " * 51])
def test_text_without_sentences_or_with_too_many_is_refused(text: str):
    """The limits are named."""
    with pytest.raises(InvalidInput, match="the limits are 1 to"):
        wire.check_claims(text)


@pytest.mark.parametrize(
    "passages, field", [(["x"] * 21, "passages"), (["x", ""], "passages[1]"), (["x" * 8193], "passages[0]")]
)
def test_given_passages_are_bounded(passages: list[str], field: str):
    """In number and in bytes."""
    with pytest.raises(InvalidInput) as caught:
        wire.check_given(passages)
    assert caught.value.field == field
