"""What the ledger gives back: one frozen record a row."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from gannet_gateway.names import CollectionName, DocumentName
from gannet_gateway.vectors.points import FIRST_GENERATION, GENERATION_NEVER
from gannet_service.errors import InvalidInput, NotFound

# Values of a document's metadata: what a payload filter can match on.
MetadataValue = str | float | bool | list[str]

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """A collection and its settings; see collections.proto for units and bounds.

    `rerank`, `cache_results` and `cache_ttl_s` are None where it leaves them to the server. `document_languages` are those that documents
    have named beside `language`.
    `cache_epoch` belongs into every cache key beside the generation: an erasure raises it, and reaches back into every generation.
    """

    name: CollectionName
    chunk_size: int
    chunk_overlap: int
    language: str
    document_languages: tuple[str, ...] = ()
    rerank: bool | None
    cache_results: bool | None = None
    cache_ttl_s: float | None = None
    embedding_model: str
    embedding_model_digest: str
    dim: int
    generation: int
    gen_floor: int = FIRST_GENERATION
    cache_epoch: int = 0
    generators: tuple[str, ...] = ()
    created_at_s: float
    document_count: int = 0

    @property
    def etag(self) -> str:
        """Changes with the settings that can be changed."""
        settings = f"{self.created_at_s} {self.rerank} {self.cache_results} {self.cache_ttl_s} {self.generators}"
        return hashlib.sha256(settings.encode()).hexdigest()[:16]

    @property
    def languages(self) -> tuple[str, ...]:
        """Those that its documents are in, its own first."""
        return (self.language, *self.document_languages)

    def as_of(self, generation: int, field: str) -> int:
        """`generation`, if it may be read.

        Raises:
            NotFound: reason GENERATION_GONE; its passages may have been collected.
            InvalidInput: it is not there yet.
        """
        if generation > self.generation:
            raise InvalidInput(f"{field}: generation {generation}; {self.name} is at {self.generation}", field=field)
        if generation < self.gen_floor:
            problem = f"{field}: generation {generation} of {self.name} is gone; the oldest kept is {self.gen_floor}"
            raise NotFound(problem, field=field, reason="GENERATION_GONE")
        return generation


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A revision of a document, seen by readers of generation g where `gen_from` <= g < `gen_to`.

    `attempt` names the passages and the text that belong to it; `collected` says that the passages are gone. `readers` are the
    identities that find it; without any, everyone in the tenant does. `language` is empty where it is the collection's.
    """

    name: DocumentName
    revision: int
    attempt: str = ""
    language: str = ""
    gen_from: int = FIRST_GENERATION
    gen_to: int = GENERATION_NEVER
    collected: bool = False
    title: str
    mime_type: str
    metadata: Mapping[str, MetadataValue]
    readers: tuple[str, ...] = ()
    text_bytes: int
    chunk_count: int
    content_sha256: str
    fingerprint: str
    created_at_s: float
    updated_at_s: float

    def is_read_by(self, identities: Iterable[str]) -> bool:
        """Whether a caller with these identities may know of it."""
        return not self.readers or not set(self.readers).isdisjoint(identities)

    @property
    def etag(self) -> str:
        """Changes with every revision."""
        return f"{self.revision}-{self.fingerprint[:16]}"

    @property
    def text_key(self) -> str:
        """What its text is stored under; without an attempt it was stored before there were any."""
        return self.attempt or str(self.revision)


class Purpose(StrEnum):
    """What a claim is for."""

    WRITE = "write"
    DELETE = "delete"
    PURGE = "purge"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The right to change one document, for as long as `holder` is not replaced: whose lease runs out may lose it to another gateway.

    `attempt` names what is staged under it, `live` is the revision that is replaced by `revision`; a claim that was taken over knows
    neither, and nothing more is written under it.
    """

    document: DocumentName
    attempt: str
    holder: str
    purpose: Purpose
    revision: int = 0
    live: Document | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One document's part in a publish: a staged revision, or None for its removal."""

    claim: Claim
    document: Document | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Publish:
    """An intent to make `generation`: recorded before any stamp, and from then on only ever finished.

    `staged` become visible, `retired` invisible; `accepted` are the holders of the claims that are part of it.
    """

    collection: CollectionName
    generation: int
    holder: str
    staged: tuple[Document, ...]
    retired: tuple[Document, ...]
    accepted: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[T]):
    """A part of a list; `next_after` continues it, and is None at its end."""

    items: list[T]
    next_after: str | None
