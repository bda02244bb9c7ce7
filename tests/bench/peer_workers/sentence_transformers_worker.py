"""sentence-transformers on torch: an embedder or a cross-encoder, float32 or bfloat16."""

from importlib import import_module, metadata
from typing import Any

from line_protocol import CORES, embedder_operations, reranker_operations, serve

torch: Any = import_module("torch")
library: Any = import_module("sentence_transformers")
state: dict[str, Any] = {}


def load(folder: str, dtype: str, batch: int) -> dict[str, Any]:
    """Loads an embedder."""
    torch.set_num_threads(CORES)
    options = {"torch_dtype": getattr(torch, dtype)}
    state.update(model=library.SentenceTransformer(folder, device="cpu", model_kwargs=options), batch=batch)
    return _versions()


def embed(texts: list[str]) -> Any:
    """f32[N, D]; the library sorts by length itself."""
    return state["model"].encode(texts, batch_size=state["batch"], show_progress_bar=False).astype("float32")


def load_reranker(folder: str, dtype: str, batch: int) -> dict[str, Any]:
    """Loads a cross-encoder."""
    torch.set_num_threads(CORES)
    options = {"torch_dtype": getattr(torch, dtype)}
    state.update(model=library.CrossEncoder(folder, device="cpu", model_kwargs=options), batch=batch)
    return _versions()


def score(query: str, passages: list[str]) -> Any:
    """Raw logits, in the order of the passages."""
    return state["model"].predict(
        [(query, passage) for passage in passages],
        batch_size=state["batch"],
        activation_fn=torch.nn.Identity(),
        show_progress_bar=False,
    )


def _versions() -> dict[str, Any]:
    return {"versions": {name: metadata.version(name) for name in ("sentence-transformers", "torch", "transformers")}}


serve({**embedder_operations(load, embed), **reranker_operations(load_reranker, score)})
