"""Other systems beside ours in one measurement: each in an environment and a process of its own, idle while another one runs.

An environment is made from the pinned list `envs/<name>.txt` when it is first needed, in `.gannet/bench-envs/<name>`; nothing of it
is installed for users. A worker (`peer_workers/*.py`) answers one JSON line per call, and takes the time itself.
"""

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import filelock
import report

ENVS = Path(__file__).parent / "envs"
WORKERS = Path(__file__).parent / "peer_workers"
HOME = report.ROOT / ".gannet" / "bench-envs"
INSTALL_TIMEOUT_S = 1800
CALL_TIMEOUT_S = 600
STOP_TIMEOUT_S = 10
LOG_LINES = 15


def ensure_env(name: str) -> Path:
    """The interpreter of an environment that holds exactly `envs/<name>.txt`, made first where it is not there or is another.

    Raises:
        SystemExit: pip failed; its last lines are in the message.
    """
    pins = ENVS / f"{name}.txt"
    home, digest = HOME / name, hashlib.sha256(pins.read_bytes()).hexdigest()
    python, stamp = home / "bin" / "python", home / ".pins"
    HOME.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(HOME / f".{name}.lock", timeout=INSTALL_TIMEOUT_S):
        if stamp.is_file() and stamp.read_text() == digest:
            return python
        print(f"installing the packages of envs/{pins.name} ...", flush=True)
        shutil.rmtree(home, ignore_errors=True)
        _installed(name, [sys.executable, "-m", "venv", str(home)])
        # The list is complete, and without --no-deps torch would bring its CUDA packages along.
        _installed(name, [str(python), "-m", "pip", "install", "--no-deps", "--no-input", "-r", str(pins)])
        stamp.write_text(digest)
    return python


def _installed(name: str, command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False)
    if done.returncode:
        lines = (done.stdout + done.stderr).strip().splitlines()[-LOG_LINES:]
        raise SystemExit(f"{name}: the environment cannot be made:\n" + "\n".join(lines))


class PeerFailed(Exception):
    """A worker failed or died; the message says where, with the end of what it wrote."""


class Peer:
    """A worker process."""

    def __init__(
        self, name: str, worker: str, *, python: Path | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        """Starts `peer_workers/<worker>.py`.

        Args:
            name: what tables and errors call it.
            worker: the script.
            python: the interpreter; None for this one.
            environment: variables for it beside the inherited ones.
        """
        self.name = name
        HOME.mkdir(parents=True, exist_ok=True)
        self._log = HOME / f"{name.replace(' ', '-').replace('/', '-')}.log"
        # This folder's datasets.py would hide the package of that name.
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        quiet = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "CUDA_VISIBLE_DEVICES": "", "HF_HOME": str(HOME / ".hf")}
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [str(python or sys.executable), str(WORKERS / f"{worker}.py")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**inherited, **quiet, **(environment or {})},
            )

    def __enter__(self) -> Self:
        """The peer; it is closed at the end."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes it."""
        self.close()

    def call(self, operation: str, *, timeout_s: float = CALL_TIMEOUT_S, **fields: Any) -> dict[str, Any]:
        """Sends one request and waits for its reply.

        Raises:
            PeerFailed: the worker raised, died, or took too long and was killed.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        watchdog = threading.Timer(timeout_s, self._process.kill)
        watchdog.start()
        try:
            self._process.stdin.write(json.dumps({"operation": operation, **fields}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            watchdog.cancel()
        reply = json.loads(line) if line else {"error": "the process ended or was killed for taking too long"}
        if "error" in reply:
            tail = "\n".join(self._log.read_text().splitlines()[-LOG_LINES:])
            raise PeerFailed(f"{self.name}: {operation}: {reply['error']}\n{tail}")
        return reply

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
