"""The models folder: built once, found again, repaired, never half there."""

import json

import pytest

from gannet_inference import store
from gannet_inference.errors import DigestMismatch, FetchFailed, UnsupportedModel
from gannet_inference.fetch import file_sha256
from gannet_inference.manifest import Prompts
from gannet_inference.store import ensure_built


@pytest.fixture
def said():
    """What a build said it was doing."""
    return []


def test_ensure_built_lays_out_the_folder_by_name_precision_and_digest(tiny_model, tmp_path):
    """Everything that a service needs is in one folder and in the value."""
    entry = tiny_model(prompts=Prompts(query="ask: "))

    built = ensure_built(entry, "int8", tmp_path / "models")

    assert built.path == tmp_path / "models" / "tiny" / f"int8-{built.digest[:12]}"
    assert sorted(file.name for file in built.path.iterdir()) == ["meta.json", "model.onnx", "tokenizer.json"]
    assert (built.name, built.kind, built.precision, built.dim) == ("tiny", "bi-encoder", "int8", 16)
    assert (built.tokens_max, built.pooling, built.normalise) == (12, "mean", True)
    assert built.prompts == {"query": "ask: ", "passage": ""}


def test_ensure_built_second_call_builds_nothing(tiny_model, tmp_path, said):
    """An intact build is found, by an equal value."""
    entry = tiny_model()
    first = ensure_built(entry, None, tmp_path, progress=said.append)

    assert ensure_built(entry, None, tmp_path, progress=said.append) == first
    assert said == ["tiny: building fp32"]


@pytest.mark.parametrize("file", ["model.onnx", "tokenizer.json", "meta.json"])
def test_ensure_built_corrupted_file_is_rebuilt(tiny_model, tmp_path, said, file):
    """A flipped byte is noticed and the build made anew."""
    entry = tiny_model()
    built = ensure_built(entry, None, tmp_path)
    intact = file_sha256(built.path / file)
    content = bytearray((built.path / file).read_bytes())
    content[len(content) // 2] ^= 0xFF
    (built.path / file).write_bytes(content)

    ensure_built(entry, None, tmp_path, progress=said.append)

    assert said == ["tiny: building fp32"]
    assert file_sha256(built.path / file) == intact


def test_ensure_built_leftovers_of_a_killed_build_are_swept(tiny_model, tmp_path):
    """What a killed process left behind does not stay."""
    entry = tiny_model()
    built = ensure_built(entry, None, tmp_path)
    leftover = built.path.parent / f".{built.path.name}.building-abc"
    leftover.mkdir()
    built.model_file.unlink()

    ensure_built(entry, None, tmp_path)

    assert not leftover.exists()


@pytest.mark.parametrize(
    "change",
    [
        {"tokens_max": 11},
        {"pooling": "cls"},
        {"normalise": False},
        {"prompts": Prompts(query="q: ")},
        {"precision": "int8"},
    ],
)
def test_ensure_built_whatever_changes_a_vector_changes_the_digest(tiny_model, tmp_path, change):
    """Two entries that could give different vectors never share a digest."""
    assert (
        ensure_built(tiny_model(), None, tmp_path).digest != ensure_built(tiny_model(**change), None, tmp_path).digest
    )


def test_ensure_built_other_weights_or_graph_revision_change_the_digest(tiny_model, tmp_path, monkeypatch):
    """So do the bytes of a local folder and the way that graphs are written; the licence does not."""
    digests = [ensure_built(tiny_model(), None, tmp_path).digest]
    assert [ensure_built(tiny_model(licence="MIT"), None, tmp_path).digest] == digests

    monkeypatch.setattr(store, "GRAPH_REVISION", store.GRAPH_REVISION + 1)
    digests.append(ensure_built(tiny_model(), None, tmp_path).digest)
    digests.append(ensure_built(tiny_model(config={"layer_norm_eps": 1e-5}), None, tmp_path).digest)

    assert len(set(digests)) == 3


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "tokenizer.json"])
def test_ensure_built_folder_without_a_file_is_refused(tiny_model, tmp_path, file):
    """The refusal names the file that is missing."""
    entry = tiny_model()
    (tmp_path / "tiny" / file).unlink()

    with pytest.raises(FetchFailed, match=f"{file}: there is no such file"):
        ensure_built(entry, None, tmp_path)


def test_ensure_built_folder_with_a_wrong_digest_is_refused(tiny_model, tmp_path):
    """A declared digest holds for a local folder too, and nothing is left behind."""
    entry = tiny_model()
    files = ("config.json", "model.safetensors", "tokenizer.json")
    digests = {file: file_sha256(tmp_path / "tiny" / file) for file in files} | {"tokenizer.json": "0" * 64}

    with pytest.raises(DigestMismatch) as refusal:
        ensure_built(tiny_model(digests=digests), None, tmp_path / "models")

    assert (refusal.value.model, refusal.value.file, refusal.value.expected) == ("tiny", "tokenizer.json", "0" * 64)
    assert refusal.value.found == file_sha256(tmp_path / "tiny" / "tokenizer.json")
    assert [path for path in (tmp_path / "models").rglob("*") if path.is_file() and path.suffix != ".lock"] == []
    assert entry.digests == {}


def test_ensure_built_failing_build_leaves_nothing(tiny_model, tmp_path, monkeypatch):
    """A build that breaks half-way leaves no folder that could be taken for a model."""

    def break_down(_entry, _source, _precision, target):
        target.write_bytes(b"half")
        raise UnsupportedModel("tiny", "x", "y")

    monkeypatch.setattr(store, "write_model", break_down)

    with pytest.raises(UnsupportedModel):
        ensure_built(tiny_model(), None, tmp_path / "models")

    assert [path for path in (tmp_path / "models" / "tiny").iterdir() if path.is_dir()] == []


def test_ensure_built_meta_records_what_was_built(tiny_model, tmp_path):
    """The digests in meta.json are those of the files beside it."""
    built = ensure_built(tiny_model(), None, tmp_path)

    meta = json.loads((built.path / "meta.json").read_text(encoding="utf-8"))

    assert meta["digest"] == built.digest
    assert meta["files"] == {file: file_sha256(built.path / file) for file in ("model.onnx", "tokenizer.json")}
