"""One server of ours for a measurement, in a process of its own, on the cores that the measurement gives it."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Collection, Generator
from dataclasses import dataclass
from typing import Any

import grpc
import report
from grpc_health.v1 import health_pb2, health_pb2_grpc

HOME = report.ROOT / ".gannet"
START_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Where it listens, and its process."""

    address: str
    pid: int


@contextlib.contextmanager
def running(service: str, *, cores: Collection[int] | None = None) -> Generator[Server]:
    """Starts the service with shipped settings and stops it in the end.

    Args:
        service: "embedder" or "reranker".
        cores: the cores it may use; None for this process's.
    """
    prefix = f"GANNET_{service.upper()}_"
    address = f"127.0.0.1:{_free_port()}"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GANNET_")} | {
        f"{prefix}PORT": address.rpartition(":")[2],
        f"{prefix}MODELS_DIR": str(HOME / "models"),
        f"{prefix}LOG_FILE": str(HOME / "bench-logs" / f"{service}.log"),
    }
    ours = os.sched_getaffinity(0)
    # A child inherits it from its first instruction on, and sizes its threads by it.
    os.sched_setaffinity(0, cores or ours)
    try:
        process = subprocess.Popen([sys.executable, "-m", f"gannet_{service}"], env=environment)
    finally:
        os.sched_setaffinity(0, ours)
    try:
        _wait_until_serving(address)
        yield Server(address=address, pid=process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(STOP_TIMEOUT_S)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _wait_until_serving(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=START_TIMEOUT_S, wait_for_ready=True)
        for reply in watch:
            if reply.status == health_pb2.HealthCheckResponse.SERVING:
                watch.cancel()
                return
