"""WebhookService on the wire."""

from typing import Any

from google.protobuf.empty_pb2 import Empty

from gannet.gateway.v1 import webhooks_pb2, webhooks_pb2_grpc
from gannet_gateway.ledger.deliveries import Deliveries
from gannet_gateway.ledger.ledger import Ledger
from gannet_gateway.ledger.webhooks import Webhooks
from gannet_gateway.names import WebhookName, check_collection_id, parse_collection, parse_delivery, parse_webhook
from gannet_gateway.paging import page_size, read_token, write_token
from gannet_gateway.webhooks import signing, wire
from gannet_gateway.webhooks.addresses import Addresses


class WebhookServicer(webhooks_pb2_grpc.WebhookServiceServicer):
    """See webhooks.proto."""

    def __init__(self, ledger: Ledger, webhooks: Webhooks, deliveries: Deliveries, addresses: Addresses) -> None:
        self._ledger = ledger
        self._webhooks = webhooks
        self._deliveries = deliveries
        self._addresses = addresses

    def add_to(self, server: Any) -> None:
        """Serve it."""
        webhooks_pb2_grpc.add_WebhookServiceServicer_to_server(self, server)

    async def CreateWebhook(  # noqa: N802
        self, request: webhooks_pb2.CreateWebhookRequest, context: Any
    ) -> webhooks_pb2.CreateWebhookResponse:
        del context
        parent = parse_collection(request.parent, "parent")
        name = WebhookName(parent.tenant, parent.collection, check_collection_id(request.webhook_id, "webhook_id"))
        webhook = wire.to_webhook(request.webhook, name, self._addresses)
        secret = signing.check_secret(request.secret, "secret") if request.secret else signing.new_secret()
        made = await self._webhooks.create(webhook, secret)
        return webhooks_pb2.CreateWebhookResponse(webhook=wire.from_webhook(made), secret=secret)

    async def GetWebhook(self, request: webhooks_pb2.GetWebhookRequest, context: Any) -> webhooks_pb2.Webhook:  # noqa: N802
        del context
        return wire.from_webhook(await self._webhooks.get(parse_webhook(request.name, "name")))

    async def ListWebhooks(  # noqa: N802
        self, request: webhooks_pb2.ListWebhooksRequest, context: Any
    ) -> webhooks_pb2.ListWebhooksResponse:
        del context
        parent = parse_collection(request.parent, "parent")
        await self._ledger.collection_settings(parent)
        scope = f"{parent}/webhooks"
        after = read_token(scope, request.page_token)
        page = await self._webhooks.list(parent, after=after, limit=page_size(request.page_size))
        return webhooks_pb2.ListWebhooksResponse(
            webhooks=[wire.from_webhook(webhook) for webhook in page.items],
            next_page_token=write_token(scope, page.next_after),
        )

    async def UpdateWebhook(self, request: webhooks_pb2.UpdateWebhookRequest, context: Any) -> webhooks_pb2.Webhook:  # noqa: N802
        del context
        name = parse_webhook(request.webhook.name, "webhook.name")
        place, disabled = wire.to_changes(request.webhook, request.update_mask, self._addresses)
        return wire.from_webhook(await self._webhooks.change(name, place=place, disabled=disabled))

    async def DeleteWebhook(self, request: webhooks_pb2.DeleteWebhookRequest, context: Any) -> Empty:  # noqa: N802
        del context
        await self._webhooks.delete(parse_webhook(request.name, "name"))
        return Empty()

    async def ListDeliveries(  # noqa: N802
        self, request: webhooks_pb2.ListDeliveriesRequest, context: Any
    ) -> webhooks_pb2.ListDeliveriesResponse:
        del context
        name = parse_webhook(request.parent, "parent")
        state = wire.to_state(request.state)
        scope = f"{name}/deliveries/{state or ''}"
        before = int(read_token(scope, request.page_token) or 0)
        await self._webhooks.get(name)
        page = await self._deliveries.page(name, state=state, before=before, limit=page_size(request.page_size))
        return webhooks_pb2.ListDeliveriesResponse(
            deliveries=[wire.from_delivery(delivery) for delivery in page.items],
            next_page_token=write_token(scope, page.next_after),
        )

    async def RedeliverEvent(  # noqa: N802
        self, request: webhooks_pb2.RedeliverEventRequest, context: Any
    ) -> webhooks_pb2.Delivery:
        del context
        return wire.from_delivery(await self._deliveries.redeliver(parse_delivery(request.name, "name")))
