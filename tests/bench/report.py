"""What every benchmark leaves behind: `bench-results/<name>.json` with the machine, versions, raw rows and claims."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "bench-results"
VERSIONS_OF = ("onnxruntime", "tokenizers", "numpy", "numba", "grpcio", "qdrant-client", "qdrant-edge-py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A figure that was promised: `value` against `target`; `at_least` says which side holds."""

    name: str
    value: float
    target: float
    at_least: bool = True

    @property
    def holds(self) -> bool:
        """Whether the promise is kept."""
        return self.value >= self.target if self.at_least else self.value <= self.target


def write(name: str, rows: Sequence[Mapping[str, Any]], claims: Sequence[Claim]) -> None:
    """Write the result file and print the claims; a claim that falls short is said, and is no failure."""
    RESULTS.mkdir(exist_ok=True)
    result = {
        "name": name,
        "commit": commit(),
        "machine": machine(),
        "versions": {package: metadata.version(package) for package in VERSIONS_OF}
        | {"python": sys.version.split()[0]},
        "rows": list(rows),
        "claims": [asdict(claim) | {"holds": claim.holds} for claim in claims],
    }
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    for claim in claims:
        sign = "≥" if claim.at_least else "≤"
        print(f"{'holds' if claim.holds else 'FALLS SHORT'}: {claim.name} = {claim.value:.4f} ({sign} {claim.target})")
    print(f"commit {result['commit']}; written to {path.relative_to(ROOT)}")


def commit() -> str:
    """The commit that was measured, with a mark if the tree differs from it."""
    revision = subprocess.run(
        ["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    dirty = subprocess.run(
        ["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    return revision.stdout.strip() + ("+changes" if dirty.strip() else "")


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    model = ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {"cpu": model, "cores": len(os.sched_getaffinity(0)), "system": platform.platform()}


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as a Markdown table; floats with four digits."""
    columns = list(rows[0])
    cells = [
        [f"{row[column]:.4f}" if isinstance(row[column], float) else str(row[column]) for column in columns]
        for row in rows
    ]
    lines = [columns, ["---"] * len(columns), *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
