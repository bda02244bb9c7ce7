"""The extractive answer's invariants, with logits from anywhere."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gannet_generator.extractive.extract import Candidate, choose, find_candidates, in_context, nearest, write
from gannet_generator.generation import Citation, Delta, Source, SourceSpan

SENTENCES = st.sampled_from(
    [
        *("The gannet dives deep.", "A puffin nests in burrows.", "Die Möwe fliegt übers Meer.", "海鳥は深く潜る。"),
        *("Terns cross both oceans yearly.", "The gannet dives very deep.", "An albatross glides for hours."),
    ]
)
SOURCES = st.lists(st.lists(SENTENCES, max_size=5).map(" \n".join), min_size=1, max_size=5)
LOGITS = st.floats(min_value=-12, max_value=12)


def candidates_of(sources: list[str], scored_max: int = 64) -> list[Candidate]:
    """The candidates for a question about gannets."""
    found = find_candidates([Source(text=text, title="Birds") for text in sources], sentence_bytes_max=600)
    return nearest("How deep does the gannet dive?", found, scored_max)


@given(sources=SOURCES, data=st.data(), sentences_max=st.integers(1, 6), threshold=LOGITS, margin=st.floats(0, 12))
def test_answer_from_any_sources_and_logits_keeps_its_invariants(sources, data, sentences_max, threshold, margin):
    """Deltas add up to the text that citations span, every span's bytes are its source's, and only good sentences are said."""
    candidates = candidates_of(sources)
    logits = data.draw(st.lists(LOGITS, min_size=len(candidates), max_size=len(candidates)))
    choice = choose(candidates, logits, threshold=threshold, margin=margin, sentences_max=sentences_max)
    events = list(write(choice.quotes))
    answer = "".join(event.text for event in events if isinstance(event, Delta)).encode()
    citations = [event for event in events if isinstance(event, Citation)]
    assert [type(event) for event in events] == [Delta, Citation] * len(choice.quotes)
    assert len(citations) <= sentences_max
    end = 0
    for citation in citations:
        assert citation.start_byte == (end + 1 if end else 0)
        end = citation.end_byte
        quoted = answer[citation.start_byte : end]
        assert quoted
        for span in citation.spans:
            assert sources[span.source_index].encode()[span.start_byte : span.end_byte] == quoted
        assert citation.logit >= max(threshold, max(logits) - margin)
    assert end == len(answer)
    assert bool(citations) == (max(logits, default=-math.inf) >= threshold)
    if citations:
        assert citations[0].logit == max(logits)
        later = [citation.spans[0] for citation in citations[1:]]
        assert later == sorted(later, key=lambda span: (span.source_index, span.start_byte))


@given(sources=SOURCES, scored_max=st.integers(1, 8))
def test_find_candidates_of_any_sources_is_distinct_bounded_and_in_order(sources, scored_max):
    """At most so many sentences, each once with every place where it stands, in the order of the sources."""
    everything = candidates_of(sources)
    kept = candidates_of(sources, scored_max)
    assert len(kept) == min(scored_max, len(everything))
    assert len({candidate.text for candidate in everything}) == len(everything)
    assert [candidate for candidate in everything if candidate in kept] == kept
    firsts = [(candidate.spans[0].source_index, candidate.spans[0].start_byte) for candidate in everything]
    assert firsts == sorted(firsts)
    for candidate in everything:
        assert len(candidate.spans) == sum(source.split(" \n").count(candidate.text) for source in sources)


def test_find_candidates_with_too_many_keeps_those_nearest_to_the_question():
    """Sentences that share rare words with the question are scored, others are not."""
    filler = " ".join(f"The lighthouse number {place} was built there." for place in range(50))
    kept = candidates_of([filler, "Some gannets dived into deep water."], scored_max=2)
    assert kept[-1].text == "Some gannets dived into deep water."
    assert kept[0].text == "The lighthouse number 0 was built there."


def quotable(*texts: str) -> list[Candidate]:
    """Candidates in source order, one source each."""
    return [
        Candidate(text=text, spans=(SourceSpan(source_index=index, start_byte=0, end_byte=len(text)),))
        for index, text in enumerate(texts)
    ]


def test_choose_with_near_identical_sentences_says_the_better_one():
    """What shares four fifths of its words is said once."""
    candidates = quotable(
        "A gannet dives very deep there.", "A gannet dives\nvery deep there!", "Puffins nest in burrows."
    )
    choice = choose(candidates, [4.0, 5.0, 4.5], threshold=0.0, margin=3.0, sentences_max=3)
    assert [quote.candidate for quote in choice.quotes] == [candidates[1], candidates[2]]
    assert not choice.limited


def test_choose_with_more_good_sentences_than_wanted_is_limited():
    """The best ones are said, the best of all first and the others as they stood, and the choice says that there was more."""
    candidates = quotable("Gannets dive deep.", "Puffins nest in burrows.", "Terns cross oceans.", "Gulls eat chips.")
    choice = choose(candidates, [2.0, 1.0, 4.0, 3.0], threshold=0.0, margin=9.0, sentences_max=3)
    assert [quote.logit for quote in choice.quotes] == [4.0, 2.0, 3.0]
    assert choice.limited


def test_choose_leaves_out_what_is_far_below_the_best():
    """A sentence over the threshold but beyond the margin is not said, and that is no limit."""
    candidates = quotable("Gannets dive deep.", "Puffins nest in burrows.")
    choice = choose(candidates, [8.0, 4.0], threshold=0.0, margin=3.0, sentences_max=3)
    assert [quote.logit for quote in choice.quotes] == [8.0]
    assert not choice.limited


def test_in_context_puts_the_title_before_a_sentence_that_refers_back():
    """The model reads the title of the best source, cut where it is long; a sentence that stands alone is read alone."""
    sources = [Source(text="", title=title) for title in ("Gannets", " ", "x" * 500)]
    spans = tuple(SourceSpan(source_index=index, start_byte=0, end_byte=14) for index in range(3))
    read = [in_context(Candidate(text="It dives deep.", spans=spans[index:]), sources) for index in range(3)]
    assert read == ["Gannets: It dives deep.", "It dives deep.", f"{'x' * 120}: It dives deep."]
    assert in_context(Candidate(text="Items dive deep.", spans=spans), sources) == "Items dive deep."


@pytest.mark.parametrize(
    "second, said",
    [
        ("The gannet dives 22 metres deep!", False),
        ("The gannet dives deep.", False),
        ("The gannet dives 34 metres deep.", True),
        ("The gannet dives 22 metres deep for herring.", True),
        ("It nests on high cliffs.", True),
    ],
    ids=["the same words", "part of what was said", "another number", "more than was said", "something else"],
)
def test_choose_says_a_sentence_only_if_it_adds_something(second, said):
    """What was said already is not said in fewer words, and a sentence that differs in a number alone is another sentence."""
    span = SourceSpan(source_index=0, start_byte=0, end_byte=1)
    both = [Candidate(text=text, spans=(span,)) for text in ("The gannet dives 22 metres deep.", second)]
    choice = choose(both, [3.0, 2.5], threshold=0.0, margin=9.0, sentences_max=5)
    assert [quote.candidate.text for quote in choice.quotes] == [one.text for one in both[: 1 + said]]
