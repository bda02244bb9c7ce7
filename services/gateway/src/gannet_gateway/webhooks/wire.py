"""Webhooks and deliveries between protobuf and the gateway's own types."""

from typing import Final
from urllib.parse import urlsplit

from google.protobuf.field_mask_pb2 import FieldMask

from gannet.gateway.v1 import webhooks_pb2
from gannet_gateway.documents.wire import to_timestamp
from gannet_gateway.ledger.deliveries import Delivery
from gannet_gateway.ledger.events import DeliveryState
from gannet_gateway.ledger.webhooks import Webhook
from gannet_gateway.names import WebhookName
from gannet_gateway.webhooks.addresses import Addresses, literal
from gannet_gateway.webhooks.sender import PORTS
from gannet_service.errors import InvalidInput

URL_CHARACTERS_MAX = 2048
HOST_CHARACTERS_MAX = 253
CHANGEABLE = frozenset({"url", "disabled"})

_STATES: Final[dict[DeliveryState, webhooks_pb2.DeliveryState.ValueType]] = {
    state: webhooks_pb2.DeliveryState.Value(f"DELIVERY_STATE_{state.value}") for state in DeliveryState
}


def to_webhook(message: webhooks_pb2.Webhook, name: WebhookName, addresses: Addresses) -> Webhook:
    """A new webhook, its fields checked; raises InvalidInput."""
    url, receiver = to_place(message.url, addresses)
    return Webhook(name=name, url=url, receiver=receiver, disabled=message.disabled)


def to_place(url: str, addresses: Addresses) -> tuple[str, str]:
    """A webhook's url and its receiver; raises InvalidInput.

    A host name is not resolved here: what it leads to at the attempt is what counts.
    """
    expected = f"an http or https address of at most {URL_CHARACTERS_MAX} ASCII characters, without user and fragment"
    problem = InvalidInput(f"webhook.url: expected {expected}", field="webhook.url")
    # No backslash and no space: clients disagree about what such an address means.
    if len(url) > URL_CHARACTERS_MAX or not url.isascii() or not url.isprintable() or "\\" in url or " " in url:
        raise problem
    try:
        split = urlsplit(url)
        host, port = split.hostname or "", split.port
    except ValueError as error:
        raise problem from error
    if split.scheme not in PORTS or not 1 <= len(host) <= HOST_CHARACTERS_MAX or "@" in split.netloc or "#" in url:
        raise problem
    if port == 0:
        raise problem
    address = literal(host)
    if address is not None and not addresses.allows(address):
        closed = f"webhook.url: {host} is not public, and the server's webhook_networks do not open it"
        raise InvalidInput(closed, field="webhook.url", reason="ADDRESS_NOT_ALLOWED")
    return url, f"{split.scheme}://{host}:{port or PORTS[split.scheme]}"


def to_changes(
    message: webhooks_pb2.Webhook, mask: FieldMask, addresses: Addresses
) -> tuple[tuple[str, str] | None, bool | None]:
    """The new place and whether to disable, None for what stays; raises InvalidInput."""
    paths = set(mask.paths)
    if not paths or not paths <= CHANGEABLE:
        raise InvalidInput(f"update_mask: must name some of {', '.join(sorted(CHANGEABLE))}", field="update_mask")
    place = to_place(message.url, addresses) if "url" in paths else None
    return place, message.disabled if "disabled" in paths else None


def to_state(value: webhooks_pb2.DeliveryState.ValueType) -> DeliveryState | None:
    """The state that a list is narrowed to; raises InvalidInput for one that there is not."""
    if value == webhooks_pb2.DELIVERY_STATE_UNSPECIFIED:
        return None
    for state, number in _STATES.items():
        if number == value:
            return state
    raise InvalidInput(f"state: {value} is none", field="state")


def from_webhook(webhook: Webhook) -> webhooks_pb2.Webhook:
    """A webhook as it travels."""
    return webhooks_pb2.Webhook(
        name=str(webhook.name),
        url=webhook.url,
        disabled=webhook.disabled,
        disabled_reason=webhook.disabled_reason,
        create_time=to_timestamp(webhook.created_at_s),
    )


def from_delivery(delivery: Delivery) -> webhooks_pb2.Delivery:
    """A delivery as it travels."""
    message = webhooks_pb2.Delivery(
        name=str(delivery.name),
        event_type=delivery.event_type,
        state=_STATES[delivery.state],
        attempt_count=delivery.attempt,
        status_code=delivery.status_code,
        error=delivery.error,
        body=delivery.body,
        create_time=to_timestamp(delivery.created_at_s),
    )
    if delivery.due_at_s is not None:
        message.next_attempt_time.CopyFrom(to_timestamp(delivery.due_at_s))
    if delivery.ended_at_s is not None:
        message.end_time.CopyFrom(to_timestamp(delivery.ended_at_s))
    return message
