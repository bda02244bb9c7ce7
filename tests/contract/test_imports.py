"""Who may import whom: import-linter's contracts, and the rules that only a syntax tree can show."""

import ast
import os
import subprocess
import sys
from pathlib import Path

from contract.source_tree import ROOT, imported, package_modules, packages, parsed, relative


def test_imports_of_the_checkout_keep_every_contract():
    """Import-linter finds no broken contract in this checkout's packages."""
    paths = os.pathsep.join(map(str, [*packages(), ROOT / "libs/protos/src"]))
    linter = Path(sys.executable).with_name("lint-imports")
    run = subprocess.run(
        [linter, "--no-logo", "--no-cache", "--config", ROOT / "pyproject.toml"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_environment_outside_of_config_modules_is_not_read():
    """`os.environ` and `os.getenv` stand in config.py alone."""
    readers = {
        relative(path)
        for path in package_modules()
        if path.name != "config.py"
        and (_reads_environment(parsed(path)) or {"os.environ", "os.getenv"} & {*imported(path)})
    }
    assert readers == set()


def test_opentelemetry_sdk_outside_of_telemetry_is_not_imported():
    """The SDK and its exporters are set up in gannet_service.telemetry alone; everyone else uses the API."""
    users = {
        relative(path)
        for path in package_modules()
        if any(name.startswith(("opentelemetry.sdk", "opentelemetry.exporter")) for name in imported(path))
    }
    assert users == {"libs/service/src/gannet_service/telemetry.py"}


def test_imports_within_a_package_are_absolute():
    """No relative imports: the rules above read full names."""
    relative_imports = {
        relative(path)
        for path in package_modules()
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.ImportFrom) and node.level
    }
    assert relative_imports == set()


def _reads_environment(tree: ast.Module) -> bool:
    return any(
        isinstance(node, ast.Attribute)
        and node.attr in ("environ", "getenv", "environb", "putenv")
        and isinstance(node.value, ast.Name)
        and node.value.id == "os"
        for node in ast.walk(tree)
    )
