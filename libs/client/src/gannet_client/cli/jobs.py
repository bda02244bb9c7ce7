"""`gannet jobs`: list, show, cancel, retry."""

from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from gannet_client.cli import session
from gannet_client.cli.session import Options
from gannet_client.jobs import JobState, Operation

app = typer.Typer(help="See what became of accepted documents, and act on it.", no_args_is_help=True)

OperationId = Annotated[str, typer.Argument(metavar="OPERATION", help="Name or id of the operation.")]


@app.command("list")
def list_(
    context: typer.Context,
    *,
    collection: Annotated[str, typer.Option("--collection", "-c", help="Only this collection's.")] = "",
    state: Annotated[JobState | None, typer.Option(help="Only those in this state.", case_sensitive=False)] = None,
    limit: Annotated[int, typer.Option(min=1, help="Most operations shown, newest first.")] = 50,
) -> None:
    """List operations, newest first."""

    async def run(options: Options) -> None:
        found: list[Operation] = []
        async with options.client() as client:
            async for operation in client.jobs.list(collection=collection, state=state):
                found.append(operation)
                if len(found) == limit:
                    break
        if options.as_json:
            for operation in found:
                session.emit(operation)
            return
        session.results.print(operation_table(found))

    session.execute(context, run)


@app.command()
def show(context: typer.Context, operation: OperationId) -> None:
    """Show an operation document by document."""

    async def run(options: Options) -> None:
        async with options.client() as client:
            _show(await client.jobs.get(operation), options)

    session.execute(context, run)


@app.command()
def cancel(context: typer.Context, operation: OperationId) -> None:
    """End what readers do not see yet."""

    async def run(options: Options) -> None:
        async with options.client() as client:
            await client.jobs.cancel(operation)

    session.execute(context, run)


@app.command()
def retry(context: typer.Context, operation: OperationId) -> None:
    """Queue the documents that failed again."""

    async def run(options: Options) -> None:
        async with options.client() as client:
            _show(await client.jobs.retry(operation), options)

    session.execute(context, run)


def operation_table(operations: list[Operation]) -> Table:
    """One row an operation."""
    table = Table("operation", "collection", "state", "documents", "first document", box=None, pad_edge=False)
    for operation in operations:
        table.add_row(
            operation.name.rpartition("/")[2],
            operation.collection.rpartition("/")[2],
            operation.state.value,
            str(len(operation.documents)),
            Text(session.printable(_document_id(operation.documents[0].name)) if operation.documents else ""),
        )
    return table


def _show(operation: Operation, options: Options) -> None:
    if options.as_json:
        session.emit(operation)
        return
    table = Table("document", "state", "attempt", "chunks", "error", box=None, pad_edge=False)
    for document in operation.documents:
        error = "" if document.error is None else f"{document.error.message} ({document.error.reason})"
        table.add_row(
            Text(session.printable(_document_id(document.name))),
            document.state.value,
            str(document.attempt),
            f"{document.chunks_done}/{document.chunks_total} ({document.chunks_cached} kept)",
            Text(session.printable(error)),
        )
    session.results.print(table)


def _document_id(name: str) -> str:
    return name.partition("/documents/")[2]
