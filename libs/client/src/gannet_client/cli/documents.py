"""`gannet documents`: list, get, delete, and what is kept of them: revisions and passages."""

import sys
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from gannet_client.cli import session
from gannet_client.cli.ingest import DEFAULT_COLLECTION, Collection
from gannet_client.cli.session import Options
from gannet_client.wire import document_name

app = typer.Typer(help="List, read and delete documents.", no_args_is_help=True)

DocumentId = Annotated[
    str, typer.Argument(metavar="DOCUMENT", help="Id of the document, as `documents list` shows it.")
]


@app.command("list")
def list_(context: typer.Context, collection: Collection = DEFAULT_COLLECTION) -> None:
    """List the documents of a collection."""

    async def run(options: Options) -> None:
        table = Table("document", "rev", "chunks", "bytes", "updated", "title", box=None, pad_edge=False)
        async with options.client() as client:
            async for document in client.list_documents(collection):
                if options.as_json:
                    session.emit(document)
                    continue
                cells = (
                    document.document_id,
                    str(document.revision),
                    str(document.chunk_count),
                    str(document.text_bytes),
                    f"{document.update_time:%Y-%m-%d %H:%M}",
                    document.title,
                )
                table.add_row(*(Text(session.printable(cell)) for cell in cells))
        if not options.as_json:
            session.results.print(table)

    session.execute(context, run)


@app.command()
def get(
    context: typer.Context,
    document: DocumentId,
    *,
    collection: Collection = DEFAULT_COLLECTION,
    text: Annotated[bool, typer.Option("--text", help="Write the text, byte for byte, instead of the record.")] = False,
) -> None:
    """Show a document's record, or its text."""

    async def run(options: Options) -> None:
        name = document_name(collection, document)
        async with options.client() as client:
            if text:
                sys.stdout.buffer.write(await client.read_text(name))
                return
            record = await client.get_document(name)
        if options.as_json:
            session.emit(record)
            return
        for field in ("name", "title", "revision", "mime_type", "text_bytes", "chunk_count", "content_sha256", "etag"):
            session.results.out(f"{field:15} {session.printable(str(getattr(record, field)))}")

    session.execute(context, run)


@app.command()
def delete(context: typer.Context, document: DocumentId, collection: Collection = DEFAULT_COLLECTION) -> None:
    """Remove a document with its passages."""

    async def run(options: Options) -> None:
        async with options.client() as client:
            await client.delete_document(document_name(collection, document))

    session.execute(context, run)


@app.command()
def revisions(context: typer.Context, document: DocumentId, collection: Collection = DEFAULT_COLLECTION) -> None:
    """List the revisions of a document that are kept, newest first."""

    async def run(options: Options) -> None:
        table = Table("rev", "chunks", "bytes", "updated", "title", box=None, pad_edge=False)
        async with options.client() as client:
            async for revision in client.list_revisions(document_name(collection, document)):
                if options.as_json:
                    session.emit(revision)
                    continue
                sizes = (str(revision.revision), str(revision.chunk_count), str(revision.text_bytes))
                cells = (*sizes, f"{revision.update_time:%Y-%m-%d %H:%M}", revision.title)
                table.add_row(*(Text(session.printable(cell)) for cell in cells))
        if not options.as_json:
            session.results.print(table)

    session.execute(context, run)


@app.command()
def rollback(
    context: typer.Context,
    document: DocumentId,
    revision: Annotated[int, typer.Argument(min=1, help="The revision to publish again.")],
    collection: Collection = DEFAULT_COLLECTION,
) -> None:
    """Publish an earlier revision again, as a new one."""

    async def run(options: Options) -> None:
        async with options.client() as client:
            record = await client.rollback_document(document_name(collection, document), revision)
        if options.as_json:
            session.emit(record)
        else:
            session.results.out(f"revision {record.revision}")

    session.execute(context, run)


@app.command()
def purge(
    context: typer.Context,
    document: Annotated[list[str], typer.Argument(metavar="DOCUMENT...", help="Ids of the documents.")],
    collection: Collection = DEFAULT_COLLECTION,
) -> None:
    """Erase documents with every revision, passage and text."""

    async def run(options: Options) -> None:
        async with options.client() as client:
            purged = await client.purge_documents(collection, document)
        for document_id in purged:
            session.results.out(session.printable(document_id))

    session.execute(context, run)


@app.command()
def chunks(
    context: typer.Context,
    document: DocumentId,
    *,
    collection: Collection = DEFAULT_COLLECTION,
    generation: Annotated[int, typer.Option(min=0, help="As it was then; 0: the latest.")] = 0,
) -> None:
    """Show the passages of a document, in its order."""

    async def run(options: Options) -> None:
        async with options.client() as client:
            async for chunk in client.list_chunks(document_name(collection, document), generation=generation):
                if options.as_json:
                    session.emit(chunk)
                    continue
                place = f"[{chunk.ordinal}] bytes {chunk.start_byte} to {chunk.end_byte}  {chunk.title}"
                session.results.out(session.printable(place))
                session.results.out(session.printable(chunk.text) + "\n")

    session.execute(context, run)
