"""A tiny random BERT-family model on disk, for tests that must not need a real one."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "one", "two", "three", "four", "five", "six"]
HIDDEN, LAYERS, HEADS, POSITIONS = 16, 2, 4, 24


def random_weights(prefix: str = "", *, seed: int = 0, type_rows: int = 2) -> dict[str, np.ndarray]:
    """Every tensor of an encoder and of both kinds of head."""
    random = np.random.default_rng(seed)
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (len(WORDS), HIDDEN),
        "embeddings.position_embeddings.weight": (POSITIONS, HIDDEN),
        "embeddings.token_type_embeddings.weight": (type_rows, HIDDEN),
        "embeddings.LayerNorm.weight": (HIDDEN,),
        "embeddings.LayerNorm.bias": (HIDDEN,),
    }
    for layer in range(LAYERS):
        at = f"encoder.layer.{layer}"
        linears = {f"attention.self.{part}": (HIDDEN, HIDDEN) for part in ("query", "key", "value")}
        linears |= {"attention.output.dense": (HIDDEN, HIDDEN), "intermediate.dense": (4 * HIDDEN, HIDDEN)}
        linears |= {"output.dense": (HIDDEN, 4 * HIDDEN)}
        for name, shape in linears.items():
            shapes |= {f"{at}.{name}.weight": shape, f"{at}.{name}.bias": shape[:1]}
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes |= {f"{at}.{name}.weight": (HIDDEN,), f"{at}.{name}.bias": (HIDDEN,)}
    weights = {prefix + name: random.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}
    heads = (
        {"classifier": 1}
        if not prefix.startswith("roberta")
        else {"classifier.dense": HIDDEN, "classifier.out_proj": 1}
    )
    if "classifier" in heads:
        heads[f"{prefix}pooler.dense"] = HIDDEN
    for name, width in heads.items():
        weights[f"{name}.weight"] = random.normal(0, 0.5, (width, HIDDEN)).astype(np.float32)
        weights[f"{name}.bias"] = random.normal(0, 0.5, width).astype(np.float32)
    return weights


def tokenizer() -> Tokenizer:
    """Splits at spaces; [CLS] and [SEP] as BERT has them."""
    words = Tokenizer(models.WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="[UNK]"))  # noqa: S106 - a vocabulary entry
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return words


def write(folder: Path, *, config: dict[str, Any] | None = None, weights: dict[str, np.ndarray] | None = None) -> None:
    """Writes config.json, model.safetensors and tokenizer.json; `config` overrides single keys."""
    settings = {
        "model_type": "bert",
        "hidden_act": "gelu",
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "hidden_size": HIDDEN,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": POSITIONS,
        "pad_token_id": 1,
    }
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(settings | (config or {})), encoding="utf-8")
    save_file(random_weights() if weights is None else weights, folder / "model.safetensors")
    tokenizer().save(str(folder / "tokenizer.json"))
