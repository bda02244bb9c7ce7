"""Resource names: `tenants/{tenant}/collections/{collection}/documents/{document}`, parsed, checked and written."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from gannet_service import call
from gannet_service.errors import InvalidInput, PermissionDenied

OWN_TENANT = "-"
DOCUMENT_ID_BYTES_MAX = 512
GENERATORS_MAX = 4

_RANDOM_ID = re.compile(r"[0-9a-f]{32}")
_GENERATOR = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_VERSION = re.compile(r"[1-9][0-9]{0,8}")
_COLLECTION_ID = re.compile(r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True, order=True)
class CollectionName:
    """A collection of a tenant."""

    tenant: str
    collection: str

    def __str__(self) -> str:
        return f"tenants/{self.tenant}/collections/{self.collection}"

    def document(self, document_id: str) -> "DocumentName":
        """The name of a document in this collection."""
        return DocumentName(self.tenant, self.collection, document_id)


@dataclass(frozen=True, slots=True, order=True)
class DocumentName:
    """A document of a collection."""

    tenant: str
    collection: str
    document: str

    @property
    def parent(self) -> CollectionName:
        """The collection that holds it."""
        return CollectionName(self.tenant, self.collection)

    def __str__(self) -> str:
        return f"{self.parent}/documents/{self.document}"


@dataclass(frozen=True, slots=True, order=True)
class ConversationName:
    """A conversation over a collection."""

    tenant: str
    collection: str
    conversation: str

    @property
    def parent(self) -> CollectionName:
        """The collection that it is about."""
        return CollectionName(self.tenant, self.collection)

    def __str__(self) -> str:
        return f"{self.parent}/conversations/{self.conversation}"


@dataclass(frozen=True, slots=True, order=True)
class PromptName:
    """A prompt of a collection, whatever its version."""

    tenant: str
    collection: str
    prompt: str

    @property
    def parent(self) -> CollectionName:
        """The collection that it is for."""
        return CollectionName(self.tenant, self.collection)

    def __str__(self) -> str:
        return f"{self.parent}/prompts/{self.prompt}"


@dataclass(frozen=True, slots=True, order=True)
class OperationName:
    """A long-running operation of a tenant."""

    tenant: str
    operation: str

    def __str__(self) -> str:
        return f"tenants/{self.tenant}/operations/{self.operation}"


@dataclass(frozen=True, slots=True, order=True)
class SourceName:
    """A source of a collection's documents."""

    tenant: str
    collection: str
    source: str

    @property
    def parent(self) -> CollectionName:
        """The collection that it fills."""
        return CollectionName(self.tenant, self.collection)

    def __str__(self) -> str:
        return f"{self.parent}/sources/{self.source}"


@dataclass(frozen=True, slots=True, order=True)
class WebhookName:
    """A webhook of a collection."""

    tenant: str
    collection: str
    webhook: str

    @property
    def parent(self) -> CollectionName:
        """The collection whose jobs it hears of."""
        return CollectionName(self.tenant, self.collection)

    def __str__(self) -> str:
        return f"{self.parent}/webhooks/{self.webhook}"


@dataclass(frozen=True, slots=True, order=True)
class DeliveryName:
    """An event that is delivered to a webhook."""

    webhook: WebhookName
    event: str

    def __str__(self) -> str:
        return f"{self.webhook}/deliveries/{self.event}"


def parse_tenant(name: str, field: str) -> str:
    """The tenant of "tenants/{tenant}"; raises InvalidInput, or PermissionDenied for somebody else's."""
    return _own_tenant(parse_any_tenant(name, field), field)


def parse_any_tenant(name: str, field: str) -> str:
    """The tenant of "tenants/{tenant}", whosever it is: the caller checks that. "-" is the caller's own."""
    parts = name.split("/")
    if len(parts) != 2 or parts[0] != "tenants":
        raise InvalidInput(f'{field}: expected "tenants/{{tenant}}", got {name[:200]!r}', field=field)
    return call.principal().tenant if parts[1] == OWN_TENANT else parts[1]


def parse_collection(name: str, field: str) -> CollectionName:
    """The parts of a collection's name, its tenant checked against the caller's."""
    parts = name.split("/")
    if len(parts) != 4 or parts[0] != "tenants" or parts[2] != "collections":
        expected = '"tenants/{tenant}/collections/{collection}"'
        raise InvalidInput(f"{field}: expected {expected}, got {name[:200]!r}", field=field)
    return CollectionName(_own_tenant(parts[1], field), check_collection_id(parts[3], field))


def parse_document(name: str, field: str) -> DocumentName:
    """The parts of a document's name, its tenant checked against the caller's."""
    head, separator, document = name.partition("/documents/")
    if not separator:
        expected = '"tenants/{tenant}/collections/{collection}/documents/{document}"'
        raise InvalidInput(f"{field}: expected {expected}, got {name[:200]!r}", field=field)
    return parse_collection(head, field).document(check_document_id(document, field))


def parse_conversation(name: str, field: str) -> ConversationName:
    """The parts of a conversation's name, its tenant checked against the caller's."""
    head, separator, conversation = name.partition("/conversations/")
    if not separator or not _RANDOM_ID.fullmatch(conversation):
        expected = '"tenants/{tenant}/collections/{collection}/conversations/{conversation}"'
        raise InvalidInput(f"{field}: expected {expected}, got {name[:200]!r}", field=field)
    parent = parse_collection(head, field)
    return ConversationName(parent.tenant, parent.collection, conversation)


def parse_operation(name: str, field: str) -> OperationName:
    """The parts of an operation's name, its tenant checked against the caller's."""
    head, separator, operation = name.partition("/operations/")
    if not separator or not _RANDOM_ID.fullmatch(operation):
        expected = '"tenants/{tenant}/operations/{operation}"'
        raise InvalidInput(f"{field}: expected {expected}, got {name[:200]!r}", field=field)
    return OperationName(parse_tenant(head, field), operation)


def parse_source(name: str, field: str) -> SourceName:
    """The parts of a source's name, its tenant checked against the caller's."""
    head, separator, source = name.partition("/sources/")
    if not separator:
        expected = '"tenants/{tenant}/collections/{collection}/sources/{source}"'
        raise InvalidInput(f"{field}: expected {expected}, got {name[:200]!r}", field=field)
    parent = parse_collection(head, field)
    return SourceName(parent.tenant, parent.collection, check_collection_id(source, field))


def parse_webhook(name: str, field: str) -> WebhookName:
    """The parts of a webhook's name, its tenant checked against the caller's."""
    head, separator, webhook = name.partition("/webhooks/")
    if not separator:
        expected = '"tenants/{tenant}/collections/{collection}/webhooks/{webhook}"'
        raise InvalidInput(f"{field}: expected {expected}, got {name[:200]!r}", field=field)
    parent = parse_collection(head, field)
    return WebhookName(parent.tenant, parent.collection, check_collection_id(webhook, field))


def parse_delivery(name: str, field: str) -> DeliveryName:
    """The parts of a delivery's name, its tenant checked against the caller's."""
    head, separator, event = name.partition("/deliveries/")
    if not separator or not _RANDOM_ID.fullmatch(event):
        expected = '"tenants/{tenant}/collections/{collection}/webhooks/{webhook}/deliveries/{event}"'
        raise InvalidInput(f"{field}: expected {expected}, got {name[:200]!r}", field=field)
    return DeliveryName(parse_webhook(head, field), event)


def parse_prompt(name: str, field: str) -> tuple[PromptName, int | None]:
    """The parts of a prompt's name, its tenant checked against the caller's; a version where it has one."""
    head, separator, prompt = name.partition("/prompts/")
    if not separator:
        expected = '"tenants/{tenant}/collections/{collection}/prompts/{prompt}@{version}"'
        raise InvalidInput(f"{field}: expected {expected}, got {name[:200]!r}", field=field)
    parent = parse_collection(head, field)
    prompt_id, version = prompt_reference(prompt, field)
    return PromptName(parent.tenant, parent.collection, prompt_id), version


def prompt_reference(value: str, field: str) -> tuple[str, int | None]:
    """The parts of "{prompt}@{version}"; without "@{version}" there is no version."""
    prompt_id, at, version = value.partition("@")
    if at and not _VERSION.fullmatch(version):
        raise InvalidInput(f"{field}: {version[:20]!r} is not a version, 1 to {10**9 - 1}", field=field)
    return check_collection_id(prompt_id, field), int(version) if at else None


def check_collection_id(value: str, field: str) -> str:
    """`value` if it may name a collection, or what belongs to one."""
    if not _COLLECTION_ID.fullmatch(value):
        raise InvalidInput(
            f"{field}: {value[:100]!r} is not 1 to 63 of a-z, 0-9 and '-', beginning with a letter, not ending with '-'",
            field=field,
        )
    return value


def check_document_id(value: str, field: str) -> str:
    """`value` if it may name a document: 1 to 512 bytes of UTF-8, no control characters. "/" is allowed inside, as in paths."""
    size = len(value.encode())
    if not 1 <= size <= DOCUMENT_ID_BYTES_MAX:
        raise InvalidInput(f"{field}: {size} bytes; the limit is 1 to {DOCUMENT_ID_BYTES_MAX}", field=field)
    if not value.isprintable() or value.strip() != value:
        raise InvalidInput(f"{field}: control characters and white space at the ends are not allowed", field=field)
    if "/documents/" in value or "/chunks/" in value or value.startswith("/") or value.endswith("/"):
        raise InvalidInput(f'{field}: "/" at an end, "/documents/" and "/chunks/" are not allowed', field=field)
    return value


def _own_tenant(tenant: str, field: str) -> str:
    own = call.principal().tenant
    if tenant in (OWN_TENANT, own):
        return own
    raise PermissionDenied(f"{field}: these credentials are for another tenant", field=field)


def to_generators(names: Sequence[str], field: str) -> tuple[str, ...]:
    """Names of generators, checked."""
    if len(names) > GENERATORS_MAX:
        raise InvalidInput(f"{field}: {len(names)} names; the limit is {GENERATORS_MAX}", field=field)
    for name in names:
        if not _GENERATOR.fullmatch(name):
            raise InvalidInput(f"{field}: {name[:100]!r} is not the name of a generator", field=field)
    return tuple(dict.fromkeys(names))
