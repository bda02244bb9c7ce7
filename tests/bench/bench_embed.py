"""`make bench-embed`: SciFact abstracts through our embedder over gRPC and through other systems, round by round on the same cores.

Every system embeds the same texts, cut at the same 256 tokens, in every round, while all others are idle; figures are medians over
the rounds, ratios medians of each round's ratio. What each float32 system computes is compared with sentence-transformers', so
that nobody is fast by reading less.
"""

import argparse
import contextlib
import itertools
import statistics
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import datasets
import metrics
import numpy as np
import report
from embed_systems import Entry, Gannet, Pass, System, Worker, entries
from numpy.typing import NDArray
from roofline import MINILM_L6, int8_roofline_tokens_per_s
from servers import serving

from gannet_inference.session import cores_available

WARM_TEXTS = 32
VECTORS = report.ROOT / ".gannet" / "bench-vectors"
FP32_COSINE_MIN = 0.9999
REFERENCE = "sentence-transformers, fp32"

Ratio = Callable[[str, str], float]


@dataclass(slots=True, kw_only=True)
class Measured:
    """What the rounds gave for one system."""

    passes: list[Pass] = field(default_factory=list[Pass])
    single_s: list[float] = field(default_factory=list[float])


def main() -> None:
    """Measure, print the two tables, write the claims."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--texts", type=int, default=300, help="abstracts per round, spread evenly over the corpus")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--single", type=int, default=60, help="abstracts per round that are sent one a call")
    parser.add_argument("--no-ndcg", action="store_true", help="leave the corpus-wide quality check out")
    arguments = parser.parse_args()
    scifact = datasets.load("scifact")
    abstracts = {name: f"{title} {text}".strip() for name, (title, text) in scifact.corpus.items()}
    texts = list(abstracts.values())[:: len(abstracts) // arguments.texts][: arguments.texts]
    listed = entries()
    with contextlib.ExitStack() as stack:
        gannets = {
            precision: Gannet(stack.enter_context(serving("embedder", precision=precision)))
            for precision in ("int8", "fp32")
        }
        systems = {entry.label: _opened(entry, gannets, stack) for entry in listed}
        measured = _rounds(systems, texts, arguments.rounds, arguments.single)
        quality = {} if arguments.no_ndcg else {name: _ndcg(one, scifact, abstracts) for name, one in gannets.items()}
    tokens = gannets["int8"].token_counts
    roofline = _roofline(round(statistics.median(tokens)))
    rows = _rows(listed, measured, sum(tokens), _cosines(measured))
    versions = {name: one.versions for name, one in systems.items() if isinstance(one, Worker)}
    _print(rows)
    about = {"texts": len(texts), "tokens": sum(tokens), "rounds": arguments.rounds, "int8 roofline tokens/s": roofline}
    about |= {f"nDCG@10 {name}": value for name, value in quality.items()}
    print("\n" + "\n".join(f"{name}: {value:,.4g}" for name, value in about.items()) + "\n")
    claims = _claims(listed, measured, roofline / sum(tokens), quality)
    report.write("embed", [*rows, about, {"versions": versions}], claims)


def _opened(entry: Entry, gannets: Mapping[str, Gannet], stack: contextlib.ExitStack) -> System:
    if entry.open is None:
        return gannets[entry.precision]
    peer, arguments = entry.open()
    return Worker(stack.enter_context(peer), arguments)


def _rounds(systems: Mapping[str, System], texts: Sequence[str], rounds: int, single: int) -> dict[str, Measured]:
    for system in systems.values():
        system.take(texts[:WARM_TEXTS])
        system.embed(want_vectors=False)
        system.take(texts)
    measured = {label: Measured() for label in systems}
    for number, (label, system) in itertools.product(range(rounds), systems.items()):
        one = system.embed(want_vectors=number == 0)
        measured[label].passes.append(one)
        measured[label].single_s += system.one_by_one(single)
        print(f"round {number + 1}: {label}: {len(texts) / one.seconds:.1f} documents/s", flush=True)
    return measured


def _cosines(measured: Mapping[str, Measured]) -> dict[str, NDArray[np.float32]]:
    """Each system's agreement with the reference, text by text.

    Raises:
        SystemExit: a float32 system computes something else; its speed would be no comparison.
    """
    vectors = {label: one.passes[0].vectors for label, one in measured.items()}
    reference = vectors[REFERENCE]
    assert reference is not None
    cosines: dict[str, NDArray[np.float32]] = {}
    for label, some in vectors.items():
        assert some is not None
        lengths = np.linalg.norm(some, axis=1) * np.linalg.norm(reference, axis=1)
        cosines[label] = np.sum(some * reference, axis=1) / lengths
        if label.endswith("fp32") and cosines[label].min() < FP32_COSINE_MIN:
            raise SystemExit(f"{label}: a vector is {cosines[label].min():.4f} to {REFERENCE}'s: not the same work")
    return cosines


def _rows(
    listed: Sequence[Entry], measured: Mapping[str, Measured], tokens: int, cosines: Mapping[str, NDArray[np.float32]]
) -> list[dict[str, Any]]:
    ratio = _ratios(measured)
    rows: list[dict[str, Any]] = []
    for entry in listed:
        one = measured[entry.label]
        seconds = statistics.median(each.seconds for each in one.passes)
        p50, p99 = np.percentile(np.array(one.single_s) * 1e3, [50, 99])
        cosine = cosines[entry.label]
        rows.append(
            {
                "system": entry.name,
                "precision": entry.precision,
                "documents/s": len(cosine) / seconds,
                "tokens/s": tokens / seconds,
                "× ST fp32": ratio(entry.label, REFERENCE),
                "one document p50 ms": float(p50),
                "p99 ms": float(p99),
                "peak RSS MB": one.passes[-1].peak_rss_mb,
                "cosine mean": float(cosine.mean()),
                "min": float(cosine.min()),
                "documents/s of each round": [round(len(cosine) / each.seconds, 1) for each in one.passes],
            }
        )
    return rows


def _ratios(measured: Mapping[str, Measured]) -> Ratio:
    def ratio(faster: str, slower: str) -> float:
        pairs = zip(measured[faster].passes, measured[slower].passes, strict=True)
        return statistics.median(other.seconds / one.seconds for one, other in pairs)

    return ratio


def _claims(
    listed: Sequence[Entry], measured: Mapping[str, Measured], ideal_s: float, quality: Mapping[str, float]
) -> list[report.Claim]:
    ratio = _ratios(measured)
    fastest = {label: statistics.median(each.seconds for each in one.passes) for label, one in measured.items()}

    def best(*, ours: bool = False, bare: bool = False, precision: str | None = None) -> str:
        return min(
            (
                entry.label
                for entry in listed
                if entry.ours == ours and entry.bare == bare and precision in (None, entry.precision)
            ),
            key=fastest.__getitem__,
        )

    own, peer = best(ours=True), best()
    claims = [
        report.Claim(name=f"{own} / {REFERENCE}", value=ratio(own, REFERENCE), target=3.2),
        report.Claim(name=f"{own} / the best of the others: {peer}", value=ratio(own, peer), target=1.8),
    ]
    for precision in ("int8", "fp32"):
        mine, theirs = best(ours=True, precision=precision), best(precision=precision)
        loop = best(bare=True, precision=precision)
        claims += [
            report.Claim(name=f"equal precision: {mine} / {theirs}", value=ratio(mine, theirs), target=1.2),
            report.Claim(name=f"{mine} / the best bare loop: {loop}", value=ratio(mine, loop), target=0.95),
        ]
    share = 1 / (fastest["gannet, int8"] * ideal_s)
    claims.append(report.Claim(name="gannet, int8: share of the int8 roofline", value=share, target=0.6))
    if quality:
        change = abs(quality["int8"] - quality["fp32"])
        claims.append(report.Claim(name="SciFact nDCG@10, |int8 − fp32|", value=change, target=0.005, at_least=False))
    return claims


def _roofline(tokens: int) -> float:
    """The bound of all cores at once: side by side they share caches, memory and clock, as two texts of ours do."""
    cores = cores_available()
    with ThreadPoolExecutor(cores) as pool:
        return sum(pool.map(int8_roofline_tokens_per_s, [MINILM_L6] * cores, [tokens] * cores))


def _ndcg(gannet: Gannet, scifact: datasets.Dataset, abstracts: Mapping[str, str]) -> float:
    """Mean nDCG@10 of exact search over the whole corpus; vectors are kept by the model's digest, which determines them."""
    kept = VECTORS / f"scifact-{gannet.model_digest[:16]}.npz"
    if not kept.is_file():
        print("embedding the whole corpus ...", flush=True)
        VECTORS.mkdir(parents=True, exist_ok=True)
        passages = gannet.passages(list(abstracts.values()))
        queries = gannet.queries(list(scifact.queries.values()))
        np.savez(kept, passages=passages, queries=queries)
    loaded: Mapping[str, NDArray[np.float32]] = np.load(kept)
    scores = loaded["queries"] @ loaded["passages"].T
    names = list(abstracts)
    values: list[float] = []
    for row, query in zip(scores, scifact.queries, strict=True):
        ranked = [names[at] for at in np.argsort(-row, kind="stable")[:10]]
        values.append(metrics.ndcg(ranked, scifact.qrels[query], 10))
    return statistics.fmean(values)


def _print(rows: Sequence[Mapping[str, Any]]) -> None:
    shown = [{name: value for name, value in row.items() if not isinstance(value, list)} for row in rows]
    shown.sort(key=lambda row: -row["documents/s"])
    for precision in ("fp32", "int8"):
        print(f"\nequal precision, {precision}:\n")
        print(report.table([row for row in shown if row["precision"] == precision]))
    best: dict[str, Mapping[str, Any]] = {}
    for row in shown:
        best.setdefault(row["system"].partition(" (")[0].partition(",")[0], row)
    print("\neach system at its best:\n")
    print(report.table(list(best.values())))


if __name__ == "__main__":
    main()
