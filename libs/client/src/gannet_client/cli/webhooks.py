"""`gannet webhooks`: add, list, enable, disable, remove; deliveries, redeliver."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from gannet_client.cli import session
from gannet_client.cli.ingest import DEFAULT_COLLECTION, Collection
from gannet_client.cli.session import Options, UserMistake
from gannet_client.webhooks import Delivery, DeliveryState, Webhook

app = typer.Typer(help="Addresses that are told when jobs end.", no_args_is_help=True)

WebhookId = Annotated[str, typer.Argument(metavar="WEBHOOK", help="Id of the webhook.")]


@app.command()
def add(
    context: typer.Context,
    webhook: WebhookId,
    url: Annotated[str, typer.Argument(help="Where events are posted.")],
    *,
    collection: Collection = DEFAULT_COLLECTION,
    secret_file: Annotated[
        Path | None,
        typer.Option(help="File with 'whsec_' and the base64 of 24 to 64 bytes; default: the server makes one."),
    ] = None,
) -> None:
    """Make a webhook and print its secret, this once."""

    async def run(options: Options) -> None:
        secret = secret_file.read_text().strip() if secret_file else ""
        async with options.client() as client:
            made = await client.webhooks.create(collection, webhook, url, secret=secret)
        if options.as_json:
            session.emit(made)
            return
        session.results.out(made.secret)
        session.tell("note", f"{made.webhook.name}; the secret is not shown again", style="bold")

    session.execute(context, run)


@app.command("list")
def list_(context: typer.Context, collection: Collection = DEFAULT_COLLECTION) -> None:
    """List the webhooks."""

    async def run(options: Options) -> None:
        async with options.client() as client:
            _show([webhook async for webhook in client.webhooks.list(collection)], options)

    session.execute(context, run)


@app.command()
def enable(context: typer.Context, webhook: WebhookId, collection: Collection = DEFAULT_COLLECTION) -> None:
    """Tell it of what ends from now on."""
    _switch(context, collection, webhook, disabled=False)


@app.command()
def disable(context: typer.Context, webhook: WebhookId, collection: Collection = DEFAULT_COLLECTION) -> None:
    """Tell it nothing more, and give up what waits for it."""
    _switch(context, collection, webhook, disabled=True)


@app.command()
def remove(context: typer.Context, webhook: WebhookId, collection: Collection = DEFAULT_COLLECTION) -> None:
    """Remove a webhook and its deliveries."""

    async def run(options: Options) -> None:
        async with options.client() as client:
            await client.webhooks.delete(collection, webhook)

    session.execute(context, run)


@app.command()
def deliveries(
    context: typer.Context,
    webhook: WebhookId,
    *,
    collection: Collection = DEFAULT_COLLECTION,
    state: Annotated[str, typer.Option(help="Only those of one state: pending, delivered or failed.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=20_000, help="Most deliveries to list, the newest.")] = 20,
) -> None:
    """List what became of its events, newest first."""

    async def run(options: Options) -> None:
        if state and state.upper() not in DeliveryState.__members__:
            raise UserMistake("--state is pending, delivered or failed")
        wanted = DeliveryState[state.upper()] if state else None
        found: list[Delivery] = []
        async with options.client() as client:
            async for delivery in client.webhooks.deliveries(collection, webhook, state=wanted):
                found.append(delivery)
                if len(found) == limit:
                    break
        _show_deliveries(found, options)

    session.execute(context, run)


@app.command()
def redeliver(
    context: typer.Context,
    webhook: WebhookId,
    event: Annotated[str, typer.Argument(help="Id of the event.")],
    collection: Collection = DEFAULT_COLLECTION,
) -> None:
    """Post an event again that was delivered or given up."""

    async def run(options: Options) -> None:
        async with options.client() as client:
            _show_deliveries([await client.webhooks.redeliver(collection, webhook, event)], options)

    session.execute(context, run)


def _switch(context: typer.Context, collection: str, webhook: str, *, disabled: bool) -> None:
    async def run(options: Options) -> None:
        async with options.client() as client:
            _show([await client.webhooks.update(collection, webhook, disabled=disabled)], options)

    session.execute(context, run)


def _show(webhooks: list[Webhook], options: Options) -> None:
    if options.as_json:
        for webhook in webhooks:
            session.emit(webhook)
        return
    table = Table("webhook", "url", "state", box=None, pad_edge=False)
    for webhook in webhooks:
        state = f"disabled: {webhook.disabled_reason}" if webhook.disabled else "enabled"
        table.add_row(*(Text(session.printable(cell)) for cell in (webhook.webhook_id, webhook.url, state)))
    session.results.print(table)


def _show_deliveries(found: list[Delivery], options: Options) -> None:
    if options.as_json:
        for delivery in found:
            session.emit(delivery)
        return
    table = Table("event", "type", "made", "state", "attempts", "last reply", box=None, pad_edge=False)
    for delivery in found:
        made = f"{delivery.create_time:%Y-%m-%d %H:%M:%S} UTC"
        reply = delivery.error or (f"status {delivery.status_code}" if delivery.status_code else "–")
        state = delivery.state.name.lower()
        cells = (delivery.event_id, delivery.event_type, made, state, str(delivery.attempts), reply)
        table.add_row(*(Text(session.printable(cell)) for cell in cells))
    session.results.print(table)
