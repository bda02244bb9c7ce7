"""Sources: places that the gateway ingests documents from again and again."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from gannet.gateway.v1 import sources_pb2
from gannet.gateway.v1.sources_pb2_grpc import SourceServiceStub
from gannet_client import wire
from gannet_client.transport import Transport

PAGE_SIZE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRun:
    """What became of one run; `failures` are (path, message) of the first files of `failed`, `error` is why it ended early."""

    start_time: datetime
    end_time: datetime
    indexed: int
    unchanged: int
    deleted: int
    failed: int
    failures: tuple[tuple[str, str], ...]
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A source and its last run; of `directory` and `url`, and of `cron` and `interval_s`, the other is empty."""

    name: str
    directory: str
    url: str
    include: tuple[str, ...]
    mirror: bool
    cron: str
    interval_s: int
    next_run_time: datetime | None
    running: bool
    last_run: SourceRun | None

    @property
    def source_id(self) -> str:
        """The source's id in its collection."""
        return self.name.partition("/sources/")[2]


class Sources:
    """`GannetClient.sources`: see SourceService. Collections are given by id or name; `timeout_s` is for each call."""

    def __init__(self, transport: Transport, timeout_s: float) -> None:
        self._transport = transport
        self._stub = SourceServiceStub(transport.channel)
        self._timeout_s = timeout_s

    async def create(
        self,
        collection: str,
        source_id: str,
        *,
        directory: str = "",
        url: str = "",
        include: Sequence[str] = (),
        mirror: bool = False,
        cron: str = "",
        interval_s: int = 0,
    ) -> Source:
        """Make a source, which runs at once and then as scheduled. `directory` is the gateway's, not the caller's."""
        message = sources_pb2.Source(include=include, mirror=mirror)
        if directory:
            message.directory = directory
        if url:
            message.url = url
        if cron:
            message.cron = cron
        if interval_s:
            message.interval.FromSeconds(interval_s)
        request = sources_pb2.CreateSourceRequest(
            parent=wire.collection_name(collection), source_id=source_id, source=message
        )
        return _source(await self._transport.unary(self._stub.CreateSource, request, self._timeout_s))

    async def list(self, collection: str) -> AsyncGenerator[Source]:
        """A collection's sources in the order of their ids."""
        token = ""
        while True:
            request = sources_pb2.ListSourcesRequest(
                parent=wire.collection_name(collection), page_size=PAGE_SIZE, page_token=token
            )
            page = await self._transport.unary(self._stub.ListSources, request, self._timeout_s)
            for message in page.sources:
                yield _source(message)
            token = page.next_page_token
            if not token:
                return

    async def run(self, collection: str, source_id: str) -> Source:
        """Ask for a run as soon as possible."""
        request = sources_pb2.RunSourceRequest(name=_name(collection, source_id))
        return _source(await self._transport.unary(self._stub.RunSource, request, self._timeout_s))

    async def get(self, collection: str, source_id: str) -> Source:
        """One source with its last run."""
        request = sources_pb2.GetSourceRequest(name=_name(collection, source_id))
        return _source(await self._transport.unary(self._stub.GetSource, request, self._timeout_s))

    async def delete(self, collection: str, source_id: str) -> None:
        """Remove a source; its documents stay."""
        request = sources_pb2.DeleteSourceRequest(name=_name(collection, source_id))
        await self._transport.unary(self._stub.DeleteSource, request, self._timeout_s)


def _name(collection: str, source_id: str) -> str:
    return f"{wire.collection_name(collection)}/sources/{source_id}"


def _source(message: sources_pb2.Source) -> Source:
    return Source(
        name=message.name,
        directory=message.directory,
        url=message.url,
        include=tuple(message.include),
        mirror=message.mirror,
        cron=message.cron,
        interval_s=message.interval.ToSeconds(),
        next_run_time=message.next_run_time.ToDatetime(UTC) if message.HasField("next_run_time") else None,
        running=message.running,
        last_run=_run(message.last_run) if message.HasField("last_run") else None,
    )


def _run(message: sources_pb2.SourceRun) -> SourceRun:
    return SourceRun(
        start_time=message.start_time.ToDatetime(UTC),
        end_time=message.end_time.ToDatetime(UTC),
        indexed=message.indexed_count,
        unchanged=message.unchanged_count,
        deleted=message.deleted_count,
        failed=message.failed_count,
        failures=tuple((failure.path, failure.message) for failure in message.failures),
        error=message.error,
    )
