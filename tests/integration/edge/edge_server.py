"""A real `python -m gannet_edge` on a free port, and Qdrant's own client against it."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from qdrant_client import AsyncQdrantClient, models

COLLECTION = "chunks"
DIMENSION = 4


class EdgeServer:
    """One server process on one data folder, which can be killed and started again."""

    def __init__(self, data_dir: Path, **settings: str) -> None:
        self.data_dir = data_dir
        self.port = _free_port()
        self._settings = settings
        self._log = data_dir.with_name(f"{data_dir.name}-{self.port}.log")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process and return once it says SERVING."""
        self._process = self.spawn()
        with grpc.insecure_channel(f"127.0.0.1:{self.port}") as channel:
            replies = HealthStub(channel).Watch(HealthCheckRequest(), timeout=60, wait_for_ready=True)
            next(reply for reply in replies if reply.status == HealthCheckResponse.SERVING)
            replies.cancel()

    def spawn(self) -> subprocess.Popen[bytes]:
        """Start the process only; its output is in `log`."""
        settings = {"data_dir": str(self.data_dir), "port": str(self.port), "optimise_idle_s": "3600", **self._settings}
        environment = {f"GANNET_EDGE_{name.upper()}": value for name, value in settings.items()}
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "gannet_edge"], env={**os.environ, **environment}, stdout=log, stderr=log
            )

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        self._process.send_signal(number)
        return self._process.wait(timeout=30)

    def output(self) -> str:
        """Everything the process wrote, so far."""
        return self._log.read_text()

    def log(self, event: str) -> list[dict[str, object]]:
        """The log entries called `event`, so far."""
        entries = (json.loads(line) for line in self.output().splitlines() if line.startswith("{"))
        return [entry for entry in entries if entry["event"] == event]

    def kill_and_start(self) -> None:
        """`kill -9`, then start again on the same folder."""
        self.stop(signal.SIGKILL)
        self.start()

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    def client(self) -> AsyncQdrantClient:
        """Qdrant's client, connected to where the server listens now."""
        return AsyncQdrantClient(
            host="127.0.0.1",
            grpc_port=self.port,
            prefer_grpc=True,
            check_compatibility=False,
            timeout=30,
            # Or the client would share a connection that waits a second before it tries a killed server's port again.
            grpc_options={"grpc.use_local_subchannel_pool": 1},
        )


async def create(qdrant: AsyncQdrantClient, name: str = COLLECTION) -> None:
    """The collection as the gateway makes it for a cluster."""
    await qdrant.create_collection(
        name,
        vectors_config={
            "dense": models.VectorParams(
                size=DIMENSION,
                distance=models.Distance.COSINE,
                hnsw_config=models.HnswConfigDiff(m=0, payload_m=16),
                quantization_config=models.ScalarQuantization(
                    scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8, quantile=0.99)
                ),
            )
        },
        sparse_vectors_config={"bm25": models.SparseVectorParams(modifier=models.Modifier.IDF)},
        replication_factor=2,
        write_consistency_factor=2,
        shard_number=3,
    )


def point(number: int, **payload: object) -> models.PointStruct:
    """Point `number` with vectors that depend on it alone."""
    return models.PointStruct(
        id=number,
        vector={
            "dense": [1.0, float(number), 0.0, 0.5],
            "bm25": models.SparseVector(indices=[1, number + 10], values=[1.0, 2.0]),
        },
        payload={"tenant": "t1", "gen_from": 1, "gen_to": 2**53 - 1, **payload},
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
