"""What the ledger gives back: one frozen record a row."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from gannet_gateway.names import CollectionName, DocumentName
from gannet_gateway.vectors.points import FIRST_GENERATION
from gannet_service.errors import InvalidInput, NotFound

# Values of a document's metadata: what a payload filter can match on.
MetadataValue = str | float | bool | list[str]

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """A collection and its settings; see collections.proto for units and bounds. `rerank` is None where it leaves that to the server."""

    name: CollectionName
    chunk_size: int
    chunk_overlap: int
    language: str
    rerank: bool | None
    embedding_model: str
    embedding_model_digest: str
    dim: int
    generation: int
    created_at_s: float
    document_count: int = 0

    def as_of(self, generation: int, field: str) -> int:
        """`generation`, if it may be read.

        Raises:
            NotFound: reason GENERATION_GONE; its passages may have been collected.
            InvalidInput: it is not there yet.
        """
        if generation > self.generation:
            raise InvalidInput(f"{field}: generation {generation}; {self.name} is at {self.generation}", field=field)
        if generation < FIRST_GENERATION:
            problem = f"{field}: generation {generation} of {self.name} is gone; the oldest kept is {FIRST_GENERATION}"
            raise NotFound(problem, field=field, reason="GENERATION_GONE")
        return generation


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A document's live revision."""

    name: DocumentName
    revision: int
    title: str
    mime_type: str
    metadata: Mapping[str, MetadataValue]
    text_bytes: int
    chunk_count: int
    content_sha256: str
    fingerprint: str
    created_at_s: float
    updated_at_s: float

    @property
    def etag(self) -> str:
        """Changes with every revision."""
        return f"{self.revision}-{self.fingerprint[:16]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """A write that was begun: `revision` of `document`, or its deletion where `revision` is 0."""

    document: DocumentName
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[T]):
    """A part of a list; `next_after` continues it, and is None at its end."""

    items: list[T]
    next_after: str | None
