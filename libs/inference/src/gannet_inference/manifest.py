"""The model manifest: TOML that names each model's source, digests and how it is read.

The built-in manifest ships with the package; a user's is merged over it key by key, so that one line can change a
built-in model's precision and one table can add a model.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from gannet_inference.errors import ManifestError

Kind = Literal["bi-encoder", "cross-encoder", "decoder"]
Precision = Literal["int4", "int8", "fp16", "fp32"]
Pooling = Literal["mean", "cls", "max"]
Purpose = Literal["query", "passage"]
ModelFormat = Literal["safetensors", "onnx"]

BUILTIN_MANIFEST = Path(__file__).parent / "builtin" / "manifest.toml"

# Names become folders and metric labels.
ModelName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
# Relative, no part starts with a dot: a manifest cannot reach outside the folder that its source was unpacked to.
FilePath = Annotated[str, StringConstraints(pattern=r"^\w[\w.-]*(/\w[\w.-]*)*$")]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Wheel(_Table):
    """A wheel from the user's package index, taken as data: never installed, its dependencies never followed."""

    wheel: str
    version: str
    path: FilePath


class Hub(_Table):
    """A repository of the Hugging Face hub at one commit."""

    hub: Annotated[str, StringConstraints(pattern=r"^[\w.-]+/[\w.-]+$")]
    revision: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]


class Folder(_Table):
    """A folder on this machine; a relative path starts at the manifest's own folder."""

    folder: Path


class Adapter(_Table):
    """A LoRA adapter in PEFT's layout, merged into the weights when the model is built."""

    folder: Path
    digests: dict[FilePath, Sha256]


class Prompts(_Table):
    """What the model expects in front of a text, by purpose."""

    query: str = ""
    passage: str = ""


class ModelEntry(_Table):
    """One model of the manifest.

    Attributes:
        name: its key in the manifest.
        kind: a bi-encoder gives token embeddings that are pooled, a cross-encoder one logit per pair, a decoder writes text.
        source: where the files come from.
        digests: sha256 by file. Every file that is read must be named, except from a local folder, where none may be.
        licence: the model's, for people to read; SPDX where there is one.
        format: safetensors to write a graph from, or an ONNX export to take as it is.
        tokens_max: the longest input, special tokens included; of a decoder, prompt and answer together.
        pooling: how token embeddings become one vector (bi-encoders only).
        normalise: scale vectors to length 1 (bi-encoders only).
        prompts: put in front of every text.
        precision: what a server opens unless it is told to open another, or its device asks for another (`placement`); of a
            decoder, what its export holds, for people to read. int4 is for decoders alone.
        also: further precisions that `gannet models build` builds, for servers that ask for them.
        adapter: merged into the weights.
    """

    name: ModelName
    kind: Kind
    source: Wheel | Hub | Folder
    digests: dict[FilePath, Sha256] = {}
    licence: str
    format: ModelFormat = "safetensors"
    tokens_max: Annotated[int, Field(ge=8, le=32_768)]
    pooling: Pooling = "mean"
    normalise: bool = True
    prompts: Prompts = Prompts()
    precision: Precision = "int8"
    also: tuple[Precision, ...] = ()
    adapter: Adapter | None = None

    @model_validator(mode="after")
    def _names_its_files(self) -> Self:
        if self.digests or not isinstance(self.source, Folder):
            needed = {"tokenizer.json"}
            if self.format == "safetensors":
                needed |= {"config.json", "model.safetensors"}
            missing = sorted(needed - self.digests.keys())
            if missing:
                raise ValueError(f"digests: leaves out {', '.join(missing)}")
            if self.format == "onnx" and not any(file.endswith(".onnx") for file in self.digests):
                raise ValueError("digests: names no .onnx file")
        if self.kind == "decoder" and (self.format != "onnx" or self.also):
            raise ValueError('kind: a decoder is an ONNX export that is taken as it is: format = "onnx", and no `also`')
        if self.kind != "decoder" and "int4" in {self.precision, *self.also}:
            raise ValueError("precision: int4 is for decoders alone")
        if self.format == "onnx" and self.adapter:
            raise ValueError("adapter: cannot be merged into an ONNX export; name the safetensors instead")
        return self


class Manifest(_Table):
    """All models, by name."""

    models: dict[ModelName, ModelEntry]

    def entry(self, name: str) -> ModelEntry:
        """The model of that name.

        Raises:
            ManifestError: there is none.
        """
        if name not in self.models:
            raise ManifestError(name, "name", f"no such model; there are {', '.join(sorted(self.models))}")
        return self.models[name]


def load_manifest(user_file: Path | None = None) -> Manifest:
    """Reads the built-in manifest and merges a user's over it.

    Raises:
        ManifestError: a file cannot be read, or an entry has an unknown, missing or malformed key.
    """
    tables = _read(BUILTIN_MANIFEST)
    if user_file is not None:
        for name, table in _read(user_file).items():
            tables[name] = {**tables.get(name, {}), **table}
    return Manifest(models={name: _validate(name, table, user_file) for name, table in tables.items()})


def _read(file: Path) -> dict[str, dict[str, Any]]:
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ManifestError("*", str(file), str(error)) from error
    models: Any = document.pop("models", {})
    if document:
        raise ManifestError("*", str(file), f"unknown key {next(iter(document))!r}; [models.<name>] is all there is")
    if not isinstance(models, Mapping) or not all(isinstance(table, Mapping) for table in models.values()):
        raise ManifestError("*", str(file), "models must be a table of tables")
    return {name: _with_absolute_folders(dict(table), file.parent) for name, table in models.items()}


def _with_absolute_folders(table: dict[str, Any], base: Path) -> dict[str, Any]:
    # Resolved before the merge: afterwards nobody knows which file a relative path came from.
    for key in ("source", "adapter"):
        value = table.get(key)
        if isinstance(value, Mapping) and isinstance(value.get("folder"), str):
            table[key] = {**value, "folder": str((base / value["folder"]).resolve())}
    return table


def _validate(name: str, table: dict[str, Any], user_file: Path | None) -> ModelEntry:
    try:
        return ModelEntry.model_validate({**table, "name": name})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "entry"
        raise ManifestError(name, f"{user_file or BUILTIN_MANIFEST.name}: {key}", first["msg"]) from error
