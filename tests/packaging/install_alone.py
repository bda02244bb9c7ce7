"""Installs every package alone into an empty environment and imports all of its modules.

A shared environment hides a dependency that a package forgot to declare: another package brought it. Here each package gets an
environment of its own with just what it declares, third-party versions as pinned. Our own packages come from wheels built here and
never from an index.
"""

import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
OURS = "gannet-"
# __main__ runs; everything else must import.
IMPORT_ALL = """
import importlib, pkgutil, sys
package = importlib.import_module(sys.argv[1])
found = pkgutil.walk_packages(package.__path__, package.__name__ + ".")
names = [m.name for m in found if "__main__" not in m.name and ".migrations" not in m.name]
for name in names:
    importlib.import_module(name)
print(len(names) + 1)
"""


def projects() -> dict[str, tuple[Path, dict[str, Any]]]:
    """Every package of ours: name → (folder, its [project] table)."""
    found = {}
    for path in sorted([*ROOT.glob("libs/*/pyproject.toml"), *ROOT.glob("services/*/pyproject.toml")]):
        project = tomllib.loads(path.read_text())["project"]
        found[project["name"]] = (path.parent, project)
    return found


def requirements(name: str, known: dict[str, tuple[Path, dict[str, Any]]]) -> tuple[set[str], set[str]]:
    """What a package needs, all the way down: (our packages, third-party requirements)."""
    ours: set[str] = set()
    third: set[str] = set()
    pending = [name]
    while pending:
        bare = pending.pop()
        if bare in ours:
            continue
        ours.add(bare)
        project = known[bare][1]
        # Of the two runtimes the one for CPUs is installed here.
        wanted = [*project.get("dependencies", []), *project.get("optional-dependencies", {}).get("cpu", [])]
        for requirement in wanted:
            needed = re.split(r"[\[<>=!~; ]", requirement, maxsplit=1)[0]
            if needed.startswith(OURS):
                pending.append(needed)
            else:
                third.add(requirement)
    return ours, third


def constraints(folder: Path) -> Path:
    """The pinned versions without their hashes: our wheels have none."""
    lines = [
        line.split(" \\")[0]
        for line in (ROOT / "requirements-dev.lock").read_text().splitlines()
        if re.match(r"\w", line)
    ]
    path = folder / "constraints.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


def run(*command: object) -> str:
    """Run a command; on failure say what it said."""
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, cwd=tempfile.gettempdir(), check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def main() -> None:
    """Check every package."""
    known = projects()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wheels: dict[str, Path] = {}
        for package, (path, _) in known.items():
            run(
                BIN / "uv",
                "build",
                "--wheel",
                "--no-build-isolation",
                "--python",
                sys.executable,
                "--out-dir",
                folder / package,
                path,
            )
            wheels[package] = next((folder / package).glob("*.whl"))
        pins = constraints(folder)
        for package in known:
            ours, third = requirements(package, known)
            environment = folder / "environments" / package
            python = environment / "bin" / "python"
            run(BIN / "uv", "venv", "--quiet", "--python", sys.executable, environment)
            install = (BIN / "uv", "pip", "install", "--quiet", "--python", python)
            run(*install, "--constraint", pins, *sorted(third))
            run(*install, "--no-deps", "--no-index", *(wheels[other] for other in sorted(ours)))
            module = "gannet" if package == "gannet-protos" else package.replace("-", "_")
            count = run(python, "-c", IMPORT_ALL, module).strip()
            print(f"{package}: installed alone, {count} modules imported", flush=True)


if __name__ == "__main__":
    main()
