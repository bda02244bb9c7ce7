"""Modules and functions stay small enough to be read in one go."""

import ast

from contract.source_tree import modules, package_modules, parsed, relative

MODULE_LINES_MAX = 400
FUNCTION_LINES_MAX = 70


def test_modules_of_the_checkout_are_within_400_lines():
    """A longer one would need a reason in its docstring, and a change here that names it."""
    sizes = {relative(path): len(path.read_text(encoding="utf-8").splitlines()) for path in modules()}
    assert {path: lines for path, lines in sizes.items() if lines > MODULE_LINES_MAX} == {}


def test_functions_of_packages_are_within_70_lines():
    """Counted from the line of `def` to the last line of the body, docstring included."""
    sizes = {
        f"{relative(path)}:{node.name}": node.end_lineno - node.lineno + 1
        for path in package_modules()
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name: lines for name, lines in sizes.items() if lines > FUNCTION_LINES_MAX} == {}
