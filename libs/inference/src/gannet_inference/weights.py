"""Weights of a BERT-family model from safetensors, under one set of names, with a LoRA adapter merged in."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from gannet_inference.errors import BadWeights, UnsupportedModel

Weights = dict[str, NDArray[np.float32]]

# Families by config.json's model_type, and the prefix that their task models put before every encoder tensor.
_PREFIXES = {"bert": "bert.", "roberta": "roberta.", "xlm-roberta": "roberta.", "camembert": "roberta."}
# config.json's hidden_act, and ONNX Gelu's `approximate`.
_GELUS = {"gelu": "none", "gelu_new": "tanh", "gelu_pytorch_tanh": "tanh"}
# Modules of a sentence-transformers folder that pooling and normalise in the manifest stand for.
_MODULES = ("Transformer", "Pooling", "Normalize")
# Variants of LoRA that merge by other formulas, keys of adapter_config.json.
_UNSUPPORTED_LORA = ("fan_in_fan_out", "use_rslora", "use_dora", "rank_pattern", "alpha_pattern")


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """The shape of an encoder, from config.json.

    Attributes:
        layers: transformer layers.
        heads: attention heads per layer.
        hidden: components of a token embedding.
        epsilon: added to the variance in layer normalisation.
        gelu: ONNX Gelu's `approximate`: "none" or "tanh".
        first_position: row of the position table that the first token reads (RoBERTa's families count from the
        padding id).
        tokens_max: positions that can be read.
        prefix: what task models put before the encoder's tensor names.
    """

    layers: int
    heads: int
    hidden: int
    epsilon: float
    gelu: str
    first_position: int
    tokens_max: int
    prefix: str


def read_architecture(folder: Path, *, model: str) -> Architecture:
    """Reads config.json.

    Raises:
        UnsupportedModel: it is missing or malformed, or describes something other than a plain BERT-family encoder.
    """
    config = _read_table(folder / "config.json", model)
    family: Any = config.get("model_type")
    if family not in _PREFIXES:
        raise UnsupportedModel(model, "config.json: model_type", f"is {family!r}; supported are {', '.join(_PREFIXES)}")
    if config.get("hidden_act") not in _GELUS:
        raise UnsupportedModel(model, "config.json: hidden_act", f"is {config.get('hidden_act')!r}, not {list(_GELUS)}")
    if config.get("position_embedding_type", "absolute") != "absolute":
        raise UnsupportedModel(model, "config.json: position_embedding_type", "only absolute positions are supported")
    _refuse_other_modules(folder, model)
    try:
        first_position = 0 if family == "bert" else int(config["pad_token_id"]) + 1
        architecture = Architecture(
            layers=int(config["num_hidden_layers"]),
            heads=int(config["num_attention_heads"]),
            hidden=int(config["hidden_size"]),
            epsilon=float(config["layer_norm_eps"]),
            gelu=_GELUS[config["hidden_act"]],
            first_position=first_position,
            tokens_max=int(config["max_position_embeddings"]) - first_position,
            prefix=_PREFIXES[family],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UnsupportedModel(model, "config.json", f"missing or malformed key: {error}") from error
    if architecture.hidden % architecture.heads:
        raise UnsupportedModel(model, "config.json: hidden_size", "is no multiple of num_attention_heads")
    return architecture


def read_weights(folder: Path, architecture: Architecture, *, model: str, adapter: Path | None = None) -> Weights:
    """Reads model.safetensors as float32, without the task prefix, and merges an adapter.

    Raises:
        BadWeights: a file cannot be read, a tensor holds NaN or infinity, or the adapter does not fit.
    """
    weights = _read_tensors(folder / "model.safetensors", architecture.prefix, model)
    if adapter is not None:
        _merge_adapter(weights, adapter, architecture.prefix, model)
    for name, tensor in weights.items():
        if not np.isfinite(tensor).all():
            raise BadWeights(model, name, "holds NaN or infinity")
    return weights


def _read_json(file: Path, model: str) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UnsupportedModel(model, file.name, f"cannot be read: {error}") from error


def _read_table(file: Path, model: str) -> dict[str, Any]:
    document = _read_json(file, model)
    if not isinstance(document, dict):
        raise UnsupportedModel(model, file.name, "is no JSON object")
    return cast("dict[str, Any]", document)


def _refuse_other_modules(folder: Path, model: str) -> None:
    # A further Dense or LayerNorm module would be left out silently, and every vector would be wrong.
    file = folder / "modules.json"
    if not file.exists():
        return
    for module in _read_json(file, model):
        kind = str(module.get("type")).rpartition(".")[2]
        if kind not in _MODULES:
            raise UnsupportedModel(model, file.name, f"has a {kind} module; supported are {', '.join(_MODULES)}")


def _read_tensors(file: Path, prefix: str, model: str) -> Weights:
    try:
        tensors = load_file(file)
    except Exception as error:  # safetensors raises its own error, OSError or a bare Exception by what is wrong
        raise BadWeights(model, file.name, f"cannot be read: {error}") from error
    return {
        name.removeprefix(prefix): tensor.astype(np.float32)
        for name, tensor in tensors.items()
        if tensor.dtype.kind == "f" or tensor.dtype.name == "bfloat16"
    }


def _merge_adapter(weights: Weights, adapter: Path, prefix: str, model: str) -> None:
    """Merges a LoRA adapter, W + (alpha/r)·B·A (Hu et al. 2021, equation 3); whole tensors replace the model's."""
    config = _read_table(adapter / "adapter_config.json", model)
    if config.get("peft_type") != "LORA":
        raise UnsupportedModel(model, "adapter_config.json: peft_type", f"is {config.get('peft_type')!r}, not 'LORA'")
    for key in _UNSUPPORTED_LORA:
        if config.get(key):
            raise UnsupportedModel(model, f"adapter_config.json: {key}", "is not supported")
    try:
        scale = np.float32(config["lora_alpha"] / config["r"])
    except (KeyError, TypeError, ZeroDivisionError) as error:
        raise UnsupportedModel(model, "adapter_config.json", f"lora_alpha or r: {error!r}") from error
    tensors = {
        name.removeprefix("base_model.model.").removeprefix(prefix): tensor
        for name, tensor in _read_tensors(adapter / "adapter_model.safetensors", prefix, model).items()
    }
    for layer in sorted({name.partition(".lora_")[0] for name in tensors if ".lora_" in name}):
        shrink, expand = tensors.get(f"{layer}.lora_A.weight"), tensors.get(f"{layer}.lora_B.weight")
        target = weights.get(f"{layer}.weight")
        if shrink is None or expand is None or target is None or target.shape != (expand.shape[0], shrink.shape[1]):
            raise BadWeights(model, f"adapter_model.safetensors: {layer}", "does not fit the model")
        target += scale * (expand @ shrink)
    weights.update({name: tensor for name, tensor in tensors.items() if ".lora_" not in name})
