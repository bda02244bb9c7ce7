"""`make bench-kernels`: every kernel beside NumPy and the libraries made for its work, in one process, on one thread.

All contenders of a case take turns, round by round; a figure is the median of their rounds, ratios are within one run. The
libraries come from an environment of the bench's own; NumPy and Numba are ours, so that all stand on the same.
"""

import gc
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

# One thread against one thread: NumPy's BLAS would take all cores.
os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import peers
import report

ROUNDS = 15
SAMPLE_S = 0.002
SCAN_ROUNDS = 5
OURS = "gannet"
FORMULA = "NumPy, pair by pair"
READ = "Numba, sum of all components"


def main() -> None:
    """Measure every case and write the claims."""
    libraries = peers.ensure_env("kernels").parents[1] / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}"
    sys.path.append(str(libraries / "site-packages"))
    import kernel_cases  # noqa: PLC0415 - imports the libraries

    rows: list[dict[str, Any]] = []
    for case in kernel_cases.cases():
        rows += measured(case.kernel, case.size, case.contenders, rounds=ROUNDS)
    rows += measured("exact_top_k", kernel_cases.SCAN_SIZE, kernel_cases.scan(), rounds=SCAN_ROUNDS)
    print(report.table(rows))
    report.write("kernels", rows, claims(rows, kernel_cases.SCAN_SIZE, kernel_cases.HUNDRED_SIZE))


def measured(
    kernel: str, size: str, contenders: Mapping[str, Callable[[], object]], *, rounds: int
) -> list[dict[str, Any]]:
    """A row per contender: median microseconds, and how many times ours it takes."""
    calls = {name: calibrated(call) for name, call in contenders.items()}
    samples: dict[str, list[float]] = {name: [] for name in contenders}
    # As the services do: the collector need not walk through the libraries of the bench, whose turn it happens to be.
    gc.collect()
    gc.freeze()
    for round_number in range(rounds):
        names = list(contenders)
        shift = round_number % len(names)
        for name in names[shift:] + names[:shift]:
            call, count = contenders[name], calls[name]
            started = time.perf_counter()
            for _ in range(count):
                call()
            samples[name].append((time.perf_counter() - started) / count)
    median = {name: statistics.median(taken) * 1e6 for name, taken in samples.items()}
    return [
        {"kernel": kernel, "size": size, "contender": name, "microseconds": value, "of_ours": value / median[OURS]}
        for name, value in median.items()
    ]


def calibrated(call: Callable[[], object]) -> int:
    """How many calls make a sample; the first ones warm caches and memos up."""
    call()
    started = time.perf_counter()
    call()
    return max(1, round(SAMPLE_S / (time.perf_counter() - started)))


def claims(rows: list[dict[str, Any]], scan: str, hundred: str) -> list[report.Claim]:
    """One per kernel: the best other one's time divided by ours, at the worst size; the scan and NumPy's formula apart."""
    worst: dict[str, float] = {}
    for row in rows:
        if row["contender"] not in (OURS, FORMULA, READ) and row["size"] != scan:
            worst[row["kernel"]] = min(worst.get(row["kernel"], np.inf), row["of_ours"])
    found = {(row["kernel"], row["size"], row["contender"]): row["of_ours"] for row in rows}
    return [
        *(
            report.Claim(name=f"{kernel}: time of the best other ÷ ours", value=ratio, target=1.0)
            for kernel, ratio in worst.items()
        ),
        report.Claim(
            name=f"exact_top_k, {scan}: share of the bandwidth of one thread that sums the same 1.5 GB",
            value=found["exact_top_k", scan, READ],
            target=0.9,
        ),
        report.Claim(
            name="cosine of 100 documents, and the best 25: NumPy's formula pair by pair ÷ ours",
            value=found["exact_top_k", hundred, FORMULA],
            target=10.0,
        ),
    ]


if __name__ == "__main__":
    main()
