"""One server of ours in a process of its own, with the settings of the measurement and the defaults otherwise."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Collection, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import report
from grpc_health.v1 import health_pb2, health_pb2_grpc

MODELS = Path(os.environ.get("GANNET_HOME", report.ROOT / ".gannet")) / "models"
START_TIMEOUT_S = 120
STOP_TIMEOUT_S = 30
POLL_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A running server: where it listens, and its process."""

    address: str
    pid: int

    def peak_rss_mb(self) -> float:
        """The most memory it has held so far, MB."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


@contextlib.contextmanager
def serving(service: str, *, cores: Collection[int] | None = None, **settings: object) -> Generator[Server]:
    """Starts `python -m gannet_<service>` on a free port, waits until it serves, and stops it at the end.

    Args:
        service: embedder or reranker.
        cores: those it may use; None for this process's.
        settings: fields of its configuration, e.g. `precision="fp32"`.

    Raises:
        SystemExit: it did not start; what it logged is in the message.
    """
    prefix = f"GANNET_{service.upper()}_"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GANNET_")}
    fields = {"models_dir": MODELS, "exit_with_parent": True, **settings}
    environment |= {f"{prefix}{name.upper()}": str(value) for name, value in fields.items()}
    folder = report.ROOT / ".gannet" / "bench-logs"
    folder.mkdir(parents=True, exist_ok=True)
    # A file rather than a pipe: nobody reads a line per call while the measurement runs.
    log = folder / f"{service}-{os.getpid()}-{'-'.join(map(str, settings.values()))}.log"
    ours = os.sched_getaffinity(0)
    # A child inherits the cores from its first instruction on, and sizes its threads by them.
    os.sched_setaffinity(0, cores or ours)
    try:
        with log.open("w") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", f"gannet_{service}"], env=environment, stdout=output, stderr=subprocess.STDOUT
            )
    finally:
        os.sched_setaffinity(0, ours)
    try:
        yield Server(address=f"127.0.0.1:{_port(process, log)}", pid=process.pid)
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.unlink()


def _port(process: "subprocess.Popen[str] | subprocess.Popen[bytes]", log: Path) -> int:
    """The port, once the server's health service says SERVING."""
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline_s and process.poll() is None:
        events = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
        port = next((event["port"] for event in events if event.get("event") == "listening"), None)
        if port is not None and _serves(port):
            return port
        time.sleep(POLL_S)
    raise SystemExit(f"the server did not start:\n{log.read_text()}")


def _serves(port: int) -> bool:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        try:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            reply = stub.Check(health_pb2.HealthCheckRequest(), timeout=START_TIMEOUT_S)
        except grpc.RpcError:
            return False
    return reply.status == health_pb2.HealthCheckResponse.SERVING
