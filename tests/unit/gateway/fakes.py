"""Stand-ins for what the gateway calls over the network, and records to begin with."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from gannet_gateway.clients import EmbeddingModel, TextVectors
from gannet_gateway.ledger.records import Collection
from gannet_gateway.names import CollectionName, DocumentName
from gannet_gateway.vectors.points import Candidate, PassagePoint, Sparse

COLLECTION = CollectionName("acme", "docs")
DIGEST = "d" * 64
MODEL = EmbeddingModel(model="m", digest=DIGEST, dim=2, batch_texts_max=8, languages=("en", "hr"))


def collection_record(name: CollectionName = COLLECTION, **settings: Any) -> Collection:
    """A collection as the ledger takes it."""
    defaults = {
        "chunk_size": 200,
        "chunk_overlap": 0,
        "language": "en",
        "rerank": True,
        "embedding_model": MODEL.model,
        "embedding_model_digest": MODEL.digest,
        "dim": MODEL.dim,
        "generation": 1,
        "created_at_s": 0.0,
    }
    return Collection(name=name, **{**defaults, **settings})


class FakeEmbedder:
    """Gives every text a vector; `characters_max` is what the model reads of one."""

    def __init__(self) -> None:
        self.served = MODEL
        self.characters_max = 10_000
        self.texts: list[str] = []

    async def model(self) -> EmbeddingModel:
        """The model in service."""
        return self.served

    async def passages(self, texts: Sequence[str], **_options: object) -> list[TextVectors]:
        """One vector a text."""
        self.texts += texts
        sparse = Sparse(indices=np.array([1], np.uint32), values=np.array([1.0], np.float32))
        return [
            TextVectors(
                dense=np.array([len(text), 1], np.float32), sparse=sparse, truncated=len(text) > self.characters_max
            )
            for text in texts
        ]


class FakeIndex:
    """A vector store in memory."""

    def __init__(self) -> None:
        self.points: dict[str, PassagePoint] = {}

    async def check_version(self) -> None:
        """Always new enough."""

    async def upsert(self, _name: str, points: Sequence[PassagePoint]) -> None:
        """Store by id."""
        self.points |= {point.id: point for point in points}

    async def delete_other_revisions(self, _name: str, document: DocumentName, live: int) -> None:
        """As the real one."""
        self._keep(lambda point: point.document != document or point.revision == live)

    async def delete_collection(self, _name: str, collection: CollectionName) -> None:
        """As the real one."""
        self._keep(lambda point: point.document.parent != collection)

    def revisions(self) -> set[tuple[str, int]]:
        """Which revisions of which documents have passages."""
        return {(point.document.document, point.revision) for point in self.points.values()}

    def _keep(self, condition: Any) -> None:
        self.points = {key: point for key, point in self.points.items() if condition(point)}


class Crash(BaseException):
    """The process is gone."""


class Failing:
    """A store whose one method fails, before or after it has done its work."""

    def __init__(self, store: Any, method: str, error: BaseException, *, after: bool) -> None:
        self._store, self._method, self._error, self._after = store, method, error, after

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._store, name)
        if name != self._method:
            return real

        async def fail(*arguments: Any, **options: Any) -> None:
            if self._after:
                await real(*arguments, **options)
            raise self._error

        return fail


def candidate(ordinal: int = 0, *, text: str = "text", start_byte: int = 0, score: float = 0.0) -> Candidate:
    """A passage that a search found."""
    return Candidate(
        document=COLLECTION.document("a.md"),
        revision=1,
        ordinal=ordinal,
        text=text,
        start_byte=start_byte,
        end_byte=start_byte + len(text.encode()),
        title="",
        metadata={},
        score=score,
    )
