"""fastembed with a model file of our choice."""

from importlib import import_module, metadata
from typing import Any

from line_protocol import CORES, embedder_operations, serve

numpy: Any = import_module("numpy")
fastembed: Any = import_module("fastembed")
descriptions: Any = import_module("fastembed.common.model_description")
state: dict[str, Any] = {}


def load(folder: str, file: str, batch: int) -> dict[str, Any]:
    """Registers and loads the model."""
    fastembed.TextEmbedding.add_custom_model(
        model="local",
        pooling=descriptions.PoolingType.MEAN,
        normalization=True,
        sources=descriptions.ModelSource(url="file:///local"),
        dim=384,
        model_file=file,
    )
    model = fastembed.TextEmbedding("local", threads=CORES, specific_model_path=folder)
    state.update(model=model, batch=batch)
    return {"versions": {name: metadata.version(name) for name in ("fastembed", "onnxruntime", "tokenizers")}}


def embed(texts: list[str]) -> Any:
    """f32[N, D]; the library batches in the order given."""
    return numpy.stack(list(state["model"].embed(texts, batch_size=state["batch"]))).astype("float32")


serve(embedder_operations(load, embed))
