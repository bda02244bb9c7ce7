"""Blob stores: a directory, and a bucket behind a real HTTP server on loopback."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.s3 import BUCKET, KEY_ID, REGION, Bucket, s3_server

from gannet_gateway.blobs.directory import DirectoryStore
from gannet_gateway.blobs.s3 import RETRIES_MAX, BucketStore
from gannet_gateway.blobs.store import BlobStore
from gannet_service.errors import DependencyUnavailable

PART = 5 << 20


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    """A running server."""
    with s3_server() as running:
        yield running


def bucket_store(
    bucket: Bucket, *, url: str = f"s3://{BUCKET}/some/prefix", key_id: str = KEY_ID, timeout_s: float = 20
) -> BucketStore:
    """A client of it."""
    return BucketStore(
        url,
        endpoint=bucket.endpoint,
        region=REGION,
        credentials=(key_id, "secret"),
        timeout_s=timeout_s,
        part_bytes=PART,
    )


@pytest.fixture(params=["directory", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    """Both kinds do the same."""
    if request.param == "directory":
        return DirectoryStore(tmp_path / "blobs")
    return bucket_store(request.getfixturevalue("bucket"))


async def keys(store: BlobStore, prefix: str) -> list[tuple[str, int]]:
    """What is listed."""
    return sorted([(stored.key, stored.size) async for stored in store.list_folder(prefix)])


async def test_put_is_read_back_by_range(store: BlobStore):
    """Every range, the empty ones included; a second put replaces the first."""
    await store.put("a/b/c.1", b"old")
    await store.put("a/b/c.1", b"0123456789")
    assert await store.read("a/b/c.1", 0, 10) == b"0123456789"
    assert await store.read("a/b/c.1", 3, 5) == b"34"
    assert await store.read("a/b/c.1", 10, 10) == b""


async def test_read_of_none_is_not_found(store: BlobStore):
    """And not a store that is down."""
    with pytest.raises(FileNotFoundError):
        await store.read("a/none", 0, 1)


async def test_delete_removes_one_and_does_not_mind_none(store: BlobStore):
    """A deletion may be repeated."""
    await store.put("a/1", b"x")
    await store.put("a/2", b"y")
    for _ in range(2):
        await store.delete("a/1")
    assert await keys(store, "a") == [("a/2", 1)]


async def test_delete_folder_removes_what_is_below_it_alone(store: BlobStore):
    """Also over several pages of the list, and nothing of a neighbour whose name only begins alike."""
    for number in range(8):
        await store.put(f"t/docs/{number % 2}/{number}", b"x")
    await store.put("t/docs2/a", b"yy")
    assert len(await keys(store, "t/docs")) == 8
    for _ in range(2):
        await store.delete_folder("t/docs")
    assert await keys(store, "t") == [("t/docs2/a", 2)]


@pytest.mark.parametrize("size", [0, 10, PART, 3 * PART + 1])
async def test_writer_shows_the_blob_when_it_is_finished(store: BlobStore, size: int):
    """Whole or not at all, in however many pieces it comes."""
    content = os.urandom(1 << 10) * (size // 1024 + 1)
    writer = store.writer("t/new")
    for at in range(0, size, 1 << 20):
        await writer.write(content[at : min(at + (1 << 20), size)])
        assert ("t/new", size) not in await keys(store, "t")
    await writer.finish()
    assert await store.read("t/new", 0, size) == content[:size]
    await writer.discard()
    assert await keys(store, "t") == [("t/new", size)]


@pytest.mark.parametrize("size", [0, 10, 2 * PART])
async def test_writer_discarded_leaves_nothing(store: BlobStore, size: int):
    """Neither the blob nor parts of it."""
    writer = store.writer("t/new")
    if size:
        await writer.write(b"x" * size)
    await writer.discard()
    assert await keys(store, "t") == []


async def test_probe_of_an_answering_store_succeeds(store: BlobStore):
    """An empty store is a healthy one."""
    await store.probe()


async def test_put_of_a_directory_is_on_disk_before_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """File, its folder and every new folder are fsynced; a put that fails leaves no file."""
    synced: list[str] = []

    def fsync(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))

    monkeypatch.setattr(os, "fsync", fsync)
    root = tmp_path / "blobs"
    await DirectoryStore(root).put("a/b/c", b"x")
    assert {str(root), str(root / "a"), str(root / "a" / "b")} <= set(synced)
    assert any(Path(name).name.startswith(".tmp-") for name in synced)

    def fail(_descriptor: int) -> None:
        raise OSError(28, "no space")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no space"):
        await DirectoryStore(root).put("a/b/d", b"x")
    assert [path.name for path in root.rglob("*") if path.is_file()] == ["c"]


async def test_bucket_keys_stand_under_the_prefix_of_its_url(bucket: Bucket):
    """Several installations may share a bucket."""
    await bucket_store(bucket).put("t/a", b"x")
    assert bucket.blobs == {"some/prefix/t/a": b"x"}


async def test_bucket_upload_goes_out_in_parts(bucket: Bucket):
    """No request holds more than a part, and no upload is left open."""
    writer = bucket_store(bucket).writer("t/a")
    for _ in range(17):
        await writer.write(b"x" * (1 << 20))
    await writer.finish()
    assert (bucket.largest_body, bucket.requests["PUT uploadId"], bucket.parts) == (PART, 4, {})
    assert len(bucket.blobs["some/prefix/t/a"]) == 17 << 20


@pytest.mark.parametrize("fault", ["500", "cut"])
async def test_bucket_that_stumbles_is_asked_again(bucket: Bucket, fault: str):
    """A failure or two are nobody's business."""
    store = bucket_store(bucket)
    await store.put("t/a", b"0123")
    bucket.faults += [fault] * 2
    assert await store.read("t/a", 1, 3) == b"12"
    bucket.faults += ["500"] * 2
    await store.put("t/b", b"x")
    assert await store.read("t/b", 0, 1) == b"x"


async def test_bucket_that_fails_is_unavailable_and_asked_no_more(bucket: Bucket):
    """The number of tries is bounded; every operation says so, and the parts of an upload do not stay."""
    store = bucket_store(bucket)
    writer = store.writer("t/w")
    await writer.write(b"x")
    bucket.always = "500"
    for operation in (
        lambda: store.read("t/a", 0, 1),
        lambda: store.put("t/a", b"x"),
        lambda: store.delete("t/a"),
        lambda: store.delete_folder("t"),
        lambda: keys(store, "t"),
        store.probe,
        writer.finish,
    ):
        bucket.requests.clear()
        with pytest.raises(DependencyUnavailable) as caught:
            await operation()
        assert caught.value.reason == "BLOB_STORE_UNAVAILABLE"
        assert 1 <= bucket.requests.total() <= RETRIES_MAX + 1


async def test_bucket_that_hangs_is_given_up(bucket: Bucket):
    """In the time of one operation."""
    bucket.always = "hang"
    with pytest.raises(DependencyUnavailable, match=r"no answer within 0\.2 s"):
        await bucket_store(bucket, timeout_s=0.2).read("t/a", 0, 1)


async def test_bucket_that_is_missing_is_no_missing_blob(bucket: Bucket):
    """A wrong setting must not look like documents without texts."""
    store = bucket_store(bucket, url="s3://another-bucket")
    for operation in (store.read("t/a", 0, 1), store.put("t/a", b"x"), keys(store, "t")):
        with pytest.raises(DependencyUnavailable, match="no such bucket"):
            await operation


async def test_bucket_that_refuses_the_key_says_so(bucket: Bucket):
    """Nothing goes in or out with another one."""
    store = bucket_store(bucket, key_id="other")
    for operation in (store.put("t/a", b"x"), store.read("t/a", 0, 1)):
        with pytest.raises(DependencyUnavailable, match="credentials are refused"):
            await operation
    assert bucket.blobs == {}
