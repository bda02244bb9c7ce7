"""Runs of sources, over a real ledger, journal and blobs, a real directory and a real HTTP server."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from unit.gateway.conftest import Clock
from unit.gateway.fakes import COLLECTION, FakeEmbedder
from unit.gateway.ingestion import Ingestion, upload

from gannet_gateway.ledger.engine import Database
from gannet_gateway.ledger.ledger import Ledger
from gannet_gateway.ledger.sources import SOURCES_MAX, Run, Source, Sources
from gannet_gateway.names import CollectionName, SourceName
from gannet_gateway.sources.files import Files
from gannet_gateway.sources.places import Places
from gannet_gateway.sources.runner import SourceRunner
from gannet_service.errors import AlreadyExists, NotFound, Overloaded

NAME = SourceName(COLLECTION.tenant, COLLECTION.collection, "wiki")
BYTES_MAX = 1000


class Site:
    """A web site of one page."""

    def __init__(self) -> None:
        self.status, self.content, self.mime_type = 200, b"<p>One.</p>", "text/html; charset=utf-8"
        self.origin = ""


@pytest.fixture
def site() -> Iterator[Site]:
    """The site, served."""
    served = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(served.status)
            self.send_header("content-type", served.mime_type)
            self.send_header("location", "http://127.0.0.1:9/elsewhere")
            self.end_headers()
            self.wfile.write(served.content)

        def log_message(self, *_arguments: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.origin = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield served
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def sources(database: Database, clock: Clock, ledger: Ledger) -> Sources:
    """What is due; a lease is 30 seconds."""
    return Sources(database, lease_s=30, clock=clock)


@pytest.fixture
async def runner(
    *, sources: Sources, ledger: Ledger, ingestion: Ingestion, clock: Clock, tmp_path: Path, site: Site
) -> AsyncIterator[SourceRunner]:
    """One gateway."""
    async with httpx.AsyncClient(trust_env=False) as client:
        places = Places([str(tmp_path / "files")], [site.origin])
        files = Files(places, client, bytes_max=BYTES_MAX, timeout_s=20)
        yield SourceRunner(sources, ledger, files, ingestion.ingester, poll_s=1, lease_s=30, in_work_max=2, clock=clock)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory with three documents and what is none."""
    root = tmp_path / "files"
    for name, text in (
        ("a.md", "# A\n\nOne."),
        ("sub/b.txt", "Two."),
        ("sub/c.csv", "x\n1\n"),
        (".git/d.md", "No."),
        ("e.py", "No."),
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "link.md").symlink_to("/etc/hostname")
    return root


async def documents(ledger: Ledger) -> dict[str, int]:
    """Documents and their revisions."""
    page = await ledger.list_documents(COLLECTION, after="", limit=100)
    return {document.name.document: document.revision for document in page.items}


async def counts(sources: Sources) -> tuple[int, int, int, int]:
    """Indexed, unchanged, deleted, failed of the last run, which came to its end."""
    run = (await sources.get(NAME)).last_run
    assert run is not None
    assert run.error == ""
    return run.indexed, run.unchanged, run.deleted, run.failed


async def test_run_ingests_files_and_only_what_changed_the_next_time(
    *, sources: Sources, runner: SourceRunner, ledger: Ledger, folder: Path, clock: Clock, embedder: FakeEmbedder
):
    """Known suffixes, no hidden files and links; unchanged ones are not embedded again; nothing runs before it is due."""
    await sources.create(Source(name=NAME, directory=str(folder), interval_s=60))
    assert await runner.run_due()
    assert await documents(ledger) == {"wiki/a.md": 1, "wiki/sub/b.txt": 1, "wiki/sub/c.csv": 1}
    assert await counts(sources) == (3, 0, 0, 0)
    document = await ledger.document(COLLECTION.document("wiki/a.md"))
    assert (document.metadata, document.mime_type, document.title) == ({"source": "wiki"}, "text/markdown", "A")
    assert not await runner.run_due()
    (folder / "a.md").write_text("# A\n\nChanged.")
    (folder / "sub/b.txt").unlink()
    embedder.texts.clear()
    clock.now += 60
    assert await runner.run_due()
    assert len(embedder.texts) == 1
    assert await counts(sources) == (1, 1, 0, 0)
    assert await documents(ledger) == {"wiki/a.md": 2, "wiki/sub/b.txt": 1, "wiki/sub/c.csv": 1}


async def test_run_of_a_mirror_deletes_what_vanished_and_nothing_else(
    sources: Sources, runner: SourceRunner, ledger: Ledger, ingestion: Ingestion, folder: Path
):
    """Neither other documents of the collection nor one that somebody uploaded under such an id."""
    collection = await ledger.collection_settings(COLLECTION)
    for document_id in ("other.md", "wiki/by-hand.md", "wikipedia.md"):
        await ingestion.ingester.index(collection, upload("Mine.", name=COLLECTION.document(document_id)))
    await sources.create(Source(name=NAME, directory=str(folder), mirror=True))
    await runner.run_due()
    (folder / "a.md").unlink()
    await sources.ask(NAME)
    await runner.run_due()
    assert await counts(sources) == (0, 2, 1, 0)
    kept = {"other.md", "wiki/by-hand.md", "wiki/sub/b.txt", "wiki/sub/c.csv", "wikipedia.md"}
    assert set(await documents(ledger)) == kept


async def test_run_of_a_mirror_that_finds_nothing_deletes_nothing(
    sources: Sources, runner: SourceRunner, ledger: Ledger, folder: Path
):
    """A volume that is not mounted is an empty directory; one that is missing says so."""
    await sources.create(Source(name=NAME, directory=str(folder), mirror=True))
    await runner.run_due()
    folder.rename(folder.with_name("away"))  # noqa: ASYNC240 - a moment
    for problem in ("is not a directory here", "is it mounted?"):
        await sources.ask(NAME)
        await runner.run_due()
        run = (await sources.get(NAME)).last_run
        assert run is not None
        assert problem in run.error
        folder.mkdir(exist_ok=True)  # noqa: ASYNC240 - a moment
    assert len(await documents(ledger)) == 3


async def test_run_counts_broken_files_and_goes_on(
    sources: Sources, runner: SourceRunner, ledger: Ledger, folder: Path
):
    """Each is named with what is wrong; what was stored of it stays."""
    (folder / "big.md").write_text("x" * (BYTES_MAX + 1))
    (folder / "binary.txt").write_bytes(b"\0")
    (folder / "blank .md ").write_text("x")
    await sources.create(Source(name=NAME, directory=str(folder), include=("*.md*", "*.txt")))
    await runner.run_due()
    run = (await sources.get(NAME)).last_run
    assert run is not None
    assert (run.indexed, run.failed) == (2, 3)
    assert dict(run.failures) == {
        "big.md": f"larger than document_bytes_max = {BYTES_MAX} bytes",
        "binary.txt": "content: a binary file (it holds NUL bytes); text in UTF-8 is needed",
        "blank .md ": "path: control characters and white space at the ends are not allowed",
    }


async def test_run_of_an_address_ingests_its_body(sources: Sources, runner: SourceRunner, ledger: Ledger, site: Site):
    """By its content type; a mirror deletes the document once the address is gone, and not when it fails."""
    url = f"{site.origin}/docs/page"
    document_id = f"wiki/{url.removeprefix('http://')}"
    await sources.create(Source(name=NAME, url=url, mirror=True))
    await runner.run_due()
    assert await documents(ledger) == {document_id: 1}
    assert (await ledger.document(COLLECTION.document(document_id))).mime_type == "text/html"
    for status, left in ((503, 1), (302, 1), (404, 0)):
        site.status = status
        await sources.ask(NAME)
        await runner.run_due()
        assert len(await documents(ledger)) == left
        run = (await sources.get(NAME)).last_run
        assert run is not None
        assert run.error == ("" if status == 404 else f"{url} answers with status {status}")


@pytest.mark.parametrize(
    "content, origin, problem", [(b"x" * 1001, None, "larger than"), (b"", "http://127.0.0.1:9", "begins with none")]
)
async def test_run_of_an_address_out_of_bounds_fails(
    *, sources: Sources, runner: SourceRunner, site: Site, content: bytes, origin: str | None, problem: str
):
    """Too large, or not opened any more: the operator's list counts at every run."""
    site.content = content
    await sources.create(Source(name=NAME, url=f"{origin or site.origin}/x"))
    await runner.run_due()
    run = (await sources.get(NAME)).last_run
    assert run is not None
    assert problem in run.error


async def test_run_is_one_gateways_and_anothers_once_the_lease_has_ended(
    sources: Sources, runner: SourceRunner, folder: Path, clock: Clock
):
    """Whoever lost it cannot record its run over the other's."""
    source = await sources.create(Source(name=NAME, directory=str(folder)))
    claimed = await sources.claim("first")
    assert claimed is not None
    assert (await sources.get(NAME)).running
    assert await sources.claim("second") is None
    assert await sources.renew(NAME, "first")
    clock.now += 31
    assert not (await sources.get(NAME)).running
    assert await runner.run_due()
    assert not await sources.renew(NAME, "first")
    before = await sources.get(NAME)
    assert before.last_run is not None
    assert not await sources.finish(claimed, "first", before.last_run, 5.0)
    assert await sources.get(NAME) == before
    assert source.created_at_s == before.created_at_s


async def test_run_asked_for_during_a_run_follows_it(sources: Sources, runner: SourceRunner, folder: Path):
    """What changed after the run had looked is not missed."""
    await sources.create(Source(name=NAME, directory=str(folder)))
    claimed = await sources.claim("first")
    assert claimed is not None
    await sources.ask(NAME)
    await runner.run_due()
    assert await sources.claim("third") is None
    run = (await sources.get(NAME)).last_run
    assert run is None
    assert await sources.finish(claimed, "first", Run(started_at_s=1.0), None)
    assert await runner.run_due()
    assert not await runner.run_due()


async def test_run_cut_off_is_repeated(
    *, sources: Sources, runner: SourceRunner, ledger: Ledger, folder: Path, clock: Clock, embedder: FakeEmbedder
):
    """A gateway that goes away in the middle of a run leaves it due."""
    await sources.create(Source(name=NAME, directory=str(folder)))
    entered, real = asyncio.Event(), embedder.passages

    async def hang(*_arguments: Any, **_options: Any) -> None:
        entered.set()
        await asyncio.Event().wait()

    embedder.passages = hang
    task = asyncio.create_task(runner.run_due())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    embedder.passages = real
    clock.now += 31
    assert await runner.run_due()
    assert len(await documents(ledger)) == 3


async def test_run_into_a_collection_that_fails_is_recorded(
    *, sources: Sources, runner: SourceRunner, folder: Path, ingestion: Ingestion, monkeypatch: pytest.MonkeyPatch
):
    """A bug too: the run says that the log has it, and the runner goes on."""
    await sources.create(Source(name=NAME, directory=str(folder)))

    async def bug(*_arguments: Any, **_options: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(ingestion.ingester, "index", bug)
    await runner.run_due()
    run = (await sources.get(NAME)).last_run
    assert run is not None
    assert run.error == "internal error; the gateway's log has it"


async def test_sources_are_kept_by_collection(sources: Sources, ledger: Ledger, ingestion: Ingestion):
    """An id is taken once, lists go in order, a collection takes its sources along, and their number is bounded."""
    for number in (2, 0, 1):
        await sources.create(
            Source(name=SourceName("acme", "docs", f"s{number}"), directory="/x", include=("*.md",), cron="* * * * *")
        )
    with pytest.raises(AlreadyExists):
        await sources.create(Source(name=SourceName("acme", "docs", "s1"), directory="/y"))
    with pytest.raises(NotFound):
        await sources.create(Source(name=SourceName("acme", "none", "s1"), directory="/y"))
    page = await sources.list(COLLECTION, after="s0", limit=1)
    assert ([source.name.source for source in page.items], page.next_after) == (["s1"], "s1")
    assert page.items[0].include == ("*.md",)
    await sources.delete(SourceName("acme", "docs", "s0"))
    with pytest.raises(NotFound):
        await sources.delete(SourceName("acme", "docs", "s0"))
    for number in range(3, SOURCES_MAX + 1):
        await sources.create(Source(name=SourceName("acme", "docs", f"s{number}"), directory="/x"))
    with pytest.raises(Overloaded):
        await sources.create(Source(name=NAME, directory="/x"))
    await ingestion.ingester.delete_collection(COLLECTION)
    assert (await sources.list(CollectionName("acme", "docs"), after="", limit=1)).items == []
