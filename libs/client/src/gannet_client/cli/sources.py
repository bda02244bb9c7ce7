"""`gannet sources`: add, list, run, remove."""

from typing import Annotated

import typer
from rich.table import Table

from gannet_client.cli import session
from gannet_client.cli.ingest import DEFAULT_COLLECTION, Collection
from gannet_client.cli.session import Options, UserMistake
from gannet_client.sources import Source

app = typer.Typer(help="Places that the gateway ingests from again and again.", no_args_is_help=True)

SourceId = Annotated[str, typer.Argument(metavar="SOURCE", help="Id of the source.")]


@app.command()
def add(
    context: typer.Context,
    source: SourceId,
    place: Annotated[
        str, typer.Argument(help="A directory on the gateway's host, or an http(s) address; its operator opens both.")
    ],
    *,
    collection: Collection = DEFAULT_COLLECTION,
    cron: Annotated[str, typer.Option(help="When to run, in UTC: five fields, e.g. '30 4 * * 1-5'.")] = "",
    every_s: Annotated[int, typer.Option("--every", help="Seconds between runs; 0: when asked, or by --cron.")] = 0,
    include: Annotated[list[str] | None, typer.Option(help="Pattern of paths, may be given often.")] = None,
    mirror: Annotated[bool, typer.Option("--mirror", help="Delete documents whose file is gone.")] = False,
) -> None:
    """Make a source; it runs at once."""

    async def run(options: Options) -> None:
        if cron and every_s:
            raise UserMistake("--cron or --every, not both")
        is_url = place.startswith(("http://", "https://"))
        async with options.client() as client:
            made = await client.sources.create(
                collection,
                source,
                directory="" if is_url else place,
                url=place if is_url else "",
                include=include or (),
                mirror=mirror,
                cron=cron,
                interval_s=every_s,
            )
        _show([made], options)

    session.execute(context, run)


@app.command("list")
def list_(context: typer.Context, collection: Collection = DEFAULT_COLLECTION) -> None:
    """List the sources with what became of their last runs."""

    async def run(options: Options) -> None:
        async with options.client() as client:
            _show([source async for source in client.sources.list(collection)], options)

    session.execute(context, run)


@app.command("run")
def run_(context: typer.Context, source: SourceId, collection: Collection = DEFAULT_COLLECTION) -> None:
    """Ask for a run as soon as possible."""

    async def run(options: Options) -> None:
        async with options.client() as client:
            _show([await client.sources.run(collection, source)], options)

    session.execute(context, run)


@app.command()
def remove(context: typer.Context, source: SourceId, collection: Collection = DEFAULT_COLLECTION) -> None:
    """Remove a source; its documents stay."""

    async def run(options: Options) -> None:
        async with options.client() as client:
            await client.sources.delete(collection, source)

    session.execute(context, run)


def _show(sources: list[Source], options: Options) -> None:
    if options.as_json:
        for source in sources:
            session.emit(source)
        return
    table = Table("source", "place", "runs", "next", "last run", box=None, pad_edge=False)
    for source in sources:
        table.add_row(
            source.source_id,
            session.printable(source.directory or source.url),
            source.cron or (f"every {source.interval_s} s" if source.interval_s else "when asked"),
            "running" if source.running else _time(source),
            session.printable(_last_run(source)),
        )
    session.results.print(table)


def _time(source: Source) -> str:
    return f"{source.next_run_time:%Y-%m-%d %H:%M:%S} UTC" if source.next_run_time else "–"


def _last_run(source: Source) -> str:
    run = source.last_run
    if run is None:
        return "none yet"
    counts = f"{run.indexed} indexed, {run.unchanged} unchanged, {run.deleted} deleted, {run.failed} failed"
    first = f" (first: {run.failures[0][0]}: {run.failures[0][1]})" if run.failures else ""
    return f"{run.end_time:%Y-%m-%d %H:%M:%S} UTC: {run.error or counts + first}"
