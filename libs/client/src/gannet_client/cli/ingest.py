"""`gannet ingest`: files into a collection, with a progress bar; a broken file is named and the rest goes on."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Table
from rich.text import Text

from gannet_client.cli import session
from gannet_client.cli.session import ExitCode, Failed, Options, UserMistake
from gannet_client.client import GannetClient
from gannet_client.errors import AlreadyExists, GannetError
from gannet_client.files import MIME_TYPES, BrokenFile, FoundFile, TooManyFiles, find_files, read_file
from gannet_client.transport import RetryPolicy
from gannet_client.types import DocumentFailed, DocumentInput, UploadAck

DEFAULT_COLLECTION = "default"
FAILURES_SHOWN_MAX = 50

Collection = Annotated[str, typer.Option("--collection", "-c", help="Id of the collection.")]
Language = Annotated[
    str, typer.Option(help="Language of the files, ISO 639-1, for stemming and stop words; default: the collection's.")
]


@dataclass(slots=True)
class Report:
    """How an ingest went, while it goes."""

    indexed: int = 0
    unchanged: int = 0
    chunks: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])

    @property
    def done(self) -> int:
        """Documents that have got their final word."""
        return self.indexed + self.unchanged + len(self.failures)

    def add(self, ack: UploadAck) -> None:
        """Count one final word."""
        if isinstance(ack, DocumentFailed):
            self.failures.append((ack.document_id, ack.error.message))
        elif ack.unchanged:
            self.unchanged += 1
        else:
            self.indexed += 1
            self.chunks += ack.chunk_count


def ingest(
    context: typer.Context,
    paths: Annotated[list[Path], typer.Argument(help=f"Files, and folders that are walked for {' '.join(MIME_TYPES)}")],
    collection: Collection = DEFAULT_COLLECTION,
    language: Language = "",
) -> None:
    """Store files as documents; made searchable before each is counted.

    Exit code 1 if a file failed; the others are stored.
    """

    async def run(options: Options) -> None:
        try:
            files = find_files(paths)
        except TooManyFiles as error:
            raise UserMistake(str(error)) from error
        if not files:
            raise UserMistake(f"nothing to ingest: no file there is one of {' '.join(MIME_TYPES)}")
        report = Report()
        try:
            async with options.client() as client:
                await ensure_collection(client, collection, language)
                emit = session.emit if options.as_json else None
                await ingest_files(client, collection, files, report, language=language, emit=emit)
        finally:
            _summarise(report, len(files), as_json=options.as_json)
        if report.failures:
            raise Failed(ExitCode.REFUSED)

    session.execute(context, run)


async def ensure_collection(client: GannetClient, collection: str, language: str = "") -> None:
    """Make the collection, with the language of what goes into it, unless it is there."""
    try:
        await client.create_collection(collection, language=language)
    except AlreadyExists:
        return


async def ingest_files(
    client: GannetClient,
    collection: str,
    files: list[FoundFile],
    report: Report,
    *,
    language: str = "",
    emit: Callable[[object], None] | None = None,
) -> None:
    """Upload `files`, filling `report`, with a bar on stderr or, where `emit` is given, a value for each document.

    Raises:
        GannetError: the upload could not go on; `report` holds what was done.
    """

    def failed(document_id: str, error: GannetError | BrokenFile) -> None:
        message = error.message if isinstance(error, GannetError) else str(error)
        report.failures.append((document_id, message))
        if emit is not None:
            emit({"document_id": document_id, "status": "failed", "error": message})

    def documents() -> Iterator[DocumentInput]:
        for file in files:
            try:
                content = read_file(file)
            except BrokenFile as error:
                failed(file.document_id, error)
            else:
                yield DocumentInput(
                    document_id=file.document_id, content=content, mime_type=file.mime_type, language=language
                )

    with _bar(hidden=emit is not None) as bar:
        task = bar.add_task("ingesting", total=len(files), chunks=0)
        # More patient than other commands: a restart of some service must not cost a long ingest documents.
        async for ack in client.upload(collection, documents(), retry=RetryPolicy()):
            if isinstance(ack, DocumentFailed):
                failed(ack.document_id, ack.error)
            else:
                report.add(ack)
                if emit is not None:
                    status = "unchanged" if ack.unchanged else "indexed"
                    emit({"document_id": ack.document_id, "status": status, "chunk_count": ack.chunk_count})
            bar.update(task, completed=report.done, chunks=report.chunks)
        bar.update(task, completed=report.done)


class _DocumentsPerSecond(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f} docs/s")


def _bar(*, hidden: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("documents, {task.fields[chunks]} chunks"),
        _DocumentsPerSecond(),
        console=session.progress,
        disable=hidden,
    )


def _summarise(report: Report, total: int, *, as_json: bool) -> None:
    not_sent = total - report.done
    if as_json:
        counts = {"indexed": report.indexed, "unchanged": report.unchanged, "failed": len(report.failures)}
        session.emit({"summary": {**counts, "not_sent": not_sent, "chunks": report.chunks}})
        return
    session.results.print(
        f"{report.indexed} indexed ({report.chunks} chunks), {report.unchanged} unchanged, {len(report.failures)} failed"
        + (f", {not_sent} not sent" if not_sent else "")
    )
    if report.failures:
        table = Table("document", "why it failed", box=None, pad_edge=False)
        for document_id, message in report.failures[:FAILURES_SHOWN_MAX]:
            table.add_row(Text(session.printable(document_id)), Text(session.printable(message)))
        session.progress.print(table)
        if len(report.failures) > FAILURES_SHOWN_MAX:
            session.progress.print(f"... and {len(report.failures) - FAILURES_SHOWN_MAX} more")
