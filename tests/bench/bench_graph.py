"""`make bench-graph`: tokens a second of the built-in embedder's graphs alone, and their share of the int8 bound.

One thread, one text a run, no tokenising, no pooling; the graphs and the bound take turns.
"""

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import report
from roofline import int8_roofline_tokens_per_s

from gannet_inference.manifest import load_manifest
from gannet_inference.session import ModelSession
from gannet_inference.store import ensure_built
from gannet_inference.tokens import TokenIds
from gannet_inference.weights import read_architecture

MODEL = "all-minilm-l6-v2"
LENGTHS = (16, 64, 128, 256)
TURNS = 3
TURN_S = 0.6
SHARE_MIN = 0.6
RARE_WORDS = 2000


def main() -> None:
    """Measure, print and write."""
    models = report.ROOT / ".gannet" / "models"
    entry = load_manifest().entry(MODEL)
    sessions = {
        precision: ModelSession(ensure_built(entry, precision, models).model_file, model=MODEL, threads=1)
        for precision in ("int8", "fp32")
    }
    config = next(file for file in (models / ".sources").glob("*/config.json"))
    architecture = read_architecture(config.parent, model=MODEL)
    rows: list[dict[str, Any]] = []
    for tokens in LENGTHS:
        text = _text(tokens)
        measured: dict[str, list[float]] = {"int8": [], "fp32": [], "bound": []}
        for _ in range(TURNS):
            for precision, session in sessions.items():
                measured[precision].append(tokens / _median_s(partial(session.run, text)))
            measured["bound"].append(int8_roofline_tokens_per_s(architecture, tokens))
        speeds = {name: statistics.median(values) for name, values in measured.items()}
        rows.append(
            {"tokens": tokens}
            | {f"{name} tokens/s": round(speed) for name, speed in speeds.items()}
            | {"share of the bound": speeds["int8"] / speeds["bound"]}
        )
    print(report.table(rows))
    shares = [row["share of the bound"] for row in rows]
    report.write(
        "graph",
        rows,
        [report.Claim(name="mean share of the int8 bound", value=statistics.mean(shares), target=SHARE_MIN)],
    )


def _text(tokens: int) -> TokenIds:
    ids = np.random.default_rng(tokens).integers(RARE_WORDS, 20_000, tokens)
    return TokenIds(ids=ids, type_ids=np.zeros_like(ids), truncated=False)


def _median_s(run: Callable[[], object]) -> float:
    run()
    runs_s: list[float] = []
    while sum(runs_s) < TURN_S:
        started = time.perf_counter()
        run()
        runs_s.append(time.perf_counter() - started)
    return statistics.median(runs_s)


if __name__ == "__main__":
    main()
