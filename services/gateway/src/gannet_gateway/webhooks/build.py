"""Puts the parts that deliver events together."""

import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import httpx

from gannet_gateway.config import GatewayConfig
from gannet_gateway.ledger.deliveries import Deliveries
from gannet_gateway.ledger.engine import Database
from gannet_gateway.ledger.ledger import Ledger
from gannet_gateway.ledger.webhooks import Webhooks
from gannet_gateway.webhooks.addresses import Addresses
from gannet_gateway.webhooks.dispatcher import DeliveryLimits, Dispatcher
from gannet_gateway.webhooks.sender import Sender
from gannet_gateway.webhooks.servicer import WebhookServicer


class Delivering(NamedTuple):
    """What the gateway needs of it."""

    servicer: WebhookServicer
    dispatcher: Dispatcher
    close: Callable[[], Awaitable[None]]


def delivering(config: GatewayConfig, database: Database, *, ledger: Ledger) -> Delivering:
    """Service and dispatcher over the ledger."""
    addresses = Addresses(config.webhook_networks)
    transport = open_transport(config.webhook_in_work_max)
    deliveries = Deliveries(
        database, lease_s=config.lease_s + config.webhook_timeout_s, kept_s=config.webhook_retention_s
    )
    limits = DeliveryLimits(
        in_work_max=config.webhook_in_work_max,
        of_receiver_max=config.webhook_receiver_in_work_max,
        retry_s=config.webhook_retry_s,
        pause_initial_s=config.webhook_pause_initial_s,
        pause_max_s=config.webhook_pause_max_s,
        poll_s=config.webhook_poll_s,
    )
    sender = Sender(addresses, transport, timeout_s=config.webhook_timeout_s, clock=time.time)
    dispatcher = Dispatcher(deliveries, sender, limits)

    async def close() -> None:
        await dispatcher.close()
        await transport.aclose()
        addresses.close()

    return Delivering(WebhookServicer(ledger, Webhooks(database), deliveries, addresses), dispatcher, close)


def open_transport(connections_max: int) -> httpx.AsyncHTTPTransport:
    """Connections that are for one post each: see Sender."""
    limits = httpx.Limits(max_connections=connections_max, max_keepalive_connections=0)
    return httpx.AsyncHTTPTransport(limits=limits, trust_env=False)
