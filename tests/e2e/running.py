"""The real stack, as `gannet up` runs it."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

STOP_TIMEOUT_S = 20


@dataclass(frozen=True, kw_only=True)
class RunningStack:
    """A stack that serves."""

    target: str
    api_key: str
    home: Path
    process: "subprocess.Popen[str]"

    def pids(self) -> dict[str, int]:
        """The pid of each service, as it is now."""
        services = json.loads((self.home / "run" / "stack.json").read_text())["services"]
        return {name: service["pid"] for name, service in services.items()}

    def stop(self) -> int:
        """Stop everything in order and give the exit code."""
        self.process.terminate()
        return self.process.wait(STOP_TIMEOUT_S)

    def close(self) -> None:
        """Give back the pipe of a stack that has ended."""
        assert self.process.stdout is not None
        self.process.stdout.close()


def start_stack(home: Path, models_dir: Path) -> RunningStack:
    """Run `gannet up` on free ports with an empty home and the shared models; returns when all of it serves."""
    home.mkdir(parents=True, exist_ok=True)
    models_dir.mkdir(parents=True, exist_ok=True)
    (home / "models").symlink_to(models_dir)
    command = [Path(sys.executable).with_name("gannet"), "--home", home, "up", "--port", "0"]
    with (home / "up.stderr").open("w") as stderr:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True)
    assert process.stdout is not None
    first_line = process.stdout.readline()
    if not first_line.startswith("Gannet serves on "):
        process.kill()
        pytest.fail(f"gannet up said {first_line!r}\n{(home / 'up.stderr').read_text()}")
    stack = json.loads((home / "run" / "stack.json").read_text())
    api_key = (home / "api-key").read_text().strip()
    return RunningStack(target=stack["target"], api_key=api_key, home=home, process=process)
