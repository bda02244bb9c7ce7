"""The worker's side of `peers.Peer`, standard library only: a JSON line in, a JSON line out, until the input ends.

Times are taken here, so that no protocol is in them.
"""

import base64
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TextIO

CORES = len(os.sched_getaffinity(0))

Operation = Callable[..., dict[str, Any]]


class Bytes(Protocol):
    """A float32 array."""

    def tobytes(self) -> bytes:
        """Its values, little-endian."""
        ...


def serve(operations: Mapping[str, Operation]) -> None:
    """Answers calls by name; an exception is the reply to its call."""
    replies = _own_stdout()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            reply = operations[request.pop("operation")](**request)
        except Exception as error:  # noqa: BLE001 - the root of a task: whoever called reads it
            traceback.print_exc()
            reply = {"error": f"{type(error).__name__}: {error}"}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


def embedder_operations(load: Operation, embed: Callable[[list[str]], Bytes]) -> dict[str, Operation]:
    """`load`, `texts`, `embed` and `one_by_one` around a function from texts to f32[N, D]."""
    texts: list[str] = []

    def take(values: list[str]) -> dict[str, Any]:
        texts[:] = values
        return {}

    def embed_all(want_vectors: bool) -> dict[str, Any]:  # noqa: FBT001 - always given by name
        started = time.perf_counter()
        vectors = embed(texts)
        seconds = time.perf_counter() - started
        reply: dict[str, Any] = {"seconds": seconds, "count": len(texts), "peak_rss_mb": peak_rss_mb()}
        if want_vectors:
            reply["vectors"] = base64.b64encode(vectors.tobytes()).decode()
        return reply

    def one_by_one(count: int) -> dict[str, Any]:
        return {"seconds": timed([lambda text=text: embed([text]) for text in texts[:count]])}

    return {"load": load, "texts": take, "embed": embed_all, "one_by_one": one_by_one}


def reranker_operations(load: Operation, score: Callable[[str, list[str]], Sequence[float]]) -> dict[str, Operation]:
    """`load_reranker` and `rerank` around a function from a query and passages to their logits."""

    def rerank(query: str, passages: list[str]) -> dict[str, Any]:
        started = time.perf_counter()
        scores = score(query, passages)
        seconds = time.perf_counter() - started
        return {"seconds": seconds, "scores": [float(one) for one in scores], "peak_rss_mb": peak_rss_mb()}

    return {"load_reranker": load, "rerank": rerank}


def timed(calls: Sequence[Callable[[], object]]) -> list[float]:
    """The seconds that each call took."""
    seconds: list[float] = []
    for call in calls:
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return seconds


def peak_rss_mb() -> float:
    """The most memory this process has held so far, MB."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


def _own_stdout() -> TextIO:
    """The reply stream; what libraries print goes to stderr instead."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return replies
