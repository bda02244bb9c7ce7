"""Runs sources that are due: claims one, ingests what its place holds, and records what became of it."""

import asyncio
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import structlog

from gannet_gateway.documents.ingest import Ingester, Upload
from gannet_gateway.ledger.ledger import Ledger
from gannet_gateway.ledger.records import Collection
from gannet_gateway.ledger.sources import Run, Source, Sources
from gannet_gateway.names import CollectionName, check_document_id
from gannet_gateway.parsing.parser import Held
from gannet_gateway.sources.files import BrokenFile, Files, SourceFile, Unreachable
from gannet_gateway.sources.schedule import next_run_at_s
from gannet_service.errors import GannetError, NotFound

RENEWALS_A_LEASE = 3
FAILURES_MAX = 20
MESSAGE_CHARACTERS_MAX = 300
PAGE_DOCUMENTS = 500
# The metadata entry that says which source a document is from.
SOURCE_KEY = "source"

_log: structlog.stdlib.BoundLogger = structlog.get_logger("sources")


@dataclass(slots=True, kw_only=True)
class _Tally:
    """A run while it goes on."""

    run: Run
    failures: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])

    def count(self, outcome: str) -> None:
        self.run = replace(self.run, **{outcome: getattr(self.run, outcome) + 1})

    def failed(self, path: str, message: str) -> None:
        self.count("failed")
        if len(self.failures) < FAILURES_MAX:
            self.failures.append((path[:MESSAGE_CHARACTERS_MAX], message[:MESSAGE_CHARACTERS_MAX]))


class SourceRunner:
    """One gateway's share of the runs.

    Args:
        sources: what is due, and who runs it.
        ledger: collections and the documents that a source has made.
        files: what a place holds.
        ingester: the way that every document goes.
        poll_s: how often the ledger is asked for sources that are due.
        lease_s: the lease of `sources`.
        in_work_max: documents of a run that are processed at once.
        clock: Unix seconds.
    """

    def __init__(
        self,
        sources: Sources,
        ledger: Ledger,
        files: Files,
        ingester: Ingester,
        *,
        poll_s: float,
        lease_s: float,
        in_work_max: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._sources = sources
        self._ledger = ledger
        self._files = files
        self._ingester = ingester
        self._poll_s = poll_s
        self._lease_s = lease_s
        self._in_work_max = in_work_max
        self._clock = clock

    async def run(self) -> None:
        """Run what is due, one source after the other, until cancelled. A run that is cut off is repeated when its lease has ended."""
        while True:
            try:
                if await self.run_due():
                    continue
            except GannetError as error:
                _log.warning("no source run", reason=error.reason, message=error.message)
            await asyncio.sleep(self._poll_s)

    async def run_due(self) -> bool:
        """Run one source, if one is due; False if none is."""
        holder = uuid.uuid4().hex
        source = await self._sources.claim(holder)
        if source is None:
            return False
        running = asyncio.create_task(self._run(source))
        renewing = asyncio.create_task(self._renew(source, holder))
        try:
            await asyncio.wait([running, renewing], return_when=asyncio.FIRST_COMPLETED)
            if not running.done():
                _log.warning("source run is another's now", source=str(source.name))
                return True
            run = running.result()
        finally:
            for task in (running, renewing):
                task.cancel()
            await asyncio.wait([running, renewing])
        now = self._clock()
        await self._sources.finish(source, holder, replace(run, ended_at_s=now), next_run_at_s(source, now))
        return True

    async def _renew(self, source: Source, holder: str) -> None:
        """Ends when the lease is lost."""
        while True:
            await asyncio.sleep(self._lease_s / RENEWALS_A_LEASE)
            try:
                if not await self._sources.renew(source.name, holder):
                    return
            except GannetError as error:
                _log.warning("lease of a source not renewed", reason=error.reason, message=error.message)

    async def _run(self, source: Source) -> Run:
        tally = _Tally(run=Run(started_at_s=self._clock()))
        error = ""
        try:
            collection = await self._ledger.collection_settings(source.name.parent)
            await self._ingest(source, collection, tally)
        except Unreachable as unreachable:
            error = str(unreachable)
        except GannetError as refused:
            error = refused.message
        except Exception:  # noqa: BLE001 - the root of a run: a bug in one must not end the gateway's other runs
            _log.exception("source run failed", source=str(source.name))
            error = "internal error; the gateway's log has it"
        run = replace(tally.run, failures=tuple(tally.failures), error=error[:MESSAGE_CHARACTERS_MAX])
        counts = {name: getattr(run, name) for name in ("indexed", "unchanged", "deleted", "failed", "error")}
        _log.info("source run", source=str(source.name), **counts)
        return run

    async def _ingest(self, source: Source, collection: Collection, tally: _Tally) -> None:
        files = await self._files.find(source)
        slots = asyncio.Semaphore(self._in_work_max)
        async with asyncio.TaskGroup() as tasks:
            for file in files:
                await slots.acquire()
                task = tasks.create_task(self._index(source, collection, file, tally))
                task.add_done_callback(lambda _: slots.release())
        if source.mirror:
            await self._delete_others(source, collection, {_document_id(source, file.path) for file in files}, tally)

    async def _index(self, source: Source, collection: Collection, file: SourceFile, tally: _Tally) -> None:
        try:
            upload = Upload(
                name=collection.name.document(check_document_id(_document_id(source, file.path), "path")),
                content=Held(await asyncio.to_thread(file.read)),
                mime_type=file.mime_type,
                title="",
                metadata={SOURCE_KEY: source.name.source},
                create_only=False,
            )
            indexed = await self._ingester.index(collection, upload)
        except BrokenFile as broken:
            tally.failed(file.path, str(broken))
        except GannetError as refused:
            tally.failed(file.path, refused.message)
        except UnicodeEncodeError:
            tally.failed(ascii(file.path), "its name is not UTF-8")
        else:
            tally.count("unchanged" if indexed.unchanged else "indexed")

    async def _delete_others(self, source: Source, collection: Collection, kept: set[str], tally: _Tally) -> None:
        for document_id in await self._made_by(source, collection.name):
            if document_id in kept:
                continue
            try:
                await self._ingester.delete(collection, collection.name.document(document_id), "")
            except NotFound:
                continue
            tally.count("deleted")

    async def _made_by(self, source: Source, parent: CollectionName) -> list[str]:
        """Documents of this source: by their metadata, and by their ids, which stand together in the ledger's order."""
        prefix = _document_id(source, "")
        found: list[str] = []
        after: str | None = prefix
        while after is not None:
            page = await self._ledger.list_documents(parent, after=after, limit=PAGE_DOCUMENTS)
            after = page.next_after
            for document in page.items:
                if not document.name.document.startswith(prefix):
                    return found
                if document.metadata.get(SOURCE_KEY) == source.name.source:
                    found.append(document.name.document)
        return found


def _document_id(source: Source, path: str) -> str:
    return f"{source.name.source}/{path}"
