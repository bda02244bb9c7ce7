"""`gannet keys`: make, list and revoke API keys."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from gannet_client.cli import session
from gannet_client.cli.session import Options
from gannet_client.tenants import OWN, ApiKey

app = typer.Typer(help="Make, list and revoke API keys.", no_args_is_help=True)

TenantOption = Annotated[str, typer.Option("--tenant", help="Id of another tenant than the key's own.")]


@app.command()
def create(
    context: typer.Context,
    *,
    scope: Annotated[list[str], typer.Option(help="What the key may do, e.g. search; once for each.")],
    tenant: TenantOption = OWN,
    label: Annotated[str, typer.Option(help="What people call it.")] = "",
    user: Annotated[str, typer.Option(help="Whom it reads documents as.")] = "",
    group: Annotated[list[str] | None, typer.Option(help="A group that it reads documents as; once for each.")] = None,
    days: Annotated[float | None, typer.Option(min=0.001, help="Days until it expires; default never.")] = None,
) -> None:
    """Make a key and show it, this once."""

    async def run(options: Options) -> None:
        expire_time = None if days is None else datetime.now(UTC) + timedelta(days=days)
        async with options.client() as client:
            made = await client.tenants.create_key(
                scope, tenant_id=tenant, label=label, user=user, groups=group or (), expire_time=expire_time
            )
        if options.as_json:
            session.emit(made)
            return
        session.results.out(made.secret)
        session.tell("note", f"{made.key.name}; the key is not shown again", style="bold")

    session.execute(context, run)


@app.command("list")
def list_(context: typer.Context, tenant: TenantOption = OWN) -> None:
    """List a tenant's keys."""

    async def run(options: Options) -> None:
        async with options.client() as client:
            keys = [key async for key in client.tenants.list_keys(tenant)]
        if not options.as_json:
            session.results.print(_table(keys))
            return
        for key in keys:
            session.emit(key)

    session.execute(context, run)


@app.command()
def revoke(
    context: typer.Context,
    key: Annotated[str, typer.Argument(metavar="KEY", help="Name of the key, as `keys list` shows it.")],
) -> None:
    """Let nobody in with a key any more."""

    async def run(options: Options) -> None:
        async with options.client() as client:
            await client.tenants.revoke_key(key)

    session.execute(context, run)


def _table(keys: list[ApiKey]) -> Table:
    table = Table("key", "label", "scopes", "reads as", "expires", "last used", "state", box=None, pad_edge=False)
    for key in keys:
        reads_as = " ".join([*([f"user:{key.user}"] if key.user else []), *(f"group:{group}" for group in key.groups)])
        state = "revoked" if key.revoke_time else "expired" if _is_past(key.expire_time) else "valid"
        cells = (key.name, key.label, " ".join(key.scopes), reads_as, _day(key.expire_time), _day(key.last_use_time))
        table.add_row(*(Text(session.printable(cell)) for cell in (*cells, state)))
    return table


def _day(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d}" if moment else ""


def _is_past(moment: datetime | None) -> bool:
    return moment is not None and moment <= datetime.now(UTC)
