"""The embedder with a cache in front of it: same methods, same values."""

import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gannet_gateway.cache.keys import cache_key, normalised
from gannet_gateway.cache.tiers import Computed, TieredCache
from gannet_gateway.clients import Embedder, QueryVectors, TextVectors
from gannet_gateway.vectors.points import Sparse

# Lengths of the dense and the sparse vector (-1: none), and whether the text was cut; then dense f32, indices u32, values f32.
_HEADER = struct.Struct("<ii?")


class CachedEmbedder(Embedder):
    """Queries' vectors are kept in memory and in Redis, passages' in Redis alone: a large upload would empty the memory."""

    def __init__(self, target: str, cache: TieredCache, *, timeout_s: float) -> None:
        super().__init__(target, timeout_s=timeout_s)
        self._cache = cache

    async def query(self, text: str, *, language: str, dense: bool, sparse: bool) -> QueryVectors:
        """See Embedder. The arrays are read-only."""
        text = normalised(text)
        digest = (await self.model()).digest
        key = cache_key("query1", digest, language, dense, sparse, text)

        async def compute() -> Computed:
            found = await Embedder.query(self, text, language=language, dense=dense, sparse=sparse)
            return Computed(value=packed(found.dense, found.sparse))

        cached = await self._cache.get_or_compute(key, compute)
        dense_vector, sparse_vector, _ = unpacked(cached.value)
        return QueryVectors(dense=dense_vector, sparse=sparse_vector, tier=cached.tier)

    async def passages(
        self, texts: Sequence[str], *, language: str, average_length: float, timeout_s: float
    ) -> list[TextVectors]:
        """See Embedder; only texts that Redis does not know are sent, each once."""
        digest = (await self.model()).digest
        keys = [cache_key("passage1", digest, language, average_length, text) for text in texts]
        known = {
            key: value for key, value in zip(keys, await self._cache.get_many(keys), strict=True) if value is not None
        }
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        if missing:
            fresh = await super().passages(
                list(missing.values()), language=language, average_length=average_length, timeout_s=timeout_s
            )
            values = {
                key: packed(vectors.dense, vectors.sparse, truncated=vectors.truncated)
                for key, vectors in zip(missing, fresh, strict=True)
            }
            await self._cache.put_many(values)
            known |= values
        return [_text_vectors(known[key]) for key in keys]


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


def _text_vectors(data: bytes) -> TextVectors:
    dense, sparse, truncated = unpacked(data)
    assert dense is not None  # noqa: S101 - `passages` always packs both
    assert sparse is not None  # noqa: S101
    return TextVectors(dense=dense, sparse=sparse, truncated=truncated)
