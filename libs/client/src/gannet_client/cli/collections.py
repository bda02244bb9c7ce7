"""`gannet collections`: list, create, get, delete."""

from typing import Annotated

import typer
from rich.table import Table

from gannet_client.cli import session
from gannet_client.cli.session import Options
from gannet_client.types import Collection

app = typer.Typer(help="List, make and delete collections.", no_args_is_help=True)

CollectionId = Annotated[str, typer.Argument(metavar="COLLECTION", help="Id of the collection.")]


@app.command("list")
def list_(context: typer.Context) -> None:
    """List the collections."""

    async def run(options: Options) -> None:
        async with options.client() as client:
            found = [collection async for collection in client.list_collections()]
        if not options.as_json:
            session.results.print(collection_table(found))
            return
        for collection in found:
            session.emit(collection)

    session.execute(context, run)


@app.command()
def create(
    context: typer.Context,
    collection: CollectionId,
    *,
    chunk_size: Annotated[int, typer.Option(help="Most characters of a passage; 0: the server's default.")] = 0,
    chunk_overlap: Annotated[int | None, typer.Option(help="Most characters that passages share.")] = None,
    language: Annotated[str, typer.Option(help="ISO 639-1, for stemming and stop words; default en.")] = "",
    rerank: Annotated[bool | None, typer.Option("--rerank/--no-rerank", help="Whether searches rerank.")] = None,
) -> None:
    """Make an empty collection."""

    async def run(options: Options) -> None:
        async with options.client() as client:
            made = await client.create_collection(
                collection, chunk_size=chunk_size, chunk_overlap=chunk_overlap, language=language, rerank=rerank
            )
        _show(made, options)

    session.execute(context, run)


@app.command()
def get(context: typer.Context, collection: CollectionId) -> None:
    """Show a collection's settings and state."""

    async def run(options: Options) -> None:
        async with options.client() as client:
            _show(await client.get_collection(collection), options)

    session.execute(context, run)


@app.command()
def delete(context: typer.Context, collection: CollectionId) -> None:
    """Remove a collection with all its documents."""

    async def run(options: Options) -> None:
        async with options.client() as client:
            await client.delete_collection(collection)

    session.execute(context, run)


def collection_table(collections: list[Collection]) -> Table:
    """One row a collection."""
    table = Table("collection", "documents", "language", "chunk size", "rerank", "model", box=None, pad_edge=False)
    for collection in collections:
        table.add_row(
            collection.collection_id,
            str(collection.document_count),
            collection.language,
            f"{collection.chunk_size} ({collection.chunk_overlap} shared)",
            {True: "yes", False: "no", None: "default"}[collection.rerank],
            collection.embedding_model,
        )
    return table


def _show(collection: Collection, options: Options) -> None:
    if options.as_json:
        session.emit(collection)
    else:
        session.results.print(collection_table([collection]))
