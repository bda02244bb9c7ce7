"""The built-in models in the layouts that other systems read: the same weights, the same tokenizer, the same longest input."""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
import peers
from safetensors.numpy import save_file
from servers import MODELS

from gannet_inference.fetch import fetch
from gannet_inference.manifest import ModelEntry, Precision, load_manifest
from gannet_inference.store import BuiltModel, ensure_built
from gannet_inference.weights import read_architecture, read_weights

EMBEDDER = "all-minilm-l6-v2"
RERANKER = "reranker-minilm-l6-qa"
# Raise it when what this module writes changes.
_LAYOUT = 2
_TIMEOUT_S = 600
_SPECIAL = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
_MODULE = "sentence_transformers.models"


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerModel:
    """One model on disk.

    Attributes:
        torch: in Hugging Face's layout, float32.
        onnx: optimum's export, float32, optimised by optimum: `model_optimized.onnx`.
        int8: optimum's export, dynamically quantised per channel: `model_quantized.onnx`.
    """

    torch: Path
    onnx: Path
    int8: Path


def ours(name: str, precision: Precision) -> BuiltModel:
    """Our own build."""
    return ensure_built(load_manifest(None).entry(name), precision, MODELS)


def embedder() -> PeerModel:
    """The embedder, written when first needed."""
    return _written(EMBEDDER, "FeatureExtraction", _write_embedder)


def torch_embedder() -> Path:
    """The embedder in Hugging Face's layout alone, written when first needed."""
    target = peers.HOME / "models" / f"{EMBEDDER}-torch-{_identity(load_manifest(None).entry(EMBEDDER))}"
    target.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(target.with_suffix(".lock"), timeout=_TIMEOUT_S):
        if not target.is_dir():
            _write_torch(EMBEDDER, target, _write_embedder).rename(target)
    return target


def _write_embedder(entry: ModelEntry, source: Path, folder: Path) -> None:
    shutil.copyfile(source / "model.safetensors", folder / "model.safetensors")
    _write_json(folder / "config.json", _read_json(source / "config.json"))
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    _write_json(
        folder / "modules.json",
        [
            {"idx": number, "name": str(number), "path": path, "type": f"{_MODULE}.{kind}"}
            for number, (path, kind) in enumerate(modules)
        ],
    )
    _write_json(folder / "sentence_bert_config.json", {"max_seq_length": entry.tokens_max, "do_lower_case": False})
    width = _read_json(source / "config.json")["hidden_size"]
    _write_json(
        folder / "1_Pooling" / "config.json", {"word_embedding_dimension": width, "pooling_mode_mean_tokens": True}
    )
    (folder / "2_Normalize").mkdir()


def reranker() -> PeerModel:
    """The reranker with its adapter merged, written when first needed."""

    def write(entry: ModelEntry, source: Path, folder: Path) -> None:
        assert entry.adapter is not None
        architecture = read_architecture(source, model=entry.name)
        weights = read_weights(source, architecture, model=entry.name, adapter=entry.adapter.folder)
        named = {name if name.startswith("classifier.") else f"bert.{name}": value for name, value in weights.items()}
        save_file(named, folder / "model.safetensors", metadata={"format": "pt"})
        config = _read_json(source / "config.json")
        labels = {"id2label": {"0": "relevant"}, "label2id": {"relevant": 0}}
        _write_json(folder / "config.json", config | labels | {"architectures": ["BertForSequenceClassification"]})

    return _written(RERANKER, "SequenceClassification", write)


def _written(name: str, kind: str, write: Callable[[ModelEntry, Path, Path], None]) -> PeerModel:
    entry = load_manifest(None).entry(name)
    target = peers.HOME / "models" / f"{name}-{_identity(entry)}"
    target.parent.mkdir(parents=True, exist_ok=True)
    model = PeerModel(torch=target, onnx=target / "optimised", int8=target / "int8")
    with filelock.FileLock(target.with_suffix(".lock"), timeout=_TIMEOUT_S):
        if target.is_dir():
            return model
        building = _write_torch(name, target, write)
        with peers.Peer(f"export {name}", "export_worker", python=peers.ensure_env("infinity")) as exporter:
            exporter.call("export", folder=str(building), kind=kind, timeout_s=_TIMEOUT_S)
        shutil.rmtree(building / "fp32")
        for exported in ("optimised", "int8"):
            # Infinity cuts texts at max_position_embeddings when it runs ONNX files, whatever the tokenizer says.
            config = building / exported / "config.json"
            _write_json(config, _read_json(config) | {"max_position_embeddings": entry.tokens_max})
            # What transformers saves keeps the tokenizer's own limit of 128 tokens beside ours, and fastembed obeys it.
            for file in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
                shutil.copyfile(building / file, building / exported / file)
        building.rename(target)
    return model


def _write_torch(name: str, target: Path, write: Callable[[ModelEntry, Path, Path], None]) -> Path:
    """Hugging Face's layout in a folder beside `target`."""
    print(f"writing {name} for the other systems ...", flush=True)
    entry = load_manifest(None).entry(name)
    building = target.with_suffix(".building")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir()
    source = fetch(entry, MODELS, progress=print)
    write(entry, source, building)
    shutil.copyfile(source / "tokenizer.json", building / "tokenizer.json")
    tokenizer = {"tokenizer_class": "BertTokenizer", "model_max_length": entry.tokens_max, "do_lower_case": True}
    _write_json(building / "tokenizer_config.json", tokenizer | _SPECIAL)
    _write_json(building / "special_tokens_map.json", _SPECIAL)
    return building


def _identity(entry: ModelEntry) -> str:
    """Changes with the weights and with what is written around them."""
    parts = json.dumps([_LAYOUT, entry.digests, entry.tokens_max], sort_keys=True)
    return hashlib.sha256(parts.encode()).hexdigest()[:12]


def _read_json(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text())


def _write_json(file: Path, document: object) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(document, indent=2) + "\n")
