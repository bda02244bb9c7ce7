"""`gannet documents`: list, get, delete."""

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
