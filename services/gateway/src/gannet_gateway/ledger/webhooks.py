"""Webhooks of collections: where events are posted, and the secrets that sign them. Every method is one transaction."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import ColumnElement, RowMapping, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from gannet_gateway.ledger.engine import Database
from gannet_gateway.ledger.events import DeliveryState
from gannet_gateway.ledger.ledger import in_collection, is_collection
from gannet_gateway.ledger.records import Page
from gannet_gateway.ledger.schema import collections, deliveries, webhooks
from gannet_gateway.names import CollectionName, WebhookName
from gannet_service.errors import AlreadyExists, NotFound, Overloaded

WEBHOOKS_MAX = 10
DISABLED_BY_CALLER = "disabled by UpdateWebhook"


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """A webhook without its secret, which is only read to sign. `receiver` is the scheme, host and port of `url`."""

    name: WebhookName
    url: str
    receiver: str
    disabled: bool = False
    disabled_reason: str = ""
    created_at_s: float = 0.0


class Webhooks:
    """See the module. `clock` gives Unix seconds."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    async def create(self, webhook: Webhook, secret: str) -> Webhook:
        """Keep a new webhook; it hears of what ends from now on.

        Raises:
            NotFound: the collection is gone.
            AlreadyExists: the id is taken.
            Overloaded: the collection has WEBHOOKS_MAX.
        """
        name = webhook.name
        async with self._database.writing() as connection:
            # Locked, so that two who count at once do not make one too many.
            query = select(collections.c.id).where(*is_collection(name.parent)).with_for_update()
            if (await connection.execute(query)).first() is None:
                raise NotFound(f"{name.parent} does not exist", field="parent")
            count = select(func.count()).select_from(webhooks).where(*in_collection(webhooks, name.parent))
            if (await connection.execute(count)).scalar_one() >= WEBHOOKS_MAX:
                raise Overloaded(f"{name.parent} has {WEBHOOKS_MAX} webhooks", reason="WEBHOOKS_MAX")
            row = {
                "tenant": name.tenant,
                "collection": name.collection,
                "id": name.webhook,
                "url": webhook.url,
                "receiver": webhook.receiver,
                "secret": secret,
                "disabled": webhook.disabled,
                "disabled_reason": DISABLED_BY_CALLER if webhook.disabled else "",
                "created_at_s": self._clock(),
            }
            try:
                await connection.execute(insert(webhooks).values(row))
            except IntegrityError as error:
                raise AlreadyExists(f"{name} exists already", field="webhook_id") from error
        return await self.get(name)

    async def get(self, name: WebhookName) -> Webhook:
        """One webhook; raises NotFound."""
        async with self._database.reading() as connection:
            row = (await connection.execute(select(webhooks).where(*named(name)))).mappings().first()
        if row is None:
            raise NotFound(f"{name} does not exist", field="name")
        return _webhook(row)

    async def list(self, parent: CollectionName, *, after: str, limit: int) -> Page[Webhook]:
        """Webhooks of a collection whose id is greater than `after`."""
        query = (
            select(webhooks)
            .where(*in_collection(webhooks, parent), webhooks.c.id > after)
            .order_by(webhooks.c.id)
            .limit(limit + 1)
        )
        async with self._database.reading() as connection:
            rows = (await connection.execute(query)).mappings().all()
        items = [_webhook(row) for row in rows[:limit]]
        return Page(items=items, next_after=items[-1].name.webhook if len(rows) > limit else None)

    async def change(
        self, name: WebhookName, *, place: tuple[str, str] | None = None, disabled: bool | None = None
    ) -> Webhook:
        """Set (url, receiver), or whether it is disabled, which gives up what waits for it; None leaves either. Raises NotFound."""
        async with self._database.writing() as connection:
            values: dict[str, object] = {} if place is None else {"url": place[0], "receiver": place[1]}
            if disabled is False:
                values |= {"disabled": False, "disabled_reason": ""}
            changed = update(webhooks).where(*named(name)).values(values or {"url": webhooks.c.url})
            if (await connection.execute(changed)).rowcount == 0:
                raise NotFound(f"{name} does not exist", field="webhook.name")
            if disabled:
                await disable(connection, name, DISABLED_BY_CALLER, self._clock())
        return await self.get(name)

    async def delete(self, name: WebhookName) -> None:
        """Remove a webhook and its deliveries; raises NotFound."""
        async with self._database.writing() as connection:
            # First: it waits for those who are writing events for it.
            if (await connection.execute(delete(webhooks).where(*named(name)))).rowcount == 0:
                raise NotFound(f"{name} does not exist", field="name")
            await connection.execute(delete(deliveries).where(*of_webhook(name)))


async def disable(connection: AsyncConnection, name: WebhookName, reason: str, now: float) -> None:
    """Write no more events for a webhook, and give up those that wait for it, also those in work."""
    await connection.execute(update(webhooks).where(*named(name)).values(disabled=True, disabled_reason=reason))
    await connection.execute(
        update(deliveries)
        .where(*of_webhook(name), deliveries.c.state == DeliveryState.PENDING.value)
        .values(state=DeliveryState.FAILED.value, holder="", due_at_s=None, error=reason, ended_at_s=now)
    )


def named(name: WebhookName) -> tuple[ColumnElement[bool], ...]:
    """The row of a webhook."""
    return (*in_collection(webhooks, name.parent), webhooks.c.id == name.webhook)


def of_webhook(name: WebhookName) -> tuple[ColumnElement[bool], ...]:
    """The deliveries of a webhook."""
    return (*in_collection(deliveries, name.parent), deliveries.c.webhook == name.webhook)


def _webhook(row: RowMapping) -> Webhook:
    return Webhook(
        name=WebhookName(row["tenant"], row["collection"], row["id"]),
        url=row["url"],
        receiver=row["receiver"],
        disabled=row["disabled"],
        disabled_reason=row["disabled_reason"],
        created_at_s=row["created_at_s"],
    )
