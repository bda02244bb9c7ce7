import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health_pb2 import HealthCheckResponse
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

PROGRAM = Path(__file__).with_name("tiny_server.py")
WAIT_S = 30


class Tiny:
    """One process of the tiny server."""

    def __init__(self, **settings: object) -> None:
        environment = {f"TINY_{name.upper()}": str(value) for name, value in settings.items()}
        self.process = subprocess.Popen(
            [sys.executable, PROGRAM],
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.log: list[dict[str, Any]] = []

    def until(self, event: str) -> dict[str, Any]:
        """Read the log up to the first line of that event."""
        for line in self.process.stdout:
            self.log.append(json.loads(line))
            if self.log[-1]["event"] == event:
                return self.log[-1]
        raise AssertionError(f"ended before it logged {event!r}: {self.process.stderr.read()}")

    def end(self) -> int:
        """Wait for the end; the rest of the log is read."""
        rest, self.errors = self.process.communicate(timeout=WAIT_S)
        self.log += [json.loads(line) for line in rest.splitlines()]
        return self.process.returncode


@pytest.fixture
def start() -> Iterator[Callable[..., Tiny]]:
    """Starts tiny servers; none outlives the test."""
    started: list[Tiny] = []

    def starter(**settings: object) -> Tiny:
        started.append(Tiny(**settings))
        return started[-1]

    yield starter
    for tiny in started:
        if tiny.process.poll() is None:
            tiny.process.kill()
        tiny.process.communicate()


def ask(channel: grpc.Channel) -> Any:
    """The tiny server's method."""
    return channel.unary_unary("/test.Tiny/Ask", StringValue.SerializeToString, StringValue.FromString)


def address(tiny: Tiny) -> str:
    """Where it listens."""
    return f"127.0.0.1:{tiny.until('listening')['port']}"


def test_sigterm_with_a_call_in_work_finishes_it_and_exits_zero(start: Callable[..., Tiny]):
    """NOT_SERVING first, the call in work is answered, a new one is refused, and the process ends in order."""
    tiny = start()
    with grpc.insecure_channel(address(tiny)) as channel, grpc.insecure_channel(channel_target(tiny)) as other:
        watch = health_pb2_grpc.HealthStub(other).Watch(
            health_pb2.HealthCheckRequest(service="test.Tiny"), timeout=WAIT_S
        )
        assert next(reply.status for reply in watch if reply.status == HealthCheckResponse.SERVING)
        held = ask(channel).future(StringValue(value="hold"), timeout=WAIT_S)
        tiny.until("asked")
        tiny.process.send_signal(signal.SIGTERM)
        assert next(watch).status == HealthCheckResponse.NOT_SERVING
        watch.cancel()
        tiny.until("hook")
        with pytest.raises(grpc.RpcError) as refused:
            ask(channel)(StringValue(value="new"), timeout=WAIT_S)
        assert (refused.value.code(), refused.value.details()) == (
            grpc.StatusCode.UNAVAILABLE,
            "the server is shutting down",
        )
        tiny.process.send_signal(signal.SIGUSR1)
        assert held.result().value == "hold"
    assert tiny.end() == 0
    assert [line["event"] for line in tiny.log if line["event"] in ("draining", "hook", "closed", "stopped")] == [
        "draining",
        "hook",
        "closed",
        "stopped",
    ]


def channel_target(tiny: Tiny) -> str:
    """The address again, from the log read so far."""
    return f"127.0.0.1:{next(line['port'] for line in tiny.log if line['event'] == 'listening')}"


def test_call_in_work_beyond_the_grace_is_cut_off(start: Callable[..., Tiny]):
    """Shutdown is bounded: the caller is told, and the exit code is still 0."""
    tiny = start(grace_s=0.1)
    with grpc.insecure_channel(address(tiny)) as channel:
        held = ask(channel).future(StringValue(value="hold"), timeout=WAIT_S)
        tiny.until("asked")
        tiny.process.send_signal(signal.SIGTERM)
        assert held.exception(timeout=WAIT_S).code() in (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE)
    assert tiny.end() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_while_warming_stops_at_once(number: int, start: Callable[..., Tiny]):
    """A model that takes minutes to load does not hold up a shutdown; SERVING is never said."""
    tiny = start(warm="hang")
    tiny.until("warming")
    tiny.process.send_signal(number)
    assert tiny.end() == 0
    events = [line["event"] for line in tiny.log]
    assert "serving" not in events
    assert events[-1] == "stopped"


def test_warm_that_ends_while_draining_does_not_say_serving(start: Callable[..., Tiny]):
    """Once told to stop, a server never becomes ready."""
    tiny = start(warm="slow", drain_s=1)
    target = address(tiny)
    tiny.until("warming")
    tiny.process.send_signal(signal.SIGTERM)
    tiny.until("draining")
    tiny.process.send_signal(signal.SIGUSR1)
    with grpc.insecure_channel(target) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=WAIT_S)
        assert next(watch).status == HealthCheckResponse.NOT_SERVING
        tiny.until("hook")
        watch.cancel()
    assert tiny.end() == 0
    assert "serving" not in [line["event"] for line in tiny.log]


def test_port_in_use_is_explained(start: Callable[..., Tiny]):
    """The second server names host and port, and does not share the port silently."""
    port = address(start()).rpartition(":")[2]
    second = start(port=port)
    assert second.end() != 0
    assert f"cannot listen on 127.0.0.1:{port}: is another process using the port?" in second.errors


def test_failed_background_task_ends_the_process(start: Callable[..., Tiny]):
    """Its parts are closed in order first, and its supervisor sees an exit code."""
    tiny = start(background="fail")
    assert tiny.end() != 0
    assert "the background task failed" in tiny.errors
    assert [line["event"] for line in tiny.log][-2:] == ["closed", "stopped"]


def test_orphan_ends_itself(start: Callable[..., Tiny], tmp_path: Path):
    """With `exit_with_parent`, the end of the process that started it is its own."""
    log = tmp_path / "log"
    parent = subprocess.Popen(
        [sys.executable, "-c", f"import subprocess, sys; subprocess.run([sys.executable, {str(PROGRAM)!r}])"],
        env={**os.environ, "TINY_EXIT_WITH_PARENT": "true", "TINY_LOG_FILE": str(log)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    _wait_until(lambda: log.exists() and '"serving"' in log.read_text())
    parent.kill()
    parent.communicate(timeout=WAIT_S)  # returns when the orphan has closed the pipe, too
    assert [json.loads(line)["event"] for line in log.read_text().splitlines()][-1] == "stopped"


def test_log_lines_of_a_call_carry_its_ids(start: Callable[..., Tiny]):
    """A handler's own line and the call's line have the caller's request id and trace id."""
    tiny = start()
    with grpc.insecure_channel(address(tiny)) as channel:
        metadata = (("x-request-id", "req-1"), ("traceparent", f"00-{'ab' * 16}-{'cd' * 8}-01"))
        ask(channel)(StringValue(value="x"), metadata=metadata, timeout=WAIT_S)
    for event in ("asked", "rpc"):
        line = tiny.until(event)
        assert (line["request_id"], line["trace_id"], line["service"]) == ("req-1", "ab" * 16, "tiny")


def test_reflection_and_health_are_served_without_credentials(start: Callable[..., Tiny]):
    """Tools find out what is there."""
    with grpc.insecure_channel(address(start())) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        (reply,) = stub.ServerReflectionInfo(iter([request]), timeout=WAIT_S)
    names = {service.name for service in reply.list_services_response.service}
    assert {"grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"} <= names


def _wait_until(condition: Callable[[], bool]) -> None:
    while not condition():  # pytest's timeout bounds it
        os.sched_yield()
