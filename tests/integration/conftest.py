"""Real servers in processes of their own, over real sockets."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

START_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 30.0

StartService = Callable[[str, Mapping[str, object]], "Service"]


class Service:
    """A server process: where it listens, what it logged, and its end."""

    def __init__(self, module: str, environment: Mapping[str, object]) -> None:
        """Starts `python -m module` and waits until its health service says SERVING."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("GANNET_")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            env={**inherited, **{name: str(value) for name, value in environment.items()}},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self._events: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        try:
            self.address = f"127.0.0.1:{self.wait_for('listening')['port']}"
            self._wait_until_serving()
        except BaseException:
            self.stop()
            raise

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def wait_for(self, event: str) -> dict[str, Any]:
        """The next log line of that event; each line is seen once."""
        while True:
            line = self._events.get(timeout=START_TIMEOUT_S)
            if line is None:
                raise AssertionError(f"the server ended before it logged {event!r}:\n" + "".join(self.lines))
            if line.get("event") == event:
                return line

    def terminate(self) -> None:
        """Ask it to stop, and do not wait."""
        self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a crash does."""
        self._process.kill()
        self.wait()

    def wait(self) -> int:
        """Wait for the end and return the exit status."""
        status = self._process.wait(timeout=STOP_TIMEOUT_S)
        self._reader.join()
        return status

    def stop(self) -> int:
        """Stop it in order, or kill it when it does not listen; return the exit status."""
        if self._process.poll() is None:
            self.terminate()
        try:
            return self.wait()
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self.wait()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stdout:
            for line in stdout:
                self.lines.append(line)
                if line.startswith("{"):
                    self._events.put(json.loads(line))
        self._events.put(None)

    def _wait_until_serving(self) -> None:
        with grpc.insecure_channel(self.address) as channel:
            watch = health_pb2_grpc.HealthStub(channel).Watch(
                health_pb2.HealthCheckRequest(), timeout=START_TIMEOUT_S, wait_for_ready=True
            )
            for reply in watch:
                if reply.status == health_pb2.HealthCheckResponse.SERVING:
                    watch.cancel()
                    return


@pytest.fixture(scope="session")
def start_service() -> Iterator[StartService]:
    """Starts a server by its module and settings; whatever a test leaves running is stopped at the end."""
    started: list[Service] = []

    def start(module: str, environment: Mapping[str, object]) -> Service:
        service = Service(module, environment)
        started.append(service)
        return service

    yield start
    for service in started:
        service.stop()
