"""Stand-ins for what the gateway calls over the network, and records to begin with."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gannet_gateway.clients import EmbeddingModel, TextVectors
from gannet_gateway.ledger.job import Job, JobState
from gannet_gateway.ledger.journal import Journal
from gannet_gateway.ledger.records import Change, Claim, Collection, Document, Publish, Purpose
from gannet_gateway.names import CollectionName, DocumentName
from gannet_gateway.vectors.points import GENERATION_NEVER, Candidate, PassagePoint, Sparse, StoredVectors

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


def document_record(name: DocumentName, **fields: Any) -> Document:
    """A document as it is published."""
    defaults = {
        "revision": 1,
        "title": "A",
        "mime_type": "text/plain",
        "metadata": {"n": 1.5, "tags": ["x", "č"], "ok": True},
        "text_bytes": 3,
        "chunk_count": 1,
        "content_sha256": "0" * 64,
        "fingerprint": "f" * 64,
        "created_at_s": 0.0,
        "updated_at_s": 0.0,
    }
    return Document(name=name, **{**defaults, **fields})


def job_record(**fields: Any) -> Job:
    """A job that has succeeded."""
    defaults = {
        "number": 1,
        "id": "j" * 32,
        "operation": "o" * 32,
        "document": COLLECTION.document("a.md"),
        "blob": "u1",
        "blob_bytes": 3,
        "fields": {},
        "state": JobState.SUCCEEDED,
        "attempt": 1,
        "holder": "",
        "cancelled": False,
        "chunks_total": 1,
        "chunks_done": 1,
        "chunks_cached": 0,
        "error": None,
        "revision": 1,
        "generation": 2,
        "unchanged": False,
        "created_at_s": 1.0,
        "updated_at_s": 2.0,
        "ended_at_s": 2.0,
    }
    return Job(**{**defaults, **fields})


def change(claim: Claim, **fields: Any) -> Change:
    """What a claim was for, staged."""
    if claim.purpose is Purpose.DELETE:
        return Change(claim=claim, document=None)
    created_at_s = claim.live.created_at_s if claim.live else 0.0
    record = document_record(claim.document, revision=claim.revision, attempt=claim.attempt, created_at_s=created_at_s)
    return Change(claim=claim, document=replace(record, **fields))


async def published(journal: Journal, *names: DocumentName, purpose: Purpose = Purpose.WRITE) -> Publish:
    """One publish of new revisions of these documents, or of their removal, from the claims to the flip."""
    changes = [change(await journal.claim(name, purpose)) for name in names]
    publish = await journal.begin_publish(names[0].parent, changes)
    await journal.finish_publish(publish)
    return publish


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
    """A vector store in memory, with the real one's conditions."""

    def __init__(self) -> None:
        self.points: dict[str, PassagePoint] = {}
        self.spans: dict[str, dict[str, int]] = {}

    async def check_version(self) -> None:
        """Always new enough."""

    async def open_to_everyone(self, _name: str) -> None:
        """Everything that is stored names its readers."""

    async def upsert(self, _name: str, points: Sequence[PassagePoint]) -> None:
        """Store by id."""
        self.points |= {point.id: point for point in points}
        self.spans |= {point.id: {"gen_from": GENERATION_NEVER, "gen_to": GENERATION_NEVER} for point in points}

    async def stamp(self, _name: str, publish: Publish) -> None:
        """As the real one."""
        for field, documents in (("gen_from", publish.staged), ("gen_to", publish.retired)):
            attempts = {document.attempt for document in documents}
            for key, point in self.points.items():
                if point.attempt in attempts and self.spans[key][field] == GENERATION_NEVER:
                    self.spans[key][field] = publish.generation

    async def vectors_of(self, _name: str, document: Document) -> AsyncGenerator[StoredVectors]:
        """As the real one."""
        for point in self.points.values():
            if point.attempt == document.attempt:
                yield StoredVectors(title=point.title, text=point.text, dense=point.dense, sparse=point.sparse)

    async def delete_staged(self, _name: str, claim: Claim) -> None:
        """As the real one."""
        self._keep(lambda key, point: point.attempt != claim.attempt or self.spans[key]["gen_from"] != GENERATION_NEVER)

    async def delete_document(self, _name: str, document: DocumentName) -> None:
        """As the real one."""
        self._keep(lambda _, point: point.document != document)

    async def delete_below(self, _name: str, collection: CollectionName, floor: int) -> None:
        """As the real one."""
        self._keep(lambda key, point: point.document.parent != collection or self.spans[key]["gen_to"] > floor)

    async def delete_collection(self, _name: str, collection: CollectionName) -> None:
        """As the real one."""
        self._keep(lambda _, point: point.document.parent != collection)

    def seen(self, generation: int) -> set[tuple[str, int]]:
        """Which revisions of which documents have passages that a reader sees."""
        return {
            (point.document.document, point.revision)
            for key, point in self.points.items()
            if self.spans[key]["gen_from"] <= generation < self.spans[key]["gen_to"]
        }

    def revisions(self) -> set[tuple[str, int]]:
        """Which revisions of which documents have passages, seen or not."""
        return {(point.document.document, point.revision) for point in self.points.values()}

    def _keep(self, condition: Any) -> None:
        self.points = {key: point for key, point in self.points.items() if condition(key, point)}


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
