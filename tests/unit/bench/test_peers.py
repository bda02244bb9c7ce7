"""What keeps a comparison honest when another system misbehaves: its errors are named, its environment is the pinned one."""

import importlib
import shutil
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"
WORKER = """
import os
from line_protocol import serve

def fail():
    raise ValueError("no such model")

serve({"say": lambda text: print("loading 99 %") or {"text": text}, "fail": fail, "die": lambda: os._exit(1)})
"""


@pytest.fixture
def peers(monkeypatch, tmp_path):
    """The module, with folders of the test."""
    monkeypatch.syspath_prepend(str(BENCH))
    module = importlib.import_module("peers")
    for name in ("ENVS", "WORKERS", "HOME"):
        monkeypatch.setattr(module, name, tmp_path / name)
        (tmp_path / name).mkdir()
    shutil.copyfile(BENCH / "peer_workers" / "line_protocol.py", module.WORKERS / "line_protocol.py")
    (module.WORKERS / "worker.py").write_text(WORKER)
    return module


def test_call_worker_that_prints_gets_its_reply_alone(peers) -> None:
    """What a library prints is not taken for a reply."""
    with peers.Peer("chatty", "worker") as peer:
        assert peer.call("say", text="ž") == {"text": "ž"}


def test_call_that_raises_is_named_and_the_next_one_is_answered(peers) -> None:
    """An exception in a worker fails its call alone, with what the worker wrote."""
    with peers.Peer("failing", "worker") as peer:
        with pytest.raises(peers.PeerFailed, match=r"failing: fail: ValueError: no such model\n(.|\n)*Traceback"):
            peer.call("fail")
        assert peer.call("say", text="still here") == {"text": "still here"}


def test_call_worker_that_dies_fails_instead_of_waiting(peers) -> None:
    """A dead worker is an error at once, and at every later call."""
    with peers.Peer("dying", "worker") as peer:
        for _ in range(2):
            with pytest.raises(peers.PeerFailed, match=r"dying: .*the process ended"):
                peer.call("die")


def test_ensure_env_installs_again_only_when_the_pins_change(peers, monkeypatch) -> None:
    """The same list is installed once; another one replaces the whole environment."""
    commands: list[list[str]] = []

    def installed(name: str, command: list[str]) -> None:
        commands.append(command)
        (peers.HOME / name).mkdir(exist_ok=True)

    monkeypatch.setattr(peers, "_installed", installed)
    pins = peers.ENVS / "some.txt"
    pins.write_text("one==1\n")
    python = peers.ensure_env("some")
    first = list(commands)
    peers.ensure_env("some")
    assert commands == first
    (python.parents[1] / "of the old list").touch()
    pins.write_text("one==2\n")
    peers.ensure_env("some")
    assert len(commands) == 2 * len(first)
    assert not (python.parents[1] / "of the old list").exists()


def test_ensure_env_that_failed_is_tried_again(peers, monkeypatch) -> None:
    """A half-made environment is never used."""

    def failing(name: str, command: list[str]) -> None:
        (peers.HOME / name).mkdir(exist_ok=True)
        raise SystemExit(f"{name}: {command[-1]}")

    monkeypatch.setattr(peers, "_installed", failing)
    (peers.ENVS / "some.txt").write_text("one==1\n")
    for _ in range(2):
        with pytest.raises(SystemExit, match="some"):
            peers.ensure_env("some")
