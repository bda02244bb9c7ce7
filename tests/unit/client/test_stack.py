"""The supervisor with real processes that only serve health."""

import asyncio
import json
import os
import signal
import socket
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from fakes import child as fake_child

from gannet_client.local import child as child_module
from gannet_client.local.child import Child, State, Timing
from gannet_client.local.home import Home, StackFailed
from gannet_client.local.plan import ServicePlan, plan_stack
from gannet_client.local.stack import Stack, running_stack

TIMING = Timing(probe_starting_s=0.02, probe_s=0.05, backoff_min_s=0.01, backoff_max_s=0.02, grace_s=5.0)


class Changes:
    """Remembers the states that children went through, and lets a test wait for one."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, State]] = []
        self._happened = asyncio.Event()

    def __call__(self, child: Child) -> None:
        self.seen.append((child.plan.name, child.state))
        self._happened.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return when `condition` holds after some change."""
        while not condition():
            self._happened.clear()
            await self._happened.wait()


@pytest.fixture
def home(tmp_path) -> Home:
    """An empty home."""
    return Home(tmp_path / "home")


def plan(name: str, mode: str = "serve") -> ServicePlan:
    """A plan for a fake child on a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "CHILD_MODE": mode, "CHILD_PORT": str(port)}
    command = (sys.executable, str(Path(fake_child.__file__)))
    return ServicePlan(name=name, command=command, port=port, environment=environment)


def pid_of(stack: Stack, name: str) -> int:
    """The pid of a running child."""
    (pid,) = (child.pid for child in stack.children if child.plan.name == name)
    assert pid is not None
    return pid


def is_running(pid: int) -> bool:
    """Whether a process exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_stack_all_serving_is_described_and_stopped_at_the_end(home):
    """The stack file says what runs while it runs; afterwards neither the file nor a process is left."""
    with home.locked():
        async with running_stack(home, [plan("a"), plan("gateway")], Changes(), TIMING) as stack:
            await stack.wait_serving(60)
            pids = [pid_of(stack, "a"), pid_of(stack, "gateway")]
            described = json.loads(home.stack_file.read_text())
            assert [service["pid"] for service in described["services"].values()] == pids
            assert home.running_target() == described["target"] == stack.target
            assert all(map(is_running, pids))
            # A Ctrl-C at the terminal is not for them.
            assert [os.getsid(pid) for pid in pids] == pids
    assert not any(map(is_running, pids))
    assert home.running_target() is None


async def test_stack_child_killed_is_started_again_and_described(home):
    """A crashed child comes back under a new pid, which the stack file names."""
    changes = Changes()
    with home.locked():
        async with running_stack(home, [plan("a")], changes, TIMING) as stack:
            await stack.wait_serving(60)
            (child,) = stack.children
            first = pid_of(stack, "a")
            os.kill(first, signal.SIGKILL)
            await changes.until(lambda: child.restarts == 1 and child.state is State.SERVING)
            assert json.loads(home.stack_file.read_text())["services"]["a"]["pid"] == pid_of(stack, "a") != first
    assert [state for _, state in changes.seen] == [
        State.STARTING,
        State.SERVING,
        State.STOPPED,
        State.RESTARTING,
        State.STARTING,
        State.SERVING,
        State.STOPPED,
    ]


async def test_stack_child_never_serves_fails_with_its_last_words(home):
    """A child that cannot use its configuration stops the stack, which says why and where to look."""
    with pytest.raises(StackFailed) as caught:
        await _run_until_failed(home)
    message = str(caught.value)
    assert "the b cannot use its configuration, 5 times in a row" in message
    assert "unknown setting FISH" in message
    assert str(home.logs / "b.stderr") in message


async def _run_until_failed(home: Home) -> None:
    async with running_stack(home, [plan("b", "fail")], Changes(), TIMING) as stack:
        await stack.wait_serving(60)


async def test_stack_child_ignores_sigterm_is_killed_after_the_grace(home):
    """Nobody outlives the stack."""
    with home.locked():
        timing = Timing(probe_starting_s=0.02, grace_s=0.05)
        async with running_stack(home, [plan("a", "stubborn")], Changes(), timing) as stack:
            await stack.wait_serving(60)
            pid = pid_of(stack, "a")
    assert not is_running(pid)


async def test_stack_body_raises_its_error_comes_out_bare(home):
    """An error of the body is not wrapped."""
    with home.locked(), pytest.raises(KeyError):
        await _raise_in_stack(home)


async def _raise_in_stack(home: Home) -> None:
    async with running_stack(home, [plan("a")], Changes(), TIMING):
        raise KeyError("x")


async def test_stack_not_serving_in_time_names_who_is_late(home):
    """Waiting is bounded."""
    async with running_stack(home, [plan("a", "fail")], Changes(), Timing(backoff_min_s=60)) as stack:
        with pytest.raises(StackFailed, match="not serving after 0 s: a"):
            await stack.wait_serving(0.01)


async def test_child_output_is_bounded(home, monkeypatch):
    """The file of a chatty child keeps the newest output only."""
    monkeypatch.setattr(child_module, "OUTPUT_BYTES_MAX", 1 << 17)
    with home.locked():
        async with running_stack(home, [plan("a", "chatty")], Changes(), TIMING) as stack:
            await stack.wait_serving(60)
    output = home.logs / "a.stderr"
    assert output.stat().st_size <= 1 << 17
    assert output.read_text().endswith("line 19999 of many, to fill the file\n")


def test_home_locked_twice_raises(home):
    """One stack a home."""
    with home.locked(), pytest.raises(StackFailed, match="another gannet runs"), home.locked():
        pass


def test_home_api_key_is_made_once_and_private(home):
    """The key stays, and is for its owner's eyes."""
    assert home.api_key() is None
    key = home.ensure_api_key()

    assert key.startswith("gnt_")
    assert home.ensure_api_key() == home.api_key() == key
    assert stat.S_IMODE(home.api_key_file.stat().st_mode) == 0o600


def test_plan_stack_port_taken_is_named(home):
    """A port that is in use is refused with its number and its user."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(StackFailed, match=rf"port {port} \(gateway\) is taken"):
            plan_stack(home, port, qdrant_url="http://qdrant:6334")


def test_plan_stack_free_ports_are_distinct_and_wired(home):
    """Every service has its own ports, and the gateway knows the others'."""
    plans = {each.name: each for each in plan_stack(home, 0, None)}

    assert list(plans) == ["edge", "embedder", "reranker", "generator", "gateway"]
    gateway = plans["gateway"].environment
    assert gateway["GANNET_GATEWAY_EMBEDDER_TARGET"] == f"127.0.0.1:{plans['embedder'].port}"
    assert gateway["GANNET_GATEWAY_QDRANT_URL"] == f"http://127.0.0.1:{plans['edge'].port}"
    ports = [each.port for each in plans.values()]
    ports += [int(each.environment[f"GANNET_{name.upper()}_METRICS_PORT"]) for name, each in plans.items()]
    assert len(set(ports)) == 10
    assert all(each.environment[f"GANNET_{name.upper()}_EXIT_WITH_PARENT"] == "true" for name, each in plans.items())


def test_plan_stack_users_qdrant_replaces_the_embedded_one(home):
    """With a Qdrant of the user's no edge is planned."""
    plans = {each.name: each for each in plan_stack(home, 0, "http://qdrant:6334")}

    assert "edge" not in plans
    assert plans["gateway"].environment["GANNET_GATEWAY_QDRANT_URL"] == "http://qdrant:6334"
