from typing import Any

import pytest
from sqlalchemy import insert
from unit.gateway.conftest import Clock
from unit.gateway.fakes import COLLECTION

from gannet_gateway.ledger.deliveries import Deliveries, Delivery
from gannet_gateway.ledger.engine import Database
from gannet_gateway.ledger.events import DeliveryState
from gannet_gateway.ledger.ledger import Ledger
from gannet_gateway.ledger.schema import deliveries as table
from gannet_gateway.ledger.webhooks import Webhook, Webhooks
from gannet_gateway.names import WebhookName

LEASE_S = 40
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105 - of the convention's example


class Board:
    """Webhooks and what is delivered to them, as a test makes and reads it."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self.database, self.clock = database, clock
        self.webhooks = Webhooks(database, clock=clock)
        self.deliveries = self.gateway()
        self._made = 0

    def gateway(self, **settings: Any) -> Deliveries:
        """What one gateway process holds."""
        return Deliveries(self.database, **{"lease_s": LEASE_S, "kept_s": 1000, "clock": self.clock, **settings})

    async def hook(self, webhook_id: str, url: str = "", receiver: str = "") -> WebhookName:
        """A new webhook; each has a receiver of its own unless told otherwise."""
        name = WebhookName(COLLECTION.tenant, COLLECTION.collection, webhook_id)
        url = url or f"https://{webhook_id}.example/"
        receiver = receiver or "/".join(url.split("/")[:3])
        await self.webhooks.create(Webhook(name=name, url=url, receiver=receiver), SECRET)
        return name

    async def write(self, name: WebhookName, count: int = 1) -> list[str]:
        """New events for a webhook; their ids, in the order in which they are due."""
        ids = [f"{self._made + place:032x}" for place in range(count)]
        self._made += count
        rows = [
            {
                "tenant": name.tenant,
                "collection": name.collection,
                "webhook": name.webhook,
                "event": event,
                "event_type": "operation.succeeded",
                "body": '{"data":"ž"}',
                "state": DeliveryState.PENDING.value,
                "attempt": 0,
                "holder": "",
                "due_at_s": (now := self.clock()),
                "status_code": 0,
                "error": "",
                "created_at_s": now,
                "queued_at_s": now,
            }
            for event in ids
        ]
        async with self.database.writing() as connection:
            await connection.execute(insert(table), rows)
        return ids

    async def all(self, name: WebhookName) -> list[Delivery]:
        """What has become of a webhook's events, oldest first."""
        page = await self.deliveries.page(name, state=None, before=0, limit=1000)
        return page.items[::-1]

    async def states(self, name: WebhookName) -> list[str]:
        """Their states."""
        return [delivery.state.value for delivery in await self.all(name)]


@pytest.fixture
def board(database: Database, clock: Clock, ledger: Ledger) -> Board:
    """Nothing yet."""
    return Board(database, clock)
