"""Graphs of a 135M-parameter decoder of SmolLM's shape with random weights, in a folder that onnxruntime-genai reads too.

Speed does not depend on what weights say, and no hub has to be reached. Greedy texts of random weights are nonsense that both
engines have to agree on.
"""

import json
import shutil
from pathlib import Path

import onnx
import report
from reference.decoder import Shape, random_weights
from reference.decoder_graph import build
from tokenizers import Tokenizer, decoders, models

SMOLLM_135M = Shape(
    layers=30, hidden=576, heads=9, kv_heads=3, inner=1536, vocabulary=49_152, positions=2048, epsilon=1e-5
)
# Kept from being chosen by both engines, so that texts have the lengths that were asked for.
END = 2
MODELS = report.ROOT / ".gannet" / "bench-models"
# Rises when the graph changes, so that an old build is made anew.
_REVISION = 1
_ACCURACY = {32: 0, 8: 4, 4: 4}


def decoder_folder(bits: int, threads: int, shape: Shape = SMOLLM_135M) -> Path:
    """The folder with model.onnx and its weights, genai_config.json and tokenizer.json; built unless it is there."""
    folder = MODELS / f"decoder-135m-{bits}-{_REVISION}"
    if not (folder / "genai_config.json").is_file():
        print(f"building {folder.name} ...", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        model = build(shape, random_weights(shape), bits=bits, accuracy=_ACCURACY[bits])
        onnx.save(model, folder / "model.onnx", save_as_external_data=True, location="model.onnx.data")
        word_tokenizer(shape.vocabulary).save(str(folder / "tokenizer.json"))
    # Written last, and always: it says how many threads the other engine takes.
    (folder / "genai_config.json").write_text(json.dumps(_genai_config(shape, threads), indent=2))
    return folder


def word_tokenizer(vocabulary: int) -> Tokenizer:
    """Every id is a short word, so that every token has text to be decoded and told."""
    tokenizer = Tokenizer(models.BPE({f"Ġw{number}": number for number in range(vocabulary)}, []))
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def weight_bytes(bits: int, shape: Shape = SMOLLM_135M) -> float:
    """What one step reads: every product's weights and, in blocks of 32, their scales."""
    products = [rows * columns for rows, columns in shape.linears().values()]
    count = shape.layers * sum(products) + shape.hidden * shape.vocabulary
    return count * (bits / 8 + (4 / 32 if bits < 32 else 0))


def _genai_config(shape: Shape, threads: int) -> dict[str, object]:
    cache = {f"past_{part}_names": f"past_key_values.%d.{part}" for part in ("key", "value")}
    present = {f"present_{part}_names": f"present.%d.{part}" for part in ("key", "value")}
    decoder = {
        "session_options": {"intra_op_num_threads": threads, "provider_options": []},
        "filename": "model.onnx",
        "head_size": shape.head,
        "hidden_size": shape.hidden,
        "num_attention_heads": shape.heads,
        "num_hidden_layers": shape.layers,
        "num_key_value_heads": shape.kv_heads,
        "inputs": {"input_ids": "input_ids", "attention_mask": "attention_mask", **cache},
        "outputs": {"logits": "logits", **present},
    }
    model = {
        "type": "llama",
        "vocab_size": shape.vocabulary,
        "context_length": shape.positions,
        "bos_token_id": 1,
        "eos_token_id": END,
        "pad_token_id": 0,
        "decoder": decoder,
    }
    search = {"do_sample": False, "num_beams": 1, "past_present_share_buffer": True, "max_length": shape.positions}
    return {"model": model, "search": search}
