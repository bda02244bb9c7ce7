"""Infinity's engine without its HTTP server in front: an embedder or a reranker, on torch or on ONNX Runtime (optimum)."""

import asyncio
from importlib import import_module, metadata
from typing import Any

from line_protocol import CORES, embedder_operations, reranker_operations, serve

torch: Any = import_module("torch")
numpy: Any = import_module("numpy")
infinity: Any = import_module("infinity_emb")
loop = asyncio.new_event_loop()
state: dict[str, Any] = {}


def load(folder: str, engine: str, dtype: str, batch: int, bettertransformer: bool) -> dict[str, Any]:  # noqa: FBT001 - given by name
    """Starts the engine."""
    torch.set_num_threads(CORES)
    arguments = infinity.EngineArgs(
        model_name_or_path=folder,
        engine=engine,
        dtype=dtype,
        batch_size=batch,
        device="cpu",
        bettertransformer=bettertransformer,
        # A quantised graph is used as it is; the optimiser of fp32 graphs refuses it.
        onnx_disable_optimize=dtype == "int8",
        pooling_method="mean",
    )
    state["engine"] = infinity.AsyncEmbeddingEngine.from_args(arguments)
    loop.run_until_complete(state["engine"].astart())
    return {
        "versions": {
            name: metadata.version(name) for name in ("infinity_emb", "torch", "transformers", "optimum", "onnxruntime")
        }
    }


def embed(texts: list[str]) -> Any:
    """f32[N, D]; the engine sorts what waits by length itself."""
    vectors, _ = loop.run_until_complete(state["engine"].embed(sentences=texts))
    return numpy.stack(vectors).astype("float32")


def score(query: str, passages: list[str]) -> list[float]:
    """Raw logits, in the order of the passages."""
    ranked, _ = loop.run_until_complete(state["engine"].rerank(query=query, docs=passages, raw_scores=True))
    scores = [0.0] * len(passages)
    for one in ranked:
        scores[one.index] = one.relevance_score
    return scores


serve({**embedder_operations(load, embed), **reranker_operations(load, score)})
