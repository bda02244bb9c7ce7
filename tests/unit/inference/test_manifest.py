"""Reading and merging manifests, and the refusal of mistakes in them."""

from pathlib import Path

import pytest

from gannet_inference.errors import ManifestError
from gannet_inference.manifest import Folder, Hub, load_manifest

SHA = "0" * 64
BUILTIN = {"all-minilm-l6-v2": "bi-encoder", "reranker-minilm-l6-qa": "cross-encoder"}


@pytest.fixture
def write(tmp_path):
    """Writes a user's manifest and gives its path."""

    def write(text: str) -> Path:
        (tmp_path / "models.toml").write_text(text, encoding="utf-8")
        return tmp_path / "models.toml"

    return write


def test_load_manifest_alone_has_the_builtin_models():
    """Both models that Gannet needs come with it."""
    assert {name: entry.kind for name, entry in load_manifest().models.items()} == BUILTIN


def test_load_manifest_user_key_changes_one_key_of_a_builtin_model(write):
    """A user's table is merged key by key."""
    manifest = load_manifest(write('[models.all-minilm-l6-v2]\nprecision = "fp32"\n'))

    entry, builtin = manifest.entry("all-minilm-l6-v2"), load_manifest().entry("all-minilm-l6-v2")
    assert entry == builtin.model_copy(update={"precision": "fp32"})


def test_load_manifest_relative_folder_starts_at_the_manifest(write, tmp_path):
    """A relative folder belongs to the file that names it."""
    text = '[models.mine]\nkind = "bi-encoder"\nsource = {folder = "weights"}\nlicence = "MIT"\ntokens_max = 128\n'

    entry = load_manifest(write(text)).entry("mine")

    assert Folder(folder=tmp_path / "weights") == entry.source
    assert entry.digests == {}


def test_load_manifest_hub_entry_keeps_repository_and_revision(write):
    """A hub source is pinned to a commit, and its files to digests."""
    files = ("config.json", "model.safetensors", "tokenizer.json")
    digests = "\n".join(f'"{file}" = "{SHA}"' for file in files)
    text = (
        f'[models.ms]\nkind = "cross-encoder"\nsource = {{hub = "org/ms-marco", revision = "{"a" * 40}"}}\n'
        f'licence = "MIT"\ntokens_max = 512\n[models.ms.digests]\n{digests}\n'
    )

    entry = load_manifest(write(text)).entry("ms")

    assert Hub(hub="org/ms-marco", revision="a" * 40) == entry.source
    assert sorted(files) == sorted(entry.digests)


MINE = '[models.mine]\nkind = "bi-encoder"\nlicence = "MIT"\ntokens_max = 128\n'


@pytest.mark.parametrize(
    "text,problem",
    [
        ("[models.all-minilm-l6-v2]\npoling = 'mean'\n", "all-minilm-l6-v2.*poling: Extra inputs"),
        ("[models.all-minilm-l6-v2]\ntokens_max = 0\n", "tokens_max: .*greater"),
        ("[models.all-minilm-l6-v2]\nprecision = 'int4'\n", "precision"),
        ("[models.all-minilm-l6-v2.digests]\n'../x' = '0'\n", "digests"),
        ("[models.all-minilm-l6-v2]\ndigests = {'config.json' = '" + SHA + "'}\n", "leaves out model.safetensors"),
        ("[models.'Bad Name']\n" + MINE.partition("\n")[2], "name"),
        (MINE, "mine.*source: Field required"),
        (MINE + "source = {hub = 'org/x', revision = 'main'}\n", "source"),
        (MINE + "source = {hub = 'org/x', revision = '" + "a" * 40 + "'}\n", "digests: leaves out"),
        (MINE + "source = {folder = 'x'}\nformat = 'onnx'\nadapter = {folder = 'y', digests = {}}\n", "adapter"),
        (MINE + "format = 'onnx'\nsource = {folder = 'x'}\ndigests = {'tokenizer.json' = '" + SHA + "'}\n", "no .onnx"),
        (MINE.replace("bi-encoder", "decoder") + "source = {folder = 'x'}\n", "a decoder is an ONNX export"),
        (MINE + "source = {folder = 'x'}\nprecision = 'int4'\n", "int4 is for decoders"),
        ("[modles.x]\n", "unknown key 'modles'"),
        ("models = 3\n", "table of tables"),
        ("not toml", "models.toml"),
    ],
)
def test_load_manifest_mistake_is_refused_naming_file_model_and_key(write, text, problem):
    """The message says where to look."""
    with pytest.raises(ManifestError, match=problem) as refusal:
        load_manifest(write(text))

    assert "models.toml" in str(refusal.value)


def test_load_manifest_missing_file_is_refused(tmp_path):
    """A path that is not there is a mistake, not an empty manifest."""
    with pytest.raises(ManifestError, match=r"absent\.toml"):
        load_manifest(tmp_path / "absent.toml")


def test_manifest_entry_unknown_name_lists_the_known_ones():
    """A mistyped name is answered with the names that there are."""
    with pytest.raises(ManifestError, match="no such model; there are all-minilm-l6-v2, reranker"):
        load_manifest().entry("all-minilm")
