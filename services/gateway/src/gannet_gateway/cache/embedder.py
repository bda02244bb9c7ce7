"""The embedder with a cache in front of it: same methods, same values."""

import struct
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gannet_gateway.batching import DEFAULT, Batcher, Batching
from gannet_gateway.cache.keys import cache_key, normalised
from gannet_gateway.cache.tiers import Cached, Computed, Tier, TieredCache
from gannet_gateway.clients import Embedder, QueryVectors, TextVectors
from gannet_gateway.vectors.points import Sparse
from gannet_service import call
from gannet_service.errors import GannetError

# Lengths of the dense and the sparse vector (-1: none), and whether the text was cut; then dense f32, indices u32, values f32.
_HEADER = struct.Struct("<ii?")


class _Kind(NamedTuple):
    """What queries in one request have in common."""

    language: str
    dense: bool
    sparse: bool


class CachedEmbedder(Embedder):
    """Queries' vectors are kept in memory and in Redis, passages' in Redis alone: a large upload would empty the memory."""

    def __init__(self, target: str, cache: TieredCache, *, timeout_s: float, batching: Batching = DEFAULT) -> None:
        super().__init__(target, timeout_s=timeout_s)
        self._cache = cache
        self._batches: Batcher[_Kind, str, QueryVectors] = Batcher(self._computed, batching)

    async def query(self, text: str, *, language: str, dense: bool, sparse: bool) -> QueryVectors:
        """See Embedder. The arrays are read-only."""
        text = normalised(text)
        digest = (await self.model()).digest
        key = _query_key(digest, text, language=language, dense=dense, sparse=sparse)

        async def compute() -> Computed:
            kind = _Kind(language, dense, sparse)
            if call.trace_id():
                # A span of its own, under its caller's.
                (found,) = await self._computed(kind, [text])
                if isinstance(found, GannetError):
                    raise found
            else:
                found = await self._batches.ask(kind, text)
            return Computed(value=packed(found.dense, found.sparse))

        return _query_vectors(await self._cache.get_or_compute(key, compute))

    async def queries(
        self, texts: Sequence[str], *, language: str, dense: bool, sparse: bool
    ) -> list[QueryVectors | GannetError]:
        """See Embedder; only texts that no tier knows are sent, each once."""
        digest = (await self.model()).digest
        keyed = {
            _query_key(digest, text, language=language, dense=dense, sparse=sparse): text
            for text in map(normalised, texts)
        }
        vectors: dict[str, QueryVectors | GannetError] = {}
        missing: dict[bytes, str] = {}
        for (key, text), cached in zip(keyed.items(), await self._cache.find(list(keyed)), strict=True):
            if cached is None:
                missing[key] = text
            else:
                vectors[text] = _query_vectors(cached)
        if missing:
            fresh = await super().queries(list(missing.values()), language=language, dense=dense, sparse=sparse)
            computed: dict[bytes, bytes] = {}
            for (key, text), one in zip(missing.items(), fresh, strict=True):
                if isinstance(one, GannetError):
                    vectors[text] = one
                else:
                    computed[key] = packed(one.dense, one.sparse)
                    vectors[text] = _query_vectors(Cached(computed[key], Tier.COMPUTED))
            await self._cache.keep(computed)
        return [vectors[normalised(text)] for text in texts]

    async def _computed(self, kind: "_Kind", texts: list[str]) -> list[QueryVectors | GannetError]:
        return await super().queries(texts, language=kind.language, dense=kind.dense, sparse=kind.sparse)

    async def passages(
        self, texts: Sequence[str], *, language: str, average_length: float, timeout_s: float
    ) -> list[TextVectors | GannetError]:
        """See Embedder; only texts that Redis does not know are sent, each once. What is wrong with a text is not kept."""
        digest = (await self.model()).digest
        keys = [cache_key("passage1", digest, language, average_length, text) for text in texts]
        made: dict[bytes, TextVectors | GannetError] = {
            key: _text_vectors(value)
            for key, value in zip(keys, await self._cache.get_many(keys), strict=True)
            if value is not None
        }
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in made}
        if missing:
            fresh = await super().passages(
                list(missing.values()), language=language, average_length=average_length, timeout_s=timeout_s
            )
            values: dict[bytes, bytes] = {}
            for key, vectors in zip(missing, fresh, strict=True):
                made[key] = vectors
                if not isinstance(vectors, GannetError):
                    values[key] = packed(vectors.dense, vectors.sparse, truncated=vectors.truncated)
            await self._cache.put_many(values)
        return [made[key] for key in keys]


def packed(dense: NDArray[np.float32] | None, sparse: Sparse | None, *, truncated: bool = False) -> bytes:
    """Vectors as bytes."""
    header = _HEADER.pack(-1 if dense is None else len(dense), -1 if sparse is None else len(sparse.indices), truncated)
    parts = [header]
    if dense is not None:
        parts.append(dense.astype("<f4", copy=False).tobytes())
    if sparse is not None:
        parts += [sparse.indices.astype("<u4", copy=False).tobytes(), sparse.values.astype("<f4", copy=False).tobytes()]
    return b"".join(parts)


def unpacked(data: bytes) -> tuple[NDArray[np.float32] | None, Sparse | None, bool]:
    """What `packed` was given; the arrays are views of `data`."""
    dim, terms, truncated = _HEADER.unpack_from(data)
    at = _HEADER.size
    dense = sparse = None
    if dim >= 0:
        dense = np.frombuffer(data, "<f4", dim, at)
        at += 4 * dim
    if terms >= 0:
        indices = np.frombuffer(data, "<u4", terms, at)
        sparse = Sparse(indices=indices, values=np.frombuffer(data, "<f4", terms, at + 4 * terms))
    return dense, sparse, truncated


def _query_key(digest: str, text: str, *, language: str, dense: bool, sparse: bool) -> bytes:
    return cache_key("query1", digest, language, dense, sparse, text)


def _query_vectors(cached: Cached) -> QueryVectors:
    dense, sparse, _ = unpacked(cached.value)
    return QueryVectors(dense=dense, sparse=sparse, tier=cached.tier)


def _text_vectors(data: bytes) -> TextVectors:
    dense, sparse, truncated = unpacked(data)
    assert dense is not None  # noqa: S101 - `passages` always packs both
    assert sparse is not None  # noqa: S101
    return TextVectors(dense=dense, sparse=sparse, truncated=truncated)
