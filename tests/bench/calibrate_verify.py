"""Fits and measures what Verify says: does it tell claims that the sources support from claims that they do not?

    make bench-verify    (both splits), or
    python tests/bench/calibrate_verify.py [--data ../shared/data] [--split train] [--claims 200]

A claim is made from a sentence of a passage (SQuAD's sentences in the order of their articles, MedQuAD's answers); its sources are
that passage. Supported: the sentence itself, its first clause, the sentence with its function words and every fifth other word left
out, and the question without its question word, which is a person's paraphrase of a part of the sentence. Not supported: the sentence, and
the paraphrase, when the passage has lost the sentence (its neighbours stay), the sentence of another passage, the sentence with a
changed number, and the negated sentence. Negations are measured and not fitted on: a "not" is all that makes them, and is what Verify
looks for, so that they say how often it is found, and little of how people deny things. On the train split the weights of the
logistic function are fitted, and printed; both splits measure the weights in `gannet_generator.verification`. Prints the figures and
writes them to bench-results/verify-<split>.json.
"""

import argparse
import json
import random
import re
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import wait
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from calibrate_answers import Question, medquad, squad
from numpy.typing import NDArray
from report import write

from gannet_generator.config import GeneratorConfig
from gannet_generator.extractive.sentences import split_sentences
from gannet_generator.generation import Source
from gannet_generator.verification import WEIGHTS, Bounds, Pair, find_pairs, lexical_facts, support
from gannet_inference.encoder import CrossEncoder
from gannet_inference.manifest import load_manifest
from gannet_inference.session import cores_available
from gannet_inference.store import ensure_built

ROOT = Path(__file__).parents[2]
SUPPORTED = ("verbatim", "first clause", "thinned", "restated")
UNSUPPORTED = ("sentence removed", "another passage", "changed number", "restated, sentence removed")
MADE_OF_NOT = ("negated",)
NUMBER = re.compile(r"\d+")
FUNCTION_WORDS = frozenset(
    "a an the of to in on at by for from with and or as that which this these those its their his her it has have had also".split()  # noqa: SIM905
)
WH = re.compile(r"\b(what|which|who|whom|whose|when|where|why|how many|how much|how)\b", re.IGNORECASE)
AUXILIARIES = frozenset({"do", "does", "did"})
BE = re.compile(r"\b(is|are|was|were|can|may|will|has|have)\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A claim of a kind, and the sources that it is verified against."""

    kind: str
    claim: str
    sources: Sequence[Source]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """The pairs of a case, each with its logit."""

    kind: str
    pairs: Sequence[tuple[Pair, float]]


def cases(questions: Sequence[Question], rng: random.Random) -> Iterator[Case]:
    """Claims of every kind, from sentences that have at least six words."""
    for place, question in enumerate(questions):
        sentences = [one.text for one in split_sentences(question.answer.text, sentence_bytes_max=600)]
        sentences = [text for text in sentences if len(text.split()) >= 6]
        if not sentences:
            continue
        claim = rng.choice(sentences)
        answer = question.answer
        sources = [answer, *question.same_topic]
        without = [Source(text=answer.text.replace(claim, " "), title=answer.title), *question.same_topic]
        other = questions[(place + 1) % len(questions)]
        yield Case(kind="verbatim", claim=claim, sources=sources)
        yield Case(kind="first clause", claim=_first_clause(claim), sources=sources)
        yield Case(kind="thinned", claim=_thinned(claim, rng), sources=sources)
        yield Case(kind="sentence removed", claim=claim, sources=without)
        yield Case(kind="another passage", claim=claim, sources=[other.answer, *other.same_topic])
        if restated := _restated(question.text):
            yield Case(kind="restated", claim=restated, sources=sources)
            if len(sentences) == 1:
                yield Case(kind="restated, sentence removed", claim=restated, sources=question.same_topic)
        if NUMBER.search(claim):
            yield Case(kind="changed number", claim=_changed_number(claim, rng), sources=sources)
        if BE.search(claim):
            yield Case(kind="negated", claim=BE.sub(r"\1 not", claim, count=1), sources=sources)


def _restated(question: str) -> str:
    """What a person's question presupposes, in that person's words: a paraphrase of a part of the answer's sentence."""
    words = [word for word in WH.sub(" ", question).replace("?", " ").split() if word.lower() not in AUXILIARIES]
    return " ".join(words) if len(words) >= 4 else ""


def _first_clause(sentence: str) -> str:
    clause = re.split(r"\s*[,;:(]\s*", sentence, maxsplit=1)[0]
    return clause if len(clause.split()) >= 4 else sentence


def _thinned(sentence: str, rng: random.Random) -> str:
    words = [word for word in sentence.split() if word.lower() not in FUNCTION_WORDS]
    kept = [word for word in words if rng.random() >= 0.2 or NUMBER.search(word)]
    return " ".join(kept if len(kept) >= 4 else words)


def _changed_number(sentence: str, rng: random.Random) -> str:
    found = rng.choice(list(NUMBER.finditer(sentence)))
    return f"{sentence[: found.start()]}{int(found.group()) + rng.randint(1, 9)}{sentence[found.end() :]}"


def score(model: CrossEncoder, bounds: Bounds, given: Sequence[Case]) -> Iterator[Scored]:
    """Score what Verify would score."""
    for case in given:
        (pairs,) = find_pairs([case.claim], case.sources, bounds)
        works = model.submit_all(model.tokenize(case.claim, [pair.sentence for pair in pairs]) if pairs else [])
        wait(works)
        yield Scored(kind=case.kind, pairs=[(pair, work.result()) for pair, work in zip(pairs, works, strict=True)])


def fit(scored: Sequence[Scored], *, rounds: int = 5) -> NDArray[np.float64]:
    """Logistic regression on each case's best pair: bias, logit, overlap, contradiction. Which pair is best depends on the weights."""
    weights = np.array([-6.0, 0.5, 6.0, -3.0])
    labelled = [one for one in scored if one.kind not in MADE_OF_NOT and one.pairs]
    labels = np.array([one.kind in SUPPORTED for one in labelled], float)
    # Both answers weigh the same however many cases of each there are.
    shares = np.where(labels == 1, 0.5 / labels.sum(), 0.5 / (len(labels) - labels.sum()))
    for _ in range(rounds):
        facts = np.array([max(_facts(one), key=lambda row: float(row @ weights)) for one in labelled])
        weights = _newton(facts, labels, shares)
    return weights


def _facts(one: Scored) -> NDArray[np.float64]:
    return np.array([(1.0, logit, *lexical_facts(pair)) for pair, logit in one.pairs])


def _newton(
    facts: NDArray[np.float64], labels: NDArray[np.float64], shares: NDArray[np.float64]
) -> NDArray[np.float64]:
    weights = np.zeros(facts.shape[1])
    for _ in range(30):
        chances = 1 / (1 + np.exp(-facts @ weights))
        gradient = facts.T @ (shares * (labels - chances)) - 1e-4 * weights
        curvature = (facts.T * (shares * chances * (1 - chances))) @ facts + 1e-4 * np.eye(len(weights))
        weights = weights + np.linalg.solve(curvature, gradient)
    return weights


def report(name: str, scored: Sequence[Scored], threshold: float) -> dict[str, object]:
    """Of each kind, the share that counts as supported; the balanced accuracy; the areas under the curve of each fact alone."""
    best = [
        (one.kind, max((support(pair, logit, WEIGHTS) for pair, logit in one.pairs), default=0.0)) for one in scored
    ]
    said = {
        kind: _mean([value >= threshold for other, value in best if other == kind])
        for kind in (*SUPPORTED, *UNSUPPORTED, *MADE_OF_NOT)
    }
    true = [value for kind, value in best if kind in SUPPORTED]
    false = [value for kind, value in best if kind in UNSUPPORTED]
    balanced = (_mean([value >= threshold for value in true]) + _mean([value < threshold for value in false])) / 2
    aucs = {
        fact: _auc(
            [
                max((pick(pair, logit) for pair, logit in one.pairs), default=-99.0)
                for one in scored
                if one.kind in SUPPORTED
            ],
            [
                max((pick(pair, logit) for pair, logit in one.pairs), default=-99.0)
                for one in scored
                if one.kind in UNSUPPORTED
            ],
        )
        for fact, pick in (
            ("score", lambda pair, logit: support(pair, logit, WEIGHTS)),
            ("logit alone", lambda _, logit: logit),
            ("overlap alone", lambda pair, _: lexical_facts(pair)[0]),
        )
    }
    return {"data": name, "claims": len(scored), "supported share": said, "balanced accuracy": balanced, "AUC": aucs}


def _mean(values: Sequence[bool]) -> float:
    return float(np.mean(values)) if values else float("nan")


def _auc(true: Sequence[float], false: Sequence[float]) -> float:
    difference = np.subtract.outer(np.array(true), np.array(false))
    return float((difference > 0).mean() + 0.5 * (difference == 0).mean())


def main() -> int:
    """Score, fit where that is allowed, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--models-dir", type=Path, default=ROOT / ".gannet" / "models")
    parser.add_argument("--split", choices=["train", "test"], default="train")
    parser.add_argument("--claims", type=int, default=200)
    arguments = parser.parse_args()
    archives = {squad: arguments.data / "squad_nqg.tar.gz", medquad: arguments.data / "medquad.tar.gz"}
    absent = [str(archive) for archive in archives.values() if not archive.is_file()]
    if absent:
        print(f"calibrate_verify: needs {' and '.join(absent)}; nothing was measured", file=sys.stderr)
        return 2
    config = GeneratorConfig()
    built = ensure_built(load_manifest().entry(config.model), config.precision or None, arguments.models_dir)
    model = CrossEncoder.open(built, sessions=cores_available())
    bounds = Bounds(sentence_bytes_max=config.sentence_bytes_max, sentences_max=config.verify_sentences_max)
    rng = random.Random(0)  # noqa: S311 - always the same claims: two runs compare two models, not two samples
    everything: list[Scored] = []
    results: list[dict[str, object]] = []
    for make, archive in archives.items():
        chosen = rng.sample(list(make(archive, arguments.split)), arguments.claims)
        scored = list(score(model, bounds, list(cases(chosen, rng))))
        everything += scored
        results.append(report(archive.name, scored, config.verify_threshold))
        print(json.dumps(results[-1], indent=1))
    model.close()
    if arguments.split == "train":
        print("fitted bias, logit, overlap, contradiction:", np.round(fit(everything), 2).tolist())
    write(f"verify-{arguments.split}", results, [])
    return 0


if __name__ == "__main__":
    sys.exit(main())
