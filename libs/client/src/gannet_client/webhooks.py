"""Webhooks: addresses that are told when a collection's operations and runs of its sources end."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum

from google.protobuf.field_mask_pb2 import FieldMask

from gannet.gateway.v1 import webhooks_pb2
from gannet.gateway.v1.webhooks_pb2_grpc import WebhookServiceStub
from gannet_client import wire
from gannet_client.transport import Transport

PAGE_SIZE = 500


class DeliveryState(Enum):
    """What has become of an event at a webhook."""

    PENDING = webhooks_pb2.DELIVERY_STATE_PENDING
    DELIVERED = webhooks_pb2.DELIVERY_STATE_DELIVERED
    FAILED = webhooks_pb2.DELIVERY_STATE_FAILED


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """A webhook; `disabled_reason` is empty unless it is disabled."""

    name: str
    url: str
    disabled: bool
    disabled_reason: str
    create_time: datetime

    @property
    def webhook_id(self) -> str:
        """The webhook's id in its collection."""
        return self.name.partition("/webhooks/")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewWebhook:
    """A webhook that was just made; `secret` is what its receiver checks signatures with, which nobody can ask for again."""

    webhook: Webhook
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """An event and what has become of it. `status_code` is 0 where there was no reply; `body` is what is posted."""

    name: str
    event_type: str
    state: DeliveryState
    attempts: int
    status_code: int
    error: str
    body: str
    create_time: datetime
    next_attempt_time: datetime | None
    end_time: datetime | None

    @property
    def event_id(self) -> str:
        """What the receiver gets as webhook-id."""
        return self.name.rpartition("/")[2]


class Webhooks:
    """`GannetClient.webhooks`: see WebhookService. Collections are given by id or name; `timeout_s` is for each call."""

    def __init__(self, transport: Transport, timeout_s: float) -> None:
        self._transport = transport
        self._stub = WebhookServiceStub(transport.channel)
        self._timeout_s = timeout_s

    async def create(self, collection: str, webhook_id: str, url: str, *, secret: str = "") -> NewWebhook:
        """Make a webhook; without `secret` the server makes one."""
        request = webhooks_pb2.CreateWebhookRequest(
            parent=wire.collection_name(collection),
            webhook_id=webhook_id,
            webhook=webhooks_pb2.Webhook(url=url),
            secret=secret,
        )
        made = await self._transport.unary(self._stub.CreateWebhook, request, self._timeout_s)
        return NewWebhook(webhook=_webhook(made.webhook), secret=made.secret)

    async def get(self, collection: str, webhook_id: str) -> Webhook:
        """One webhook."""
        request = webhooks_pb2.GetWebhookRequest(name=_name(collection, webhook_id))
        return _webhook(await self._transport.unary(self._stub.GetWebhook, request, self._timeout_s))

    async def list(self, collection: str) -> AsyncGenerator[Webhook]:
        """A collection's webhooks in the order of their ids."""
        token = ""
        while True:
            request = webhooks_pb2.ListWebhooksRequest(
                parent=wire.collection_name(collection), page_size=PAGE_SIZE, page_token=token
            )
            page = await self._transport.unary(self._stub.ListWebhooks, request, self._timeout_s)
            for message in page.webhooks:
                yield _webhook(message)
            token = page.next_page_token
            if not token:
                return

    async def update(
        self, collection: str, webhook_id: str, *, url: str | None = None, disabled: bool | None = None
    ) -> Webhook:
        """Lead it elsewhere, or disable or enable it; None leaves either as it is. Disabling gives up what waits for it."""
        given = {"url": url is not None, "disabled": disabled is not None}
        request = webhooks_pb2.UpdateWebhookRequest(
            webhook=webhooks_pb2.Webhook(name=_name(collection, webhook_id), url=url or "", disabled=bool(disabled)),
            update_mask=FieldMask(paths=[path for path, is_given in given.items() if is_given]),
        )
        return _webhook(await self._transport.unary(self._stub.UpdateWebhook, request, self._timeout_s))

    async def delete(self, collection: str, webhook_id: str) -> None:
        """Remove a webhook and its deliveries."""
        request = webhooks_pb2.DeleteWebhookRequest(name=_name(collection, webhook_id))
        await self._transport.unary(self._stub.DeleteWebhook, request, self._timeout_s)

    async def deliveries(
        self, collection: str, webhook_id: str, *, state: DeliveryState | None = None
    ) -> AsyncGenerator[Delivery]:
        """A webhook's deliveries, of one state or of all, newest first."""
        token = ""
        while True:
            request = webhooks_pb2.ListDeliveriesRequest(
                parent=_name(collection, webhook_id), page_size=PAGE_SIZE, page_token=token
            )
            if state is not None:
                request.state = state.value
            page = await self._transport.unary(self._stub.ListDeliveries, request, self._timeout_s)
            for message in page.deliveries:
                yield _delivery(message)
            token = page.next_page_token
            if not token:
                return

    async def redeliver(self, collection: str, webhook_id: str, event_id: str) -> Delivery:
        """Post an event again that was delivered or given up."""
        request = webhooks_pb2.RedeliverEventRequest(name=f"{_name(collection, webhook_id)}/deliveries/{event_id}")
        return _delivery(await self._transport.unary(self._stub.RedeliverEvent, request, self._timeout_s))


def _name(collection: str, webhook_id: str) -> str:
    return f"{wire.collection_name(collection)}/webhooks/{webhook_id}"


def _webhook(message: webhooks_pb2.Webhook) -> Webhook:
    return Webhook(
        name=message.name,
        url=message.url,
        disabled=message.disabled,
        disabled_reason=message.disabled_reason,
        create_time=message.create_time.ToDatetime(UTC),
    )


def _delivery(message: webhooks_pb2.Delivery) -> Delivery:
    return Delivery(
        name=message.name,
        event_type=message.event_type,
        state=DeliveryState(message.state),
        attempts=message.attempt_count,
        status_code=message.status_code,
        error=message.error,
        body=message.body,
        create_time=message.create_time.ToDatetime(UTC),
        next_attempt_time=message.next_attempt_time.ToDatetime(UTC) if message.HasField("next_attempt_time") else None,
        end_time=message.end_time.ToDatetime(UTC) if message.HasField("end_time") else None,
    )
