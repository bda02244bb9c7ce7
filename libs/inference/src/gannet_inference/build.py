"""Builds one model file from fetched sources, and refuses one that would not serve."""

from pathlib import Path

import numpy as np
import onnx

from gannet_inference.errors import UnsupportedModel
from gannet_inference.fetch import check_digests, source_digests
from gannet_inference.graph import GRAPH_REVISION, write_graph
from gannet_inference.manifest import ModelEntry, Precision
from gannet_inference.quantise import quantise
from gannet_inference.session import ModelSession
from gannet_inference.tokens import TextTokenizer, load_tokenizer
from gannet_inference.weights import read_architecture, read_weights

__all__ = ["GRAPH_REVISION", "write_model"]


def write_model(entry: ModelEntry, source: Path, precision: Precision, target: Path) -> int:
    """Writes the model's ONNX file and runs it once.

    Returns:
        The components of a token embedding; 1 for a cross-encoder.

    Raises:
        UnsupportedModel: the files are no model of a supported kind, or do not fit together.
        BadWeights: a tensor is missing, misshapen or not finite.
        FetchFailed, DigestMismatch: the adapter's files are missing or others.
    """
    if entry.format == "safetensors":
        graph = _graph_from_weights(entry, source, precision)
    elif precision == "fp16":
        raise UnsupportedModel(
            entry.name, "precision", "an ONNX export is taken as it is; fp16 is written from safetensors"
        )
    else:
        graph = _exported_graph(entry, source)
    if precision == "int8":
        graph = quantise(graph)
    onnx.save(graph, target)
    return _run_once(entry, source, target)


def _graph_from_weights(entry: ModelEntry, source: Path, precision: Precision) -> onnx.ModelProto:
    architecture = read_architecture(source, model=entry.name)
    if entry.tokens_max > architecture.tokens_max:
        raise UnsupportedModel(
            entry.name, "tokens_max", f"is {entry.tokens_max}, the model reads at most {architecture.tokens_max}"
        )
    adapter = None
    if entry.adapter is not None:
        adapter = entry.adapter.folder
        check_digests(entry.name, adapter, entry.adapter.digests)
    weights = read_weights(source, architecture, model=entry.name, adapter=adapter)
    words = weights.get("embeddings.word_embeddings.weight")
    vocabulary = load_tokenizer(source / "tokenizer.json", model=entry.name).get_vocab_size()
    if words is not None and vocabulary > len(words):
        raise UnsupportedModel(
            entry.name, "tokenizer.json", f"has {vocabulary} tokens, the weights have embeddings for {len(words)}"
        )
    # fp16 is for GPUs, which take several texts at once.
    half = precision == "fp16"
    return write_graph(weights, architecture, kind=entry.kind, model=entry.name, padded=half, half=half)


def _exported_graph(entry: ModelEntry, source: Path) -> onnx.ModelProto:
    file = next(file for file in source_digests(entry) if file.endswith(".onnx"))
    try:
        graph = onnx.load(source / file, load_external_data=False)
    except Exception as error:  # protobuf's decoding errors have no public base class
        raise UnsupportedModel(entry.name, file, f"is no ONNX model: {error}") from error
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in graph.graph.initializer):
        raise UnsupportedModel(entry.name, file, "keeps its weights in a second file; export it as one")
    return graph


def _run_once(entry: ModelEntry, source: Path, model_file: Path) -> int:
    """Runs a short text, so that what is stored is known to load and to give finite numbers of the right shape."""
    session = ModelSession(model_file, model=entry.name, threads=1)
    tokenizer = TextTokenizer(load_tokenizer(source / "tokenizer.json", model=entry.name), tokens_max=entry.tokens_max)
    cross_encoder = entry.kind == "cross-encoder"
    output = session.run(tokenizer.encode([("one", "two")] if cross_encoder else ["one two"])[0])
    if not np.isfinite(output).all():
        raise UnsupportedModel(entry.name, model_file.name, "gives NaN or infinity")
    if output.ndim != (1 if cross_encoder else 2) or (cross_encoder and output.shape != (1,)):
        raise UnsupportedModel(entry.name, "kind", f"output of shape {output.shape} does not fit a {entry.kind}")
    return output.shape[-1]
