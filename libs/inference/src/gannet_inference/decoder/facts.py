"""What a decoder's own files say about it: where its graph is, what ends a text, how long one may be, its chat template."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gannet_inference.errors import UnsupportedModel

GENAI_CONFIG = "genai_config.json"
CONFIG_FILES = (GENAI_CONFIG, "generation_config.json", "config.json")
TOKENIZER_CONFIG = "tokenizer_config.json"
TEMPLATE_FILE = "chat_template.jinja"
# Where exporters put the graph, the first that is there.
GRAPH_FILES = ("model.onnx", "onnx/model.onnx", "decoder_model_merged.onnx", "onnx/decoder_model_merged.onnx")


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderFacts:
    """A decoder as its files describe it.

    Attributes:
        graph: its ONNX file.
        ends: tokens that end a text.
        context_tokens: the longest text it was made for; 0 where no file says.
        chat_template: Jinja; empty where it has none.
        special_tokens: those that templates refer to, by name (`bos_token`, ...).
    """

    graph: Path
    ends: tuple[int, ...]
    context_tokens: int
    chat_template: str
    special_tokens: Mapping[str, str]


def read_facts(folder: Path, *, model: str, graph: str | None = None) -> DecoderFacts:
    """Reads a decoder's files.

    Args:
        folder: with the graph, tokenizer.json and at least one of genai_config.json, generation_config.json and config.json.
        model: whose errors these are.
        graph: the ONNX file in the folder; None for what genai_config.json names, else for a usual name.

    Raises:
        UnsupportedModel: a file is missing or says nothing that can be used.
    """
    configs = {name: _read(folder / name, model) for name in CONFIG_FILES}
    genai: Mapping[str, Any] = configs[GENAI_CONFIG].get("model", {})
    named = graph or genai.get("decoder", {}).get("filename")
    names = (named,) if named else GRAPH_FILES
    file = next((folder / name for name in names if (folder / name).is_file()), None)
    if file is None:
        raise UnsupportedModel(model, ", ".join(names), f"there is no such file in {folder}")
    said: list[Mapping[str, Any]] = [genai, configs["generation_config.json"], configs["config.json"]]
    ends = next((end for config in said if (end := config.get("eos_token_id")) is not None), None)
    if ends is None:
        raise UnsupportedModel(model, "eos_token_id", f"is in none of {', '.join(CONFIG_FILES)}")
    tokenizer = _read(folder / TOKENIZER_CONFIG, model)
    return DecoderFacts(
        graph=file,
        ends=tuple(ends) if isinstance(ends, list) else (int(ends),),
        context_tokens=int(genai.get("context_length") or configs["config.json"].get("max_position_embeddings") or 0),
        chat_template=_template(folder, tokenizer),
        special_tokens={
            name: token["content"] if isinstance(token, dict) else token
            for name, token in tokenizer.items()
            if name.endswith("_token") and isinstance(token, dict | str)
        },
    )


def _read(file: Path, model: str) -> Mapping[str, Any]:
    if not file.is_file():
        return {}
    try:
        content: Any = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UnsupportedModel(model, file.name, f"cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise UnsupportedModel(model, file.name, "is no JSON object")
    return content


def _template(folder: Path, tokenizer: Mapping[str, Any]) -> str:
    """The file of its own, as newer models have it, else the tokenizer's key: one template, or several with names."""
    file = folder / TEMPLATE_FILE
    if file.is_file():
        return file.read_text(encoding="utf-8")
    template = tokenizer.get("chat_template") or ""
    if isinstance(template, list):
        named = {entry["name"]: entry["template"] for entry in template}
        return named.get("default", "")
    return template
