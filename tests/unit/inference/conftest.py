"""Models that the tests of this folder share."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reference import tiny_model as tiny

from gannet_inference.encoder import BiEncoder, CrossEncoder
from gannet_inference.manifest import Folder, ModelEntry, load_manifest
from gannet_inference.store import BuiltModel, ensure_built

TinyModel = Callable[..., ModelEntry]


@pytest.fixture
def tiny_model(tmp_path: Path) -> TinyModel:
    """Writes a tiny model folder and gives its manifest entry; keywords override the entry's keys."""

    def write(
        *, config: dict[str, Any] | None = None, weights: dict[str, np.ndarray] | None = None, **entry: Any
    ) -> ModelEntry:
        tiny.write(tmp_path / "tiny", config=config, weights=weights)
        keys: dict[str, Any] = {"kind": "bi-encoder", "licence": "none", "tokens_max": 12, "precision": "fp32"}
        return ModelEntry(name="tiny", source=Folder(folder=tmp_path / "tiny"), **(keys | entry))

    return write


@pytest.fixture(scope="session")
def embedder_built(models_dir: Path) -> BuiltModel:
    """The built-in embedder in its default precision."""
    return ensure_built(load_manifest().entry("all-minilm-l6-v2"), None, models_dir)


@pytest.fixture(scope="session")
def embedder(embedder_built: BuiltModel) -> Iterator[BiEncoder]:
    """The built-in embedder, opened with two sessions."""
    encoder = BiEncoder.open(embedder_built, sessions=2)
    yield encoder
    encoder.close()


@pytest.fixture(scope="session")
def reranker(models_dir: Path) -> Iterator[CrossEncoder]:
    """The built-in reranker in fp32, which `expected.json` was made with, opened with two sessions."""
    encoder = CrossEncoder.open(
        ensure_built(load_manifest().entry("reranker-minilm-l6-qa"), "fp32", models_dir), sessions=2
    )
    yield encoder
    encoder.close()
