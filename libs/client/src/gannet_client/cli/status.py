"""`gannet status`: what serves, and what is stored."""

import typer
from rich.table import Table

from gannet_client.cli import session
from gannet_client.cli.collections import collection_table
from gannet_client.cli.session import ExitCode, Failed, Options
from gannet_client.types import Health, ServingStatus

_DEPENDENCY = "dependency:"


def status(context: typer.Context) -> None:
    """Show the gateway's health, that of what it depends on, and the collections. Exit code 1 if it does not serve."""

    async def run(options: Options) -> None:
        async with options.client() as client:
            health = await client.health()
            found = [collection async for collection in client.list_collections()]
        if options.as_json:
            session.emit({"target": options.resolved_target(), "health": health, "collections": found})
        else:
            session.results.print(_health_table(health, options.resolved_target()))
            session.results.print()
            session.results.print(collection_table(found) if found else "no collections yet: `gannet ingest PATH`")
        if health.status is not ServingStatus.SERVING:
            raise Failed(ExitCode.REFUSED)

    session.execute(context, run)


def _health_table(health: Health, target: str) -> Table:
    table = Table("what", "status", box=None, pad_edge=False)
    # The gateway's own services always have its status: one line for all of them.
    rows = {f"gateway {target}": health.status} | {
        name.removeprefix(_DEPENDENCY): status
        for name, status in sorted(health.parts.items())
        if name.startswith(_DEPENDENCY)
    }
    for name, status in rows.items():
        style = "green" if status is ServingStatus.SERVING else "red"
        table.add_row(name, f"[{style}]{status.name.lower().replace('_', ' ')}[/]")
    return table
