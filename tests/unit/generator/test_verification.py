"""Verdicts: which sentences are read for a claim, how their facts become a score, and how spans are ranked."""

import pytest
from fakes.gated_model import GatedSession, cross_encoder

from gannet_generator.generation import Source, SourceSpan
from gannet_generator.scoring import PairScorer
from gannet_generator.verification import Bounds, Pair, Verifier, Weights, find_pairs, lexical_facts, support

BOUNDS = Bounds(sentence_bytes_max=600, sentences_max=2)
SOURCES = [
    Source(text="The gannet dives 22 metres deep. It nests on high cliffs.", title="Gannet"),
    Source(text="Terns cross both oceans. The gannet dives 22 metres deep.", title="Tern"),
]
# Only words and numbers count, so that the fake model's logits, lengths, change nothing.
WEIGHTS = Weights(bias=-5.0, logit=0.0, overlap=10.0, contradiction=-10.0)


def pair(claim: str, sentence: str) -> Pair:
    """A pair that stands nowhere."""
    return Pair(claim=claim, sentence=sentence, spans=())


def test_pairs_of_a_claim_are_the_sentences_nearest_to_it_in_order():
    """Of more sentences than the bound, those that share the rarest words; one that refers back is read behind its title."""
    ((first, second),) = find_pairs(["The gannet nests on cliffs"], SOURCES, BOUNDS)
    assert (first.sentence, second.sentence) == (
        "Gannet: The gannet dives 22 metres deep.",
        "Gannet: It nests on high cliffs.",
    )
    assert [span.source_index for span in first.spans] == [0, 1]


@pytest.mark.parametrize(
    "claim, sentence, facts",
    [
        ("Gannets dive deep", "Gannets dive deep here", (1.0, 0.0)),
        ("Gannets dive 22.5 metres", "Gannets dive 22.5 metres", (1.0, 0.0)),
        ("Gannets dive 23 metres", "Gannets dive 22 metres", (0.75, 1.0)),
        ("Terns fly", "Gannets dive 22 metres", (0.0, 0.0)),
        ("…", "Gannets dive", (0.0, 0.0)),
        ("Gannets never swim", "Gannets swim well", (2 / 3, 1.0)),
        ("Gannets swim", "Gannets do not swim", (1.0, 1.0)),
        ("Gannets can't swim", "Gannets do n't swim", (0.75, 0.0)),
        ("Gannets do not swim", "Gannets never swim", (0.5, 0.0)),
        ("Gannets swim", "Gannets swim and do not sing", (1.0, 0.0)),
        ("Gannets not only swim", "Gannets swim, no others do", (0.5, 0.0)),
        ("Gannets are not the divers", "Gannets are divers", (0.6, 1.0)),
        ("Galeb ne roni", "Galeb roni", (2 / 3, 1.0)),
    ],
)
def test_lexical_facts_count_shared_words_and_contradictions(claim, sentence, facts):
    """The share of the claim's words that the sentence has; a number that is not there, and a "not" on one side alone, contradict."""
    assert lexical_facts(pair(claim, sentence)) == facts


def test_support_of_extreme_logits_stays_between_0_and_1():
    """No overflow, and more logit is never less support."""
    weights = Weights(bias=0.0, logit=1.0, overlap=0.0, contradiction=0.0)
    scores = [support(pair("a", "b"), logit, weights) for logit in (-1e9, -2.0, 0.0, 2.0, 1e9)]
    assert scores == sorted(scores)
    assert 0.0 <= scores[0] < 1e-20
    assert scores[2] == 0.5
    assert scores[-1] == pytest.approx(1.0)


async def test_verify_names_the_spans_of_the_best_sentence_first():
    """A sentence in two sources gives two spans of one score, best source first; a changed number takes the support away."""
    session = GatedSession(pairs=True)
    session.gate.set()
    scorer = PairScorer(cross_encoder(session, queue_max=16), queue_requests_max=4)
    verifier = Verifier(scorer, weights=WEIGHTS, threshold=0.5, bounds=BOUNDS)
    true, false = (f"The gannet dives {metres} metres deep" for metres in (22, 23))
    verification = await verifier.verify([true, false], SOURCES, spans_max=2)
    scorer.close()
    supported, unsupported = verification.verdicts
    assert (supported.supported, unsupported.supported) == (True, False)
    assert [scored.span for scored in supported.spans] == [
        SourceSpan(source_index=0, start_byte=0, end_byte=32),
        SourceSpan(source_index=1, start_byte=25, end_byte=57),
    ]
    assert supported.score == supported.spans[0].score
    assert verification.tokens == sum(map(len, session.started_so_far()))


async def test_verify_against_sources_without_sentences_supports_nothing():
    """No sentence, no span, score 0, and the model reads nothing."""
    session = GatedSession(pairs=True)
    scorer = PairScorer(cross_encoder(session, queue_max=16), queue_requests_max=4)
    verifier = Verifier(scorer, weights=WEIGHTS, threshold=0.5, bounds=BOUNDS)
    verification = await verifier.verify(["Gannets dive"], [Source(text="# Heading", title="")], spans_max=3)
    scorer.close()
    (verdict,) = verification.verdicts
    assert (verdict.score, verdict.supported, verdict.spans, verification.tokens) == (0.0, False, (), 0)
