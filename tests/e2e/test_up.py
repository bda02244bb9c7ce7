"""`gannet up`: how it ends."""

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

from e2e.running import STOP_TIMEOUT_S, RunningStack, start_stack

GANNET = Path(sys.executable).with_name("gannet")


def gone(pidfds: list[int]) -> list[int]:
    """The processes that have ended, when all have or time is up."""
    poll = select.poll()
    for pidfd in pidfds:
        poll.register(pidfd, select.POLLIN)
    ended: set[int] = set()
    while len(ended) < len(pidfds) and (events := poll.poll(STOP_TIMEOUT_S * 1000)):
        for pidfd, _ in events:
            poll.unregister(pidfd)
            os.close(pidfd)
            ended.add(pidfd)
    return [pidfd for pidfd in pidfds if pidfd in ended]


def open_pids(stack: RunningStack) -> list[int]:
    """A handle on each child, which no other process can take over."""
    return [os.pidfd_open(pid) for pid in stack.pids().values()]


def test_up_interrupted_stops_everything_and_exits_0(tmp_path, models_dir):
    """One Ctrl-C ends all processes in order; until then a second `up` of the same home is refused."""
    stack = start_stack(tmp_path / "home", models_dir)
    pidfds = open_pids(stack)
    second = subprocess.run(
        [GANNET, "--home", stack.home, "up", "--port", "0"], capture_output=True, text=True, check=False, timeout=60
    )
    stack.process.send_signal(signal.SIGINT)

    assert stack.process.wait(STOP_TIMEOUT_S) == 0
    assert (second.returncode, second.stdout) == (1, "")
    assert "another gannet runs a stack in" in second.stderr
    assert gone(pidfds) == pidfds
    assert not (stack.home / "run" / "stack.json").exists()
    stack.close()


def test_up_killed_leaves_no_process_behind(tmp_path, models_dir):
    """The children notice that their parent is gone."""
    stack = start_stack(tmp_path / "home", models_dir)
    pidfds = open_pids(stack)
    stack.process.kill()
    stack.process.wait(STOP_TIMEOUT_S)

    assert gone(pidfds) == pidfds
    stack.close()
