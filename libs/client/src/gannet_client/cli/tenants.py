"""`gannet tenants`: make, list, limit, disable and delete tenants."""

from typing import Annotated

import typer
from rich.table import Table

from gannet_client.cli import session
from gannet_client.cli.session import Options
from gannet_client.tenants import OWN, Tenant, TenantLimits

app = typer.Typer(help="Make, list, limit and delete tenants.", no_args_is_help=True)

TenantId = Annotated[str, typer.Argument(metavar="TENANT", help="Id of the tenant.")]


@app.command()
def create(context: typer.Context, tenant: TenantId) -> None:
    """Make a tenant, without keys and collections."""

    async def run(options: Options) -> None:
        async with options.client() as client:
            _show([await client.tenants.create(tenant)], options)

    session.execute(context, run)


@app.command("list")
def list_(context: typer.Context) -> None:
    """List all tenants."""

    async def run(options: Options) -> None:
        async with options.client() as client:
            _show([tenant async for tenant in client.tenants.list()], options)

    session.execute(context, run)


@app.command()
def get(context: typer.Context, tenant: TenantId = OWN) -> None:
    """Show a tenant, its limits, and what it uses."""

    async def run(options: Options) -> None:
        async with options.client() as client:
            _show([await client.tenants.get(tenant)], options)

    session.execute(context, run)


@app.command()
def limit(
    context: typer.Context,
    tenant: TenantId,
    *,
    queries_per_s: Annotated[float | None, typer.Option(help="Searches and answers a second.")] = None,
    documents_per_s: Annotated[float | None, typer.Option(help="Uploaded documents a second.")] = None,
    tokens_per_s: Annotated[float | None, typer.Option(help="Tokens a second.")] = None,
    documents_max: Annotated[int | None, typer.Option(help="Most live documents.")] = None,
    bytes_max: Annotated[int | None, typer.Option(help="Most bytes of their texts.")] = None,
    weight: Annotated[float | None, typer.Option(help="Share under load, beside others' 1.")] = None,
) -> None:
    """Replace a tenant's limits; one that is not given is the server's, 0 is none."""

    async def run(options: Options) -> None:
        limits = TenantLimits(
            queries_per_s=queries_per_s,
            documents_per_s=documents_per_s,
            tokens_per_s=tokens_per_s,
            documents_max=documents_max,
            bytes_max=bytes_max,
            weight=weight,
        )
        async with options.client() as client:
            _show([await client.tenants.update(tenant, limits=limits)], options)

    session.execute(context, run)


@app.command()
def disable(context: typer.Context, tenant: TenantId) -> None:
    """Refuse every call of a tenant; nothing is deleted."""
    _set_disabled(context, tenant, disabled=True)


@app.command()
def enable(context: typer.Context, tenant: TenantId) -> None:
    """Serve a tenant again."""
    _set_disabled(context, tenant, disabled=False)


@app.command()
def delete(context: typer.Context, tenant: TenantId) -> None:
    """Remove a tenant that has no collections, and its keys."""

    async def run(options: Options) -> None:
        async with options.client() as client:
            await client.tenants.delete(tenant)

    session.execute(context, run)


def _set_disabled(context: typer.Context, tenant: str, *, disabled: bool) -> None:
    async def run(options: Options) -> None:
        async with options.client() as client:
            await client.tenants.update(tenant, disabled=disabled)

    session.execute(context, run)


def _show(tenants: list[Tenant], options: Options) -> None:
    if options.as_json:
        for tenant in tenants:
            session.emit(tenant)
        return
    table = Table("tenant", "state", "limits", "documents", "bytes", box=None, pad_edge=False)
    for tenant in tenants:
        own = {name: getattr(tenant.limits, name) for name in TenantLimits.__dataclass_fields__}
        limits = " ".join(f"{name}={value:g}" for name, value in own.items() if value is not None)
        usage = ("" if amount is None else str(amount) for amount in (tenant.documents, tenant.text_bytes))
        table.add_row(tenant.tenant_id, "disabled" if tenant.disabled else "", limits or "the server's", *usage)
    session.results.print(table)
