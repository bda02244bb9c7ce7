"""`gannet collections`: list, create, get, update, delete."""

from typing import Annotated

import typer
from rich.table import Table

from gannet_client.cli import session
from gannet_client.cli.session import Options
from gannet_client.types import Collection, CollectionSettings

app = typer.Typer(help="List, make, change and delete collections.", no_args_is_help=True)

CollectionId = Annotated[str, typer.Argument(metavar="COLLECTION", help="Id of the collection.")]
Rerank = Annotated[bool | None, typer.Option("--rerank/--no-rerank", help="Whether searches rerank.")]
CacheResults = Annotated[
    bool | None, typer.Option("--cache-results/--no-cache-results", help="Whether searches' replies are cached.")
]
CacheTtl = Annotated[float | None, typer.Option("--cache-ttl", help="Longest life of a cached reply, seconds.")]


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
    rerank: Rerank = None,
    cache_results: CacheResults = None,
    cache_ttl: CacheTtl = None,
) -> None:
    """Make an empty collection."""

    async def run(options: Options) -> None:
        async with options.client() as client:
            made = await client.create_collection(
                collection,
                chunk_size=chunk_size,
                chunk_overlap=chunk_overlap,
                language=language,
                rerank=rerank,
                cache_results=cache_results,
                cache_ttl_s=cache_ttl,
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
def update(
    context: typer.Context,
    collection: CollectionId,
    *,
    rerank: Rerank = None,
    cache_results: CacheResults = None,
    cache_ttl: CacheTtl = None,
    reset: Annotated[
        list[str] | None, typer.Option(help="rerank, cache_results or cache_ttl: back to the server's default.")
    ] = None,
    etag: Annotated[str, typer.Option(help="Change it only if it is still in the state of this etag.")] = "",
) -> None:
    """Change a collection's settings; what is not named stays as it is."""
    settings = CollectionSettings(rerank=rerank, cache_results=cache_results, cache_ttl_s=cache_ttl)

    async def run(options: Options) -> None:
        async with options.client() as client:
            changed = await client.update_collection(collection, settings, reset=reset or (), etag=etag)
        _show(changed, options)

    session.execute(context, run)


@app.command()
def delete(context: typer.Context, collection: CollectionId) -> None:
    """Remove a collection with all its documents."""

    async def run(options: Options) -> None:
        async with options.client() as client:
            await client.delete_collection(collection)

    session.execute(context, run)


_CHOSEN = {True: "yes", False: "no", None: "default"}


def collection_table(collections: list[Collection]) -> Table:
    """One row a collection."""
    columns = ("collection", "documents", "language", "chunk size", "rerank", "cached", "model")
    table = Table(*columns, box=None, pad_edge=False)
    for collection in collections:
        table.add_row(
            collection.collection_id,
            str(collection.document_count),
            " ".join(collection.languages or (collection.language,)),
            f"{collection.chunk_size} ({collection.chunk_overlap} shared)",
            _CHOSEN[collection.rerank],
            _CHOSEN[collection.cache_results]
            + ("" if collection.cache_ttl_s is None else f", {collection.cache_ttl_s:g} s"),
            collection.embedding_model,
        )
    return table


def _show(collection: Collection, options: Options) -> None:
    if options.as_json:
        session.emit(collection)
    else:
        session.results.print(collection_table([collection]))
