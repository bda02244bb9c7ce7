"""Sources between protobuf and the gateway's own types."""

from gannet.gateway.v1 import sources_pb2
from gannet_gateway.documents.wire import to_timestamp
from gannet_gateway.ledger.sources import Run, Source
from gannet_gateway.names import SourceName
from gannet_gateway.sources.places import Places
from gannet_gateway.sources.schedule import check_cron, check_interval
from gannet_service.errors import InvalidInput

PATTERNS_MAX = 20
PATTERN_BYTES_MAX = 200


def to_source(message: sources_pb2.Source, name: SourceName, places: Places, now_s: float) -> Source:
    """A new source, its fields checked; raises InvalidInput, PermissionDenied."""
    directory, url = "", ""
    match message.WhichOneof("place"):
        case "directory":
            directory = str(places.check_directory(message.directory, name.tenant))
        case "url":
            url = places.check_url(message.url, name.tenant)
            if message.include:
                raise InvalidInput("source.include: only for a directory", field="source.include")
        case _:
            raise InvalidInput("source.place: directory or url is needed", field="source.place")
    cron, interval_s = "", 0
    match message.WhichOneof("schedule"):
        case "cron":
            cron = check_cron(message.cron, now_s)
        case "interval":
            interval_s = check_interval(message.interval.ToSeconds())
        case _:
            pass
    return Source(
        name=name,
        directory=directory,
        url=url,
        include=_patterns(message),
        mirror=message.mirror,
        cron=cron,
        interval_s=interval_s,
    )


def _patterns(message: sources_pb2.Source) -> tuple[str, ...]:
    if len(message.include) > PATTERNS_MAX:
        problem = f"source.include: {len(message.include)} patterns; the limit is {PATTERNS_MAX}"
        raise InvalidInput(problem, field="source.include")
    for pattern in message.include:
        if not 1 <= len(pattern.encode()) <= PATTERN_BYTES_MAX or "\x00" in pattern:
            problem = (
                f"source.include: {len(pattern.encode())} bytes; a pattern has 1 to {PATTERN_BYTES_MAX}, without NUL"
            )
            raise InvalidInput(problem, field="source.include")
    return tuple(message.include)


def from_source(source: Source) -> sources_pb2.Source:
    """A source as it travels."""
    message = sources_pb2.Source(
        name=str(source.name),
        include=source.include,
        mirror=source.mirror,
        create_time=to_timestamp(source.created_at_s),
        running=source.running,
    )
    if source.url:
        message.url = source.url
    else:
        message.directory = source.directory
    if source.cron:
        message.cron = source.cron
    elif source.interval_s:
        message.interval.FromSeconds(source.interval_s)
    if source.next_run_at_s is not None:
        message.next_run_time.CopyFrom(to_timestamp(source.next_run_at_s))
    if source.last_run is not None:
        message.last_run.CopyFrom(_from_run(source.last_run))
    return message


def _from_run(run: Run) -> sources_pb2.SourceRun:
    return sources_pb2.SourceRun(
        start_time=to_timestamp(run.started_at_s),
        end_time=to_timestamp(run.ended_at_s),
        indexed_count=run.indexed,
        unchanged_count=run.unchanged,
        deleted_count=run.deleted,
        failed_count=run.failed,
        failures=[sources_pb2.SourceFailure(path=path, message=message) for path, message in run.failures],
        error=run.error,
    )
