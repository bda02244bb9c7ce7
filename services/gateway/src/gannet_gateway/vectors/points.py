"""How a passage is stored as a point: vector names, payload fields, ids, and the one filter that every read goes through."""

import uuid
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gannet_gateway.names import CollectionName, DocumentName

DENSE = "dense"
SPARSE = "bm25"

# "Never" is the largest integer that payload ranges, which are doubles, hold exactly.
GENERATION_NEVER = 2**53 - 1
FIRST_GENERATION = 1

KEYWORD_FIELDS = ("tenant", "collection", "document", "attempt", "readers")
# Stands among the readers of passages that everyone in the tenant reads: one without readers at all is read by nobody.
EVERYONE = "*"
INTEGER_FIELDS = ("gen_from", "gen_to")
# What `Candidate.of` reads of a payload.
CANDIDATE_FIELDS = (
    *("tenant", "collection", "document", "revision", "ordinal"),
    *("text", "start_byte", "end_byte", "title", "metadata"),
)

# Any fixed value will do; this one was drawn once.
_NAMESPACE = uuid.UUID("6f1a3f0e-5f63-4d36-9d3c-2c1e0d3f5b7a")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sparse:
    """A sparse vector: u32 `indices`, strictly ascending, and f32 `values`, one each."""

    indices: NDArray[np.uint32]
    values: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class PassagePoint:
    """A passage with its vectors, ready to be staged: no reader sees it before it is stamped. `dense` is f32[dim].

    `attempt` is that of the claim it is written under. What a dead attempt left behind, or sends late, never mixes with the next one's.
    `readers` are the identities that find it; without any, everyone does.
    """

    document: DocumentName
    revision: int
    attempt: str
    ordinal: int
    text: str
    start_byte: int
    end_byte: int
    title: str
    metadata: dict[str, Any]
    readers: tuple[str, ...] = ()
    dense: NDArray[np.float32]
    sparse: Sparse

    @property
    def id(self) -> str:
        """UUIDv5 over collection, document, attempt and ordinal: writing again replaces, never doubles."""
        key = "\x1f".join((str(self.document.parent), self.document.document, self.attempt, str(self.ordinal)))
        return str(uuid.uuid5(_NAMESPACE, key))

    def payload(self) -> dict[str, Any]:
        """What is stored beside the vectors."""
        return {
            "tenant": self.document.tenant,
            "collection": self.document.collection,
            "document": self.document.document,
            "revision": self.revision,
            "attempt": self.attempt,
            "readers": list(self.readers) or [EVERYONE],
            "ordinal": self.ordinal,
            "gen_from": GENERATION_NEVER,
            "gen_to": GENERATION_NEVER,
            "text": self.text,
            "start_byte": self.start_byte,
            "end_byte": self.end_byte,
            "title": self.title,
            "metadata": self.metadata,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredVectors:
    """The vectors of a stored passage and the two texts that they were made of. `dense` is f32[dim]."""

    title: str
    text: str
    dense: NDArray[np.float32]
    sparse: Sparse


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A stored passage that a query found, with the score of the query's mode."""

    document: DocumentName
    revision: int
    ordinal: int
    text: str
    start_byte: int
    end_byte: int
    title: str
    metadata: dict[str, Any]
    score: float

    @staticmethod
    def of(payload: dict[str, Any], score: float) -> "Candidate":
        """The candidate in a stored payload."""
        return Candidate(
            document=CollectionName(payload["tenant"], payload["collection"]).document(payload["document"]),
            revision=payload["revision"],
            ordinal=payload["ordinal"],
            text=payload["text"],
            start_byte=payload["start_byte"],
            end_byte=payload["end_byte"],
            title=payload["title"],
            metadata=payload["metadata"],
            score=score,
        )


def qdrant_collection(model: str, digest: str) -> str:
    """The Qdrant collection for vectors of one model: several Gannet collections and tenants share it."""
    return f"gannet-{model}-{digest[:12]}"
