"""Breaks every promise of the catalogue in a copy of the tree and reports whether its test noticed: `python tests/mutations/run.py`.

Options: a word that must be in the promise, to run few. Exit code 1 if a break survives, or no longer applies.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from catalogue import MUTATIONS
from mutation import Mutation

ROOT = Path(__file__).resolve().parents[2]
PASSED, FAILED = 0, 1
TEST_TIMEOUT_S = 90
RUN_TIMEOUT_S = 120
LEFT_OUT = shutil.ignore_patterns(
    ".*cache",
    ".git",
    ".gannet",
    ".hypothesis",
    ".venv",
    "__pycache__",
    "node_modules",
    "dist",
    "build",
    "bench-results",
)
PYTEST = ("-m", "pytest", "-x", "-p", "no:cacheprovider", f"--timeout={TEST_TIMEOUT_S}")


def main() -> int:
    """Run the catalogue; the exit code."""
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    chosen = [mutation for mutation in MUTATIONS if word in mutation.promise]
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="gannet-mutations-") as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(ROOT, tree, ignore=LEFT_OUT)
        broken = [test for test in sorted({mutation.test for mutation in chosen}) if _run(tree, test) != PASSED]
        for test in broken:
            _say(f"fails without any break: {test}")
        killed = [] if broken else [mutation for mutation in chosen if _killed(tree, mutation)]
    _say(f"{len(killed)} of {len(chosen)} killed in {time.monotonic() - started:.0f} s")
    return 0 if len(killed) == len(chosen) else 1


def _killed(tree: Path, mutation: Mutation) -> bool:
    """Apply, run, restore; whether the test failed."""
    originals = {file: (tree / file).read_text(encoding="utf-8") for file, _, _ in mutation.edits}
    try:
        for file, old, new in mutation.edits:
            text = (tree / file).read_text(encoding="utf-8")
            if old and text.count(old) != 1:
                _say(f"does not apply ({text.count(old)} places): {mutation.promise}")
                return False
            (tree / file).write_text(text.replace(old, new) if old else f"{text}\n{new}\n", encoding="utf-8")
        killed = _run(tree, mutation.test) == FAILED
    finally:
        for file, text in originals.items():
            (tree / file).write_text(text, encoding="utf-8")
    _say(f"{'killed  ' if killed else 'SURVIVED'} {mutation.promise}")
    return killed


def _run(tree: Path, test: str) -> int:
    """Pytest's exit code on the packages of `tree`, which go before the installed ones; a hung run has failed."""
    sources = [str(path) for parent in ("libs", "services") for path in sorted((tree / parent).glob("*/src"))]
    # No bytecode: a break and its repair may fall within one second, and stale bytecode would hide either.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sources), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, *PYTEST, test]
    try:
        run = subprocess.run(
            command, cwd=tree, env=environment, capture_output=True, timeout=RUN_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return FAILED
    if run.returncode not in (PASSED, FAILED):  # a break must be noticed by a test, not by the interpreter
        _say(run.stdout.decode()[-2000:])
    return run.returncode


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
