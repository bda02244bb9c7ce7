"""The systems that `bench_embed.py` measures, behind one interface: ours over gRPC, the others in their workers."""

import base64
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import grpc
import numpy as np
import peer_models
import peers
from numpy.typing import NDArray
from peer_models import EMBEDDER, PeerModel
from servers import Server

from gannet.embedder.v1 import embedder_pb2 as pb
from gannet.embedder.v1.embedder_pb2_grpc import EmbedderStub
from gannet_inference.manifest import Precision

# What a pipelining client does: enough requests on their way that no core waits for the next, each small enough to come back soon.
REQUEST_TEXTS = 16
REQUESTS_IN_FLIGHT = 8
CALL_TIMEOUT_S = 120
MESSAGE_BYTES_MAX = 16 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """All texts once: how long it took, the memory held so far at most, and f32[N, D] where asked for."""

    seconds: float
    peak_rss_mb: float
    vectors: NDArray[np.float32] | None


class System(Protocol):
    """Something that embeds the texts it was given."""

    def take(self, texts: Sequence[str]) -> None:
        """The texts that the other two mean; not timed."""
        ...

    def embed(self, *, want_vectors: bool) -> Pass:
        """All texts, as fast as it can."""
        ...

    def one_by_one(self, count: int) -> list[float]:
        """The first `count` texts, a call each; seconds of every call."""
        ...


class Gannet:
    """Our server; the client runs in this process, on the same cores, and its work counts in our time."""

    def __init__(self, server: Server) -> None:
        """Connects."""
        options = [("grpc.max_receive_message_length", MESSAGE_BYTES_MAX)]
        self._server = server
        channel: Any = grpc.insecure_channel(server.address, options=options)
        self._stub: Any = EmbedderStub(channel)  # its type is grpc.aio's
        self._texts: Sequence[str] = []
        self.token_counts: list[int] = []

    def take(self, texts: Sequence[str]) -> None:
        """See `System`."""
        self._texts = texts

    def embed(self, *, want_vectors: bool) -> Pass:
        """See `System`. BULK requests, several on their way."""
        started = time.perf_counter()
        results = self._bulk(self._texts, pb.PURPOSE_PASSAGE)
        vectors = _stacked(results)
        seconds = time.perf_counter() - started
        self.token_counts = [result.token_count for result in results]
        return Pass(seconds=seconds, peak_rss_mb=self._server.peak_rss_mb(), vectors=vectors if want_vectors else None)

    def one_by_one(self, count: int) -> list[float]:
        """See `System`. INTERACTIVE requests."""
        seconds: list[float] = []
        for text in self._texts[:count]:
            started = time.perf_counter()
            request = pb.EmbedRequest(texts=[text], purpose=pb.PURPOSE_PASSAGE, want_dense=True)
            _stacked(self._stub.Embed(request, timeout=CALL_TIMEOUT_S).results)
            seconds.append(time.perf_counter() - started)
        return seconds

    def passages(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """f32[N, D] of other texts, untimed."""
        return _stacked(self._bulk(texts, pb.PURPOSE_PASSAGE))

    def queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """f32[N, D] of other texts, untimed."""
        return _stacked(self._bulk(texts, pb.PURPOSE_QUERY))

    @property
    def model_digest(self) -> str:
        """Equal digests give equal vectors."""
        return self._stub.Info(pb.InfoRequest(), timeout=CALL_TIMEOUT_S).model_digest

    def _bulk(self, texts: Sequence[str], purpose: Any) -> list[pb.EmbedResult]:
        waiting = deque(texts[at : at + REQUEST_TEXTS] for at in range(0, len(texts), REQUEST_TEXTS))
        flying: deque[Any] = deque()
        results: list[pb.EmbedResult] = []
        while waiting or flying:
            while waiting and len(flying) < REQUESTS_IN_FLIGHT:
                request = pb.EmbedRequest(
                    texts=waiting.popleft(), purpose=purpose, want_dense=True, priority=pb.PRIORITY_BULK
                )
                flying.append(self._stub.Embed.future(request, timeout=CALL_TIMEOUT_S))
            results += flying.popleft().result().results
        return results


def _stacked(results: Sequence[pb.EmbedResult]) -> NDArray[np.float32]:
    return np.stack([np.frombuffer(result.dense.data, dtype="<f4") for result in results])


class Worker:
    """A peer's worker process."""

    def __init__(self, peer: peers.Peer, arguments: dict[str, Any]) -> None:
        """Has it load its model."""
        self._peer = peer
        self.versions: dict[str, str] = peer.call("load", **arguments)["versions"]

    def take(self, texts: Sequence[str]) -> None:
        """See `System`."""
        self._peer.call("texts", values=list(texts))

    def embed(self, *, want_vectors: bool) -> Pass:
        """See `System`."""
        reply = self._peer.call("embed", want_vectors=want_vectors)
        vectors = None
        if want_vectors:
            flat = np.frombuffer(base64.b64decode(reply["vectors"]), dtype="<f4")
            vectors = flat.reshape(-1, flat.size // reply["count"])
        return Pass(seconds=reply["seconds"], peak_rss_mb=reply["peak_rss_mb"], vectors=vectors)

    def one_by_one(self, count: int) -> list[float]:
        """See `System`."""
        return self._peer.call("one_by_one", count=count)["seconds"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One row of the comparison.

    Attributes:
        name: the system.
        precision: of its weights and products.
        ours: it is Gannet.
        bare: it is a loop of our own around the runtime, no other system.
        open: starts the worker; None for ours, whose server the caller starts.
    """

    name: str
    precision: str
    ours: bool = False
    bare: bool = False
    open: Callable[[], tuple[peers.Peer, dict[str, Any]]] | None = None

    @property
    def label(self) -> str:
        """What the tables call it."""
        return f"{self.name}, {self.precision}"


def entries() -> list[Entry]:
    """Ours, the other systems with the settings that were fastest for each here, and bare loops, in the order of a round.

    Batch sizes, dtypes and engines were tried on 120 abstracts: for sentence-transformers 32 is the fastest batch in bfloat16 and
    within 6 % of 8 in float32; Infinity's ONNX engine is faster than its torch engine in float32 and in int8, and fastest in
    batches of 8, and its BetterTransformer halves its speed; fastembed, which pads in the order given, is fastest in batches of 8.
    """
    model = peer_models.embedder()
    return [
        Entry(name="gannet", precision="int8", ours=True),
        _torch("float32", "fp32", model),
        _infinity("torch", "bfloat16", "bf16", model),
        _bare("bare loop, one text a run", "int8", 1, model),
        _infinity("optimum", "float32", "fp32", model),
        _fastembed("fp32", "fastembed", model),
        Entry(name="gannet", precision="fp32", ours=True),
        _torch("bfloat16", "bf16", model),
        _infinity("optimum", "int8", "int8", model),
        _bare("bare loop, one text a run", "fp32", 1, model),
        _fastembed("int8", "fastembed", model),
        _bare("bare loop, batches of 32", "int8", 32, model),
        _fastembed("int8", "fastembed, our file", model),
    ]


def _torch(dtype: str, precision: str, model: PeerModel) -> Entry:
    arguments = {"folder": str(model.torch), "dtype": dtype, "batch": 32}
    return _entry(
        "sentence-transformers", precision, "sentence_transformers_worker", "sentence-transformers", arguments
    )


def _infinity(engine: str, dtype: str, precision: str, model: PeerModel) -> Entry:
    folder = {"torch": model.torch, "optimum": model.int8 if dtype == "int8" else model.onnx}[engine]
    batch = 8 if engine == "optimum" else 32
    arguments = {"folder": str(folder), "engine": engine, "dtype": dtype, "batch": batch, "bettertransformer": False}
    return _entry(f"infinity ({engine})", precision, "infinity_worker", "infinity", arguments)


def _fastembed(precision: Precision, name: str, model: PeerModel) -> Entry:
    if name == "fastembed":
        folder, file = (
            (model.onnx, "model_optimized.onnx") if precision == "fp32" else (model.int8, "model_quantized.onnx")
        )
        arguments: dict[str, Any] = {"folder": str(folder), "file": file, "batch": 8}
    else:
        # Our graph has no mask: it reads one text a run.
        file = str(peer_models.ours(EMBEDDER, precision).model_file)
        arguments = {"folder": str(model.torch), "file": file, "batch": 1}
    return _entry(name, precision, "fastembed_worker", "fastembed", arguments)


def _bare(name: str, precision: Precision, batch: int, model: PeerModel) -> Entry:
    built = peer_models.ours(EMBEDDER, precision)
    file = built.model_file if batch == 1 else model.int8 / "model_quantized.onnx"
    arguments = {
        "model": str(file),
        "tokenizer": str(built.tokenizer_file),
        "tokens_max": built.tokens_max,
        "batch": batch,
    }
    return _entry(name, precision, "bare_worker", None, arguments, bare=True)


def _entry(
    name: str, precision: str, worker: str, environment: str | None, arguments: dict[str, Any], *, bare: bool = False
) -> Entry:
    def start() -> tuple[peers.Peer, dict[str, Any]]:
        python = peers.ensure_env(environment) if environment else None
        return peers.Peer(f"{name} {precision}", worker, python=python), arguments

    return Entry(name=name, precision=precision, bare=bare, open=start)
