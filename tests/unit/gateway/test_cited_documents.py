"""Answers over random documents, by the real splitting, choosing and matching; only the models' numbers are invented."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from unit.gateway.answering import (
    Behaviour,
    FakeGenerator,
    Search,
    answerer,
    check_invariants,
    done,
    events_of,
    question,
)
from unit.gateway.fakes import candidate

from gannet_gateway.answers.events import Citation, Completed, Event
from gannet_gateway.answers.sentences import split_sentences
from gannet_gateway.clients import Cited, Said, Verdict
from gannet_gateway.documents.chunking import chunk
from gannet_gateway.search.query import Passage
from gannet_generator.extractive.extract import choose, find_candidates, write
from gannet_generator.generation import Delta, Source
from gannet_generator.verification import WEIGHTS, Bounds, find_pairs, support
from gannet_service.errors import DependencyUnavailable, GannetError

BOUNDS = Bounds(sentence_bytes_max=200, sentences_max=8)
LOGITS = st.floats(-12, 12)
SENTENCES = st.sampled_from(
    [
        *(
            "The gannet dives 22 metres deep.",
            "A puffin nests in burrows [1].",
            "Die Möwe fliegt am 3. Oktober übers Meer.",
        ),
        *("海鳥は深く潜る。", "Galebovi npr. u br. 5 ne rone 😀!", "Terns, e.g. the Arctic one, cross both oceans."),
        *("# A heading", "- a point of a list", "```\ncode that is not said\n```", "Is that so?", "It “dives.” Often"),
    ]
)
DOCUMENTS = st.lists(
    st.lists(SENTENCES | st.text(max_size=12), max_size=12).map("\n".join) | st.text(max_size=80),
    min_size=1,
    max_size=3,
)
# What a model makes of its sources: a sentence of theirs, words of its own, a mark, in pieces of any size.
WRITTEN = st.lists(
    SENTENCES
    | st.sampled_from(["[1] ", " [2]", "[9]", "It never dives. ", "NO", "\n\n"])
    | st.text("a [1].日", max_size=6),
    max_size=8,
)


def passages_of(documents: Sequence[str], size: int) -> list[Passage]:
    """The passages of the documents, as they are cut when they are ingested; `ordinal` says of which document one is."""
    return [
        Passage(candidate=replace(candidate(place, text=one.text, start_byte=one.start_byte), title="Birds"), final=1.0)
        for place, text in enumerate(documents)
        for one in chunk(text, size=size, overlap=size // 4)
    ]


def quoting(passages: Sequence[Passage], data: st.DataObject) -> list[Any]:
    """What the generator that quotes says of them, whatever its model thinks."""
    sources = [Source(text=one.candidate.text, title=one.candidate.title) for one in passages]
    candidates = find_candidates(sources, sentence_bytes_max=BOUNDS.sentence_bytes_max)
    logits = data.draw(st.lists(LOGITS, min_size=len(candidates), max_size=len(candidates)))
    choice = choose(candidates, logits, threshold=0.0, margin=6.0, sentences_max=3)
    said: list[Any] = []
    for event in write(choice.quotes):
        if isinstance(event, Delta):
            said.append(Said(text=event.text))
        else:
            spans = tuple((span.source_index, span.start_byte, span.end_byte) for span in event.spans)
            said.append(Cited(start_byte=event.start_byte, end_byte=event.end_byte, sources=spans, score=event.logit))
    return [*said, done() if said else done("FINISH_REASON_NO_ANSWER")]


class Verifying(FakeGenerator):
    """Verifies as the generator's server does; `logits` stand for its model."""

    logits: Sequence[float] = (0.0,)

    async def verify(
        self, claims: Sequence[str], sources: Sequence[tuple[str, str]], *, timeout_s: float
    ) -> tuple[list[Verdict], int]:
        """Verdicts by words, numbers and those logits."""
        assert timeout_s > 0
        verdicts: list[Verdict] = []
        given_ = [Source(text=text, title=title) for title, text in sources]
        for place, pairs in enumerate(find_pairs(claims, given_, BOUNDS)):
            logit = self.logits[place % len(self.logits)]
            spans = [
                (span.source_index, span.start_byte, span.end_byte, support(pair, logit, WEIGHTS))
                for pair in pairs
                for span in pair.spans
            ]
            spans.sort(key=lambda span: -span[3])
            best = spans[0][3] if spans else 0.0
            verdicts.append(Verdict(score=best, supported=best >= 0.5, spans=tuple(spans)))
        return verdicts, 1


async def answered(
    generator: FakeGenerator, names: tuple[str, ...], passages: Sequence[Passage], take: int | None
) -> tuple[list[Event], GannetError | None]:
    """One answer from these passages; whatever was opened is closed."""
    search = Search(0)
    search.result = replace(search.result, passages=tuple(passages))
    result = await events_of(answerer(generator, search), question(generators=names), take=take)
    assert all(one.opened == one.closed for one in generator.behaviours.values())
    return result


def check_sources(
    events: Sequence[Event], documents: Sequence[str], passages: Sequence[Passage]
) -> list[tuple[bytes, bytes]]:
    """(span of the answer, bytes of the document) for each cited source: these are its passage's, too."""
    text = b"".join(event.text.encode() for event in events if type(event).__name__ == "Delta")
    found: list[tuple[bytes, bytes]] = []
    for event in events:
        if isinstance(event, Citation):
            for source in event.sources:
                cited = passages[source.passage_index].candidate
                quoted = documents[cited.ordinal].encode()[source.start_byte : source.end_byte]
                assert quoted.decode().strip()
                start = source.start_byte - cited.start_byte
                assert cited.text.encode()[start : start + len(quoted)] == quoted
                found.append((text[event.start_byte : event.end_byte], quoted))
    return found


@given(
    documents=DOCUMENTS,
    size=st.integers(20, 200),
    take=st.none() | st.integers(1, 8),
    fault=st.none() | st.integers(0, 4),
    data=st.data(),
)
def test_quoted_answer_over_any_documents_says_their_bytes(
    documents: list[str], size: int, take: int | None, fault: int | None, data: st.DataObject
):
    """Each citation's span of the answer equals the bytes of the document that it names, also where the answer breaks off or is left."""
    passages = passages_of(documents, size)
    pieces = quoting(passages, data) if passages else []
    if fault is not None:
        pieces.insert(min(fault, len(pieces)), DependencyUnavailable("gone"))
    events, error = asyncio.run(answered(FakeGenerator({"g": Behaviour(pieces)}), ("g",), passages, take))
    check_invariants(events, error, left=len(events) == take)
    assert all(said == quoted for said, quoted in check_sources(events, documents, passages))
    if fault is not None and passages:
        assert not any(isinstance(event, Completed) for event in events)


@given(
    documents=DOCUMENTS,
    size=st.integers(20, 200),
    written=WRITTEN,
    logits=st.lists(LOGITS, min_size=1, max_size=4),
    take=st.none() | st.integers(1, 8),
    fault=st.none() | st.integers(0, 6),
    data=st.data(),
)
def test_free_answer_over_any_documents_has_every_sentence_cited_or_flagged(
    *,
    documents: list[str],
    size: int,
    written: list[str],
    logits: list[float],
    take: int | None,
    fault: int | None,
    data: st.DataObject,
):
    """Whoever speaks, a fault before the first word hands over and one after it ends; what is cited is a sentence of the document."""
    passages = passages_of(documents, size)
    pieces: list[Any] = [Said(text=piece) for piece in written if piece]
    if fault is not None:
        pieces.insert(min(fault, len(pieces)), DependencyUnavailable("gone"))
    chain = {
        "free": Behaviour([*pieces, done()], free_text=True),
        "quotes": Behaviour(quoting(passages, data) if passages else []),
    }
    generator = Verifying(chain)
    generator.logits = logits
    events, error = asyncio.run(answered(generator, ("free", "quotes"), passages, take))
    check_invariants(events, error, left=len(events) == take)
    pairs = check_sources(events, documents, passages)
    completed = [event for event in events if isinstance(event, Completed)]
    if not completed or not passages:
        return
    (last,) = completed
    if chain["quotes"].opened:  # the first one failed before its first word
        assert fault is not None
        assert all(said == quoted for said, quoted in pairs)
        return
    sentences = {(one.start_byte, one.end_byte) for one in split_sentences(last.text)}
    cited = {(one.start_byte, one.end_byte) for one in last.citations}
    assert cited | set(last.unsupported) == sentences
    assert cited.isdisjoint(last.unsupported)
