"""Chooses the generator's threshold: how the best sentence scores when the sources hold the answer, and when they do not.

    make bench-extractive    (both splits), or
    python tests/bench/calibrate_answers.py [--data ../shared/data] [--split train] [--questions 300]

Two sets of questions with known answers, three kinds of sources for each question:
  present     the answer and what surrounds it (SQuAD: the sentences around it; MedQuAD: the other answers about the same disease);
  same topic  the same without the answer, the hardest kind of unanswerable question;
  other topic the sources of another question.
Some "same topic" sources do answer the question, so the true error rate is below the one that is shown. "Abstention" counts the answer
present against the same topic alone: recall is the share of unanswerable questions that are refused, precision the share of refusals
that are right. "Found whole", for SQuAD, is the share of answers whose sentence is split off exactly where it stands in one passage with
its surroundings. Prints the tables, writes bench-results/extractive-<split>.json, and plots the curves beside it.
"""

import argparse
import json
import random
import sys
import tarfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import wait
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from report import RESULTS, table, write

from gannet_generator.config import GeneratorConfig
from gannet_generator.extractive.extract import find_candidates, in_context, nearest
from gannet_generator.extractive.sentences import split_sentences
from gannet_generator.generation import Source
from gannet_inference.encoder import CrossEncoder
from gannet_inference.manifest import load_manifest
from gannet_inference.session import cores_available
from gannet_inference.store import ensure_built

ROOT = Path(__file__).parents[2]
AROUND = 8
SOURCE_CHARS_MAX = 2000
COLUMNS = (
    "threshold",
    "present: says something",
    "present: says the right sentence first",
    "same topic: says something",
    "other topic: says something",
    "balanced accuracy",
    "F1",
    "abstention precision",
    "abstention recall",
)
THRESHOLDS = np.arange(-4.0, 6.01, 0.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question, the source that answers it, and sources on the same topic that do not."""

    text: str
    answer: Source
    same_topic: Sequence[Source]


@dataclass(frozen=True, slots=True, kw_only=True)
class Best:
    """The best logit among the sentences of the answer, of the same topic, and of another topic."""

    answer: float
    same_topic: float
    other_topic: float


def read(archive: Path, split: str) -> tuple[list[dict[str, str]], dict[str, str], list[tuple[str, str]]]:
    """The corpus in order, the queries by id, and the (query, document) pairs of a BEIR archive."""
    with tarfile.open(archive) as tar:
        files = {Path(member.name).name: member for member in tar.getmembers() if "/qrels/" not in member.name}
        qrels = next(member for member in tar.getmembers() if member.name.endswith(f"qrels/{split}.tsv"))
        corpus = [json.loads(line) for line in tar.extractfile(files["corpus.jsonl"])]
        queries = [json.loads(line) for line in tar.extractfile(files["queries.jsonl"])]
        rows = [line.decode().split("\t") for line in tar.extractfile(qrels)][1:]
    return corpus, {query["_id"]: query["text"] for query in queries}, [(row[0], row[1]) for row in rows]


def squad(archive: Path, split: str) -> Iterator[Question]:
    """Sentences stand in the order of their articles: the neighbours are about the same thing."""
    corpus, queries, pairs = read(archive, split)
    places = {document["_id"]: place for place, document in enumerate(corpus)}
    for query, document in pairs:
        place = places[document]
        around = corpus[max(0, place - AROUND) : place] + corpus[place + 1 : place + 1 + AROUND]
        yield Question(
            text=queries[query], answer=_source(corpus[place]), same_topic=[_source(other) for other in around]
        )


def medquad(archive: Path, split: str) -> Iterator[Question]:
    """Documents with one title answer different questions about one disease."""
    corpus, queries, pairs = read(archive, split)
    documents = {document["_id"]: document for document in corpus}
    by_title: dict[str, list[str]] = defaultdict(list)
    for document in corpus:
        by_title[document["title"]].append(document["_id"])
    for query, document in pairs:
        others = [other for other in by_title[documents[document]["title"]] if other != document]
        if others:
            yield Question(
                text=queries[query],
                answer=_source(documents[document]),
                same_topic=[_source(documents[other]) for other in others[:4]],
            )


def _source(document: dict[str, str]) -> Source:
    return Source(text=document["text"][:SOURCE_CHARS_MAX], title=document["title"])


def best_logits(model: CrossEncoder, config: GeneratorConfig, questions: Sequence[Question]) -> Iterator[Best]:
    """Score what the generator would score; the sources of the next question are the other topic."""
    for place, question in enumerate(questions):
        other = questions[(place + 1) % len(questions)]
        yield Best(
            answer=_best(model, config, question.text, [question.answer]),
            same_topic=_best(model, config, question.text, question.same_topic),
            other_topic=_best(model, config, question.text, [other.answer, *other.same_topic]),
        )


def _best(model: CrossEncoder, config: GeneratorConfig, question: str, sources: Sequence[Source]) -> float:
    found = find_candidates(sources, sentence_bytes_max=config.sentence_bytes_max)
    candidates = nearest(question, found, config.sentences_scored_max)
    works = model.submit_all(model.tokenize(question, [in_context(candidate, sources) for candidate in candidates]))
    wait(works)
    return max((work.result() for work in works), default=-np.inf)


def curve(best: Sequence[Best]) -> list[dict[str, float]]:
    """The shares of COLUMNS at each threshold."""
    answer, same, other = (
        np.array([getattr(one, kind) for one in best]) for kind in ("answer", "same_topic", "other_topic")
    )
    present, right = np.maximum(answer, same), answer >= same
    rows: list[dict[str, float]] = []
    for threshold in THRESHOLDS:
        said, wrong = present >= threshold, same >= threshold
        true_said, false_said = float((said & right).mean()), float((said & ~right).mean() + wrong.mean())
        refused, refused_rightly = float((~said).mean() + (~wrong).mean()), float((~wrong).mean())
        values = (
            float(threshold),
            float(said.mean()),
            true_said,
            float(wrong.mean()),
            float((other >= threshold).mean()),
            (float(said.mean()) + refused_rightly) / 2,
            2 * true_said / (true_said + false_said + 1.0),
            refused_rightly / refused if refused else 1.0,
            refused_rightly,
        )
        rows.append(dict(zip(COLUMNS, values, strict=True)))
    return rows


def hit_rate(best: Sequence[Best]) -> float:
    """How often the best of all sentences is one of the answer's."""
    return float(np.mean([one.answer >= one.same_topic for one in best]))


def whole_rate(questions: Sequence[Question], sentence_bytes_max: int) -> float:
    """How often the sentences of the answer are found as they are in one passage that it shares with its surroundings.

    This is about the splitting alone: a passage's sentences that run together, or are cut, cannot be quoted as they stand.
    """

    def sentences(text: str) -> set[str]:
        return {one.text for one in split_sentences(text, sentence_bytes_max=sentence_bytes_max)}

    whole: list[bool] = []
    for question in questions:
        texts = [source.text for source in question.same_topic]
        texts.insert(len(texts) // 2, question.answer.text)
        whole.append(sentences(question.answer.text) <= sentences(" ".join(texts)))
    return float(np.mean(whole))


def plot(curves: Mapping[str, Sequence[Mapping[str, float]]], threshold: float, path: Path) -> None:
    """The shares over the threshold, one panel a data set; the default is marked."""
    figure = Figure(figsize=(6 * len(curves), 4))
    panels = figure.subplots(1, len(curves), sharey=True, squeeze=False)
    for panel, (name, rows) in zip(panels[0], curves.items(), strict=True):
        for column in COLUMNS[1:]:
            panel.plot([row["threshold"] for row in rows], [row[column] for row in rows], label=column)
        panel.axvline(threshold, color="black", linestyle=":", label="default")
        panel.set(title=name, xlabel="threshold, logit", ylim=(0, 1))
    panels[0][0].legend(fontsize=6)
    figure.tight_layout()
    figure.savefig(path)


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--models-dir", type=Path, default=ROOT / ".gannet" / "models")
    parser.add_argument("--split", choices=["train", "test"], default="train")
    parser.add_argument("--questions", type=int, default=300)
    arguments = parser.parse_args()
    archives = {squad: arguments.data / "squad_nqg.tar.gz", medquad: arguments.data / "medquad.tar.gz"}
    absent = [str(archive) for archive in archives.values() if not archive.is_file()]
    if absent:
        print(f"calibrate_answers: needs {' and '.join(absent)}; nothing was measured", file=sys.stderr)
        return 2
    config = GeneratorConfig()
    built = ensure_built(load_manifest().entry(config.model), config.precision or None, arguments.models_dir)
    model = CrossEncoder.open(built, sessions=cores_available())
    curves: dict[str, list[dict[str, float]]] = {}
    rows: list[dict[str, object]] = []
    for make, archive in archives.items():
        questions = list(make(archive, arguments.split))
        # Always the same questions: two runs compare two models, not two samples.
        chosen = random.Random(0).sample(questions, min(arguments.questions, len(questions)))  # noqa: S311
        best = list(best_logits(model, config, chosen))
        curves[archive.name] = curve(best)
        hit = hit_rate(best)
        # MedQuAD's texts are cut at SOURCE_CHARS_MAX: joined, half a sentence would stand before a whole one.
        whole = whole_rate(chosen, config.sentence_bytes_max) if make is squad else None
        print(f"### {archive.name}, {len(best)} questions; right sentence first: {hit:.3f}; found whole: {whole}\n")
        print(table(curves[archive.name]))
        rows += [
            {"data": archive.name, "questions": len(best), "hit rate": hit, "found whole": whole, **row}
            for row in curves[archive.name]
        ]
    model.close()
    write(f"extractive-{arguments.split}", rows, [])
    plot(curves, config.threshold, RESULTS / f"extractive-{arguments.split}.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
