"""The models folder: `<models_dir>/<name>/<precision>-<digest12>/{model.onnx,tokenizer.json,meta.json}`."""

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gannet_inference.build import GRAPH_REVISION, write_model
from gannet_inference.errors import DigestMismatch, FetchFailed, UnsupportedModel
from gannet_inference.fetch import Progress, check_digests, fetch, file_sha256, locked, replacing, source_digests
from gannet_inference.manifest import Kind, ModelEntry, Pooling, Precision, Purpose

MODEL_FILE = "model.onnx"
TOKENIZER_FILE = "tokenizer.json"
META_FILE = "meta.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltModel:
    """A model on disk, ready to be opened.

    Attributes:
        path: the folder with its files.
        name: the manifest name.
        kind: bi-encoder or cross-encoder.
        precision: of the weights.
        digest: sha256 in hex over everything that determines a vector or a score.
        dim: components of a token embedding; 1 for a cross-encoder.
        tokens_max: the longest input, special tokens included.
        pooling: how token embeddings become one vector.
        normalise: scale vectors to length 1.
        prompts: put in front of a text, by purpose.
        licence: the model's.
    """

    path: Path
    name: str
    kind: Kind
    precision: Precision
    digest: str
    dim: int
    tokens_max: int
    pooling: Pooling
    normalise: bool
    prompts: dict[Purpose, str]
    licence: str

    @property
    def model_file(self) -> Path:
        """The ONNX graph."""
        return self.path / MODEL_FILE

    @property
    def tokenizer_file(self) -> Path:
        """The tokenizer."""
        return self.path / TOKENIZER_FILE


def ensure_built(
    entry: ModelEntry,
    precision: Precision | None,
    models_dir: Path,
    *,
    progress: Progress = lambda _: None,
    hub_endpoint: str | None = None,
) -> BuiltModel:
    """Gives the model on disk, fetching and building it unless an intact build is there.

    An intact build costs reading its files once (0.1 s). Safe to call from several processes: one builds, the others
    wait.

    Args:
        entry: what to build.
        precision: of the weights; None for the entry's own.
        models_dir: where builds and fetched files are kept.
        progress: told in a few words what takes time.
        hub_endpoint: another hub than the public one.

    Raises:
        ModelError: one of its kinds, by what went wrong; nothing half-built is left.
    """
    if entry.kind == "decoder":
        raise UnsupportedModel(entry.name, "kind", "a decoder is not built but opened as it is, by the generator")
    precision = precision or entry.precision
    digest = _digest(entry, precision)
    target = models_dir / entry.name / f"{precision}-{digest[:12]}"
    # Asked before the lock too: models that come with an image lie on a file system that cannot be written.
    if _is_intact(entry, target):
        return _read(entry, target, precision, digest)
    with locked(target, model=entry.name):
        if _is_intact(entry, target):
            return _read(entry, target, precision, digest)
        source = fetch(entry, models_dir, progress=progress, hub_endpoint=hub_endpoint)
        progress(f"{entry.name}: building {precision}")
        with replacing(target) as temporary:
            dim = write_model(entry, source, precision, temporary / MODEL_FILE)
            shutil.copyfile(source / TOKENIZER_FILE, temporary / TOKENIZER_FILE)
            meta = {
                "digest": digest,
                "dim": dim,
                "files": {file: file_sha256(temporary / file) for file in (MODEL_FILE, TOKENIZER_FILE)},
            }
            (temporary / META_FILE).write_text(json.dumps(meta, indent=2) + "\n", encoding="utf-8")
    return _read(entry, target, precision, digest)


def _digest(entry: ModelEntry, precision: Precision) -> str:
    """sha256 over everything that determines a vector or a score."""
    parts = {
        "graph": GRAPH_REVISION,
        "files": dict(source_digests(entry)),
        "adapter": entry.adapter.digests if entry.adapter else {},
        "precision": precision,
        **entry.model_dump(include={"kind", "format", "tokens_max", "pooling", "normalise", "prompts"}),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _meta(target: Path) -> dict[str, Any]:
    return json.loads((target / META_FILE).read_text(encoding="utf-8"))


def _is_intact(entry: ModelEntry, target: Path) -> bool:
    try:
        check_digests(entry.name, target, _meta(target)["files"])
    except (OSError, ValueError, KeyError, FetchFailed, DigestMismatch):
        return False
    return True


def _read(entry: ModelEntry, target: Path, precision: Precision, digest: str) -> BuiltModel:
    return BuiltModel(
        path=target,
        name=entry.name,
        kind=entry.kind,
        precision=precision,
        digest=digest,
        dim=_meta(target)["dim"],
        tokens_max=entry.tokens_max,
        pooling=entry.pooling,
        normalise=entry.normalise,
        prompts={"query": entry.prompts.query, "passage": entry.prompts.passage},
        licence=entry.licence,
    )
