"""The demo's documents, written from what every Python has: the language reference's topics and the library's docstrings.

Nothing is imported for its docstrings: modules are parsed, since importing some opens a browser or a window.
"""

import ast
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from pydoc_data.topics import topics

# Enough to say something; a module with less than this has no documentation worth finding.
MODULE_CHARACTERS_MIN = 300
# The longest modules would take a third of the time to ingest: they end after this many characters, between two entries.
MODULE_CHARACTERS_MAX = 4_000
# Not documentation for users of the library.
_LEFT_OUT = frozenset(
    {"antigravity", "encodings", "ensurepip", "idlelib", "lib2to3", "pydoc_data", "test", "this", "turtledemo"}
)

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def write_corpus(folder: Path) -> int:
    """Write the documents below `folder`; files that have the right content already are left alone. Gives their number."""
    count = 0
    for name, text in _documents():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        content = text.encode()
        if not path.is_file() or path.read_bytes() != content:
            path.write_bytes(content)
        count += 1
    return count


def _documents() -> Iterator[tuple[str, str]]:
    for topic, text in sorted(topics.items()):
        yield f"reference/{topic}.rst", text.strip() + "\n"
    for module, path in _modules():
        text = module_text(module, path.read_text(encoding="utf-8"))
        if len(text) >= MODULE_CHARACTERS_MIN:
            yield f"library/{module}.md", text


def _modules() -> Iterator[tuple[str, Path]]:
    """Public modules of the standard library that have source, by name."""
    for name in sorted(sys.stdlib_module_names - _LEFT_OUT):
        if name.startswith("_"):
            continue
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
            continue
        origin = Path(spec.origin)
        yield name, origin
        if origin.name != "__init__.py":
            continue
        for path in sorted(origin.parent.rglob("*.py")):
            parts = path.relative_to(origin.parent).with_suffix("").parts
            if not any(part.startswith("_") or part in _LEFT_OUT for part in parts):
                yield ".".join((name, *parts)), path


def module_text(module: str, source: str) -> str:
    """The docstrings of a module, its public classes and functions, as Markdown with a heading for each."""
    tree = ast.parse(source)
    text = f"# {module}\n\n{ast.get_docstring(tree) or ''}".rstrip() + "\n"
    for heading, docstring in _entries(tree):
        entry = f"\n## {heading}\n\n{docstring}\n"
        if len(text) + len(entry) > MODULE_CHARACTERS_MAX:
            break
        text += entry
    return text


def _entries(tree: ast.Module | ast.ClassDef, prefix: str = "") -> Iterator[tuple[str, str]]:
    for node in tree.body:
        if not isinstance(node, Definition) or node.name.startswith("_"):
            continue
        name = f"{prefix}{node.name}"
        docstring = ast.get_docstring(node)
        if docstring:
            yield (
                (f"class {name}" if isinstance(node, ast.ClassDef) else f"{name}({ast.unparse(node.args)})"),
                docstring,
            )
        if isinstance(node, ast.ClassDef):
            yield from _entries(node, f"{name}.")
