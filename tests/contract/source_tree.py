"""The project's files as the contract tests see them: those of the checkout that the tests are in."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STUBS = ROOT / "libs/protos/src"


def packages() -> list[Path]:
    """The source folder of every package that is written by hand."""
    return sorted(path for parent in ("libs", "services") for path in (ROOT / parent).glob("*/src") if path != STUBS)


def modules() -> list[Path]:
    """Every Python file that is written by hand: of packages, of tests and of tools."""
    tests = (path for path in (ROOT / "tests").rglob("*.py") if "node_modules" not in path.parts)
    return sorted([*package_modules(), *tests, STUBS.parent / "generate.py"])


def package_modules() -> list[Path]:
    """Every Python file of a package that is written by hand."""
    return sorted(path for package in packages() for path in package.rglob("*.py"))


def relative(path: Path) -> str:
    """The path as a message names it."""
    return str(path.relative_to(ROOT))


@cache
def parsed(path: Path) -> ast.Module:
    """The file's syntax tree."""
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(path: Path) -> Iterator[str]:
    """Full names of all that the file imports, names taken from a module included."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
