"""A document's text cut into passages, each with its vectors. What has not changed since the last revision is not embedded again."""

import hashlib
from collections.abc import Mapping, Sequence

from gannet_gateway.clients import Embedder, TextVectors
from gannet_gateway.documents.chunking import Chunk, chunk
from gannet_gateway.documents.embedding import PassageEmbedder
from gannet_gateway.ledger.job import JobState, Progress
from gannet_gateway.ledger.records import Claim, Collection, MetadataValue
from gannet_gateway.threads import for_length
from gannet_gateway.vectors.index import Index
from gannet_gateway.vectors.points import PassagePoint, qdrant_collection
from gannet_service.errors import DependencyUnavailable

SPLITS_MAX = 6
# BM25 terms per character of English and Croatian text, stop words left out, times how full chunks are on average.
TERMS_PER_CHUNK_CHARACTER = 1 / 14

Known = Mapping[bytes, TextVectors]


class Passages:
    """Makes the passages of one revision. `timeout_s` bounds each request to the embedder."""

    def __init__(self, embedder: Embedder, index: Index, *, timeout_s: float) -> None:
        self._embedder = embedder
        self._index = index
        self._together = PassageEmbedder(embedder, timeout_s=timeout_s)

    async def make(
        self,
        collection: Collection,
        claim: Claim,
        text: str,
        *,
        title: str,
        metadata: Mapping[str, MetadataValue],
        readers: tuple[str, ...],
        progress: Progress,
    ) -> list[PassagePoint]:
        """Cut and embed `text`; a passage that the model would not read to its end is cut further. `progress` is written to.

        Raises:
            DependencyUnavailable: the embedder does not answer, or serves another model than the collection's.
            GannetError: what else the embedder says.
        """
        model = await self._embedder.model()
        if model.digest != collection.embedding_model_digest:
            raise DependencyUnavailable(
                f"{collection.name} needs embedding model {collection.embedding_model} ({collection.embedding_model_digest[:12]}); "
                f"the embedder serves {model.model} ({model.digest[:12]})",
                reason="EMBEDDING_MODEL_NOT_SERVED",
            )
        chunks = await for_length(len(text), chunk, text, size=collection.chunk_size, overlap=collection.chunk_overlap)
        known = await self._known(collection, claim)
        progress.state, progress.chunks_total = JobState.EMBEDDING, len(chunks)
        pairs = await self._vectors(collection, title, chunks, known, progress, splits_left=SPLITS_MAX)
        progress.chunks_total = progress.chunks_done = len(pairs)
        return [
            PassagePoint(
                document=claim.document,
                revision=claim.revision,
                attempt=claim.attempt,
                ordinal=ordinal,
                text=piece.text,
                start_byte=piece.start_byte,
                end_byte=piece.end_byte,
                title=_passage_title(title, piece.heading),
                metadata=dict(metadata),
                readers=readers,
                dense=vectors.dense,
                sparse=vectors.sparse,
            )
            for ordinal, (piece, vectors) in enumerate(pairs)
        ]

    async def _known(self, collection: Collection, claim: Claim) -> Known:
        """The vectors of the revision that is replaced, by the text that they were made of."""
        if claim.live is None:
            return {}
        name = qdrant_collection(collection.embedding_model, collection.embedding_model_digest)
        return {
            _digest(_embedded(stored.title, stored.text)): TextVectors(
                # What was stored was read to its end, or could not be cut further.
                dense=stored.dense,
                sparse=stored.sparse,
                truncated=False,
            )
            async for stored in self._index.vectors_of(name, claim.live)
        }

    async def _vectors(
        self,
        collection: Collection,
        title: str,
        chunks: Sequence[Chunk],
        known: Known,
        progress: Progress,
        *,
        splits_left: int,
    ) -> list[tuple[Chunk, TextVectors]]:
        # The title goes in front of every passage: a passage from the middle of a document seldom names its subject.
        texts = [_embedded(_passage_title(title, piece.heading), piece.text) for piece in chunks]
        found = [known.get(_digest(text)) for text in texts]
        progress.chunks_cached += sum(vectors is not None for vectors in found)
        new = iter(
            await self._together.passages(
                [text for text, vectors in zip(texts, found, strict=True) if vectors is None],
                language=collection.language,
                average_length=max(1.0, collection.chunk_size * TERMS_PER_CHUNK_CHARACTER),
            )
        )
        pairs: list[tuple[Chunk, TextVectors]] = []
        for piece, reused in zip(chunks, found, strict=True):
            vectors = reused or next(new)
            smaller = _halves(piece) if vectors.truncated and splits_left else []
            if len(smaller) > 1:
                pairs += await self._vectors(collection, title, smaller, known, progress, splits_left=splits_left - 1)
            else:
                pairs.append((piece, vectors))
                progress.chunks_done += 1
        return pairs


def _embedded(title: str, text: str) -> str:
    return f"{title}\n{text}".lstrip()


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _passage_title(title: str, heading: str) -> str:
    return f"{title} › {heading}" if title and heading and heading != title else title or heading


def _halves(piece: Chunk) -> list[Chunk]:
    """A passage in two or more, their offsets in the document's text."""
    parts = chunk(piece.text, size=max(1, (len(piece.text) + 1) // 2), overlap=0)
    return [
        Chunk(
            text=part.text,
            start_byte=piece.start_byte + part.start_byte,
            end_byte=piece.start_byte + part.end_byte,
            heading=part.heading or piece.heading,
        )
        for part in parts
    ]
