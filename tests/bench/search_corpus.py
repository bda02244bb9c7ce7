"""100,000 passages to search in: real ones, embedded once by our embedder, each repeated with small seeded changes of its vectors.

Embedding 100,000 texts would take longer than everything that is measured. Repeating them keeps what a search costs: as many vectors
to compare, as many passages behind every word, as much text to send. What it does not keep is quality, which is measured elsewhere.
"""

import json
import random
from pathlib import Path
from typing import NamedTuple

import datasets
import numpy as np
import report
from numpy.typing import NDArray

from gannet_gateway.clients import Embedder, TextVectors
from gannet_gateway.ledger.records import Document, Publish
from gannet_gateway.names import CollectionName
from gannet_gateway.vectors.index import Index, connect
from gannet_gateway.vectors.points import FIRST_GENERATION, PassagePoint, Sparse

PASSAGES = 100_000
REAL_PASSAGES = 10_000
CHARACTERS_MAX = 600
AVERAGE_LENGTH = 90.0
JITTER = 0.02
HOME = report.ROOT / ".gannet" / "bench-search"
VECTORS = HOME / "corpus.npz"
TEXTS = HOME / "texts.json"
EMBED_TIMEOUT_S = 120.0
STORE_TIMEOUT_S = 60
PUT_AT_ONCE = 1000


class Corpus(NamedTuple):
    """Passage i: text `texts[i % len(texts)]`, unit vector `dense[i]`, BM25 terms from `starts[i]` to `starts[i + 1]`."""

    texts: list[str]
    dense: NDArray[np.float32]
    indices: NDArray[np.uint32]
    values: NDArray[np.float32]
    starts: NDArray[np.int64]


async def corpus(embedder_target: str) -> Corpus:
    """Read from disk, or made and written there first (two minutes)."""
    if not VECTORS.exists():
        texts = _texts()
        print(f"embedding {len(texts)} passages, once ...", flush=True)
        embedder = Embedder(embedder_target, timeout_s=EMBED_TIMEOUT_S)
        found = await embedder.passages(texts, language="en", average_length=AVERAGE_LENGTH, timeout_s=EMBED_TIMEOUT_S)
        await embedder.channel.close()
        _write(texts, found)
    with np.load(VECTORS) as stored:
        arrays = (stored["dense"], stored["indices"], stored["values"], stored["starts"])
    return Corpus(json.loads(TEXTS.read_text()), *arrays)


async def fill(qdrant_url: str, collection: CollectionName, qdrant_collection: str, stored: Corpus) -> None:
    """Put the passages where searches of `collection` at its first generation find them, by the gateway's own code for it."""
    client = connect(qdrant_url, None, STORE_TIMEOUT_S)
    index = Index(client, timeout_s=STORE_TIMEOUT_S, replication_factor=1)
    document = _document(collection)
    try:
        for at in range(0, PASSAGES, PUT_AT_ONCE):
            await index.upsert(
                qdrant_collection, [_point(stored, one, document) for one in range(at, at + PUT_AT_ONCE)]
            )
        publish = Publish(
            collection=collection, generation=FIRST_GENERATION, holder="bench", staged=(document,), retired=()
        )
        await index.stamp(qdrant_collection, publish)
    finally:
        await client.close()


def queries() -> list[str]:
    """Real questions and claims, none twice, their sources mixed in a fixed order."""
    sources = [datasets.load("scifact"), datasets.load("medquad", "train"), datasets.load("squad_nqg", "train")]
    texts = sorted({text.strip() for source in sources for text in source.queries.values()} - {""})
    random.Random(0).shuffle(texts)  # noqa: S311 - an order
    return texts


def _texts() -> list[str]:
    sources = (datasets.load("scifact"), datasets.load("medquad"))
    texts = (f"{title}\n{text}"[:CHARACTERS_MAX] for source in sources for title, text in source.corpus.values())
    return list(dict.fromkeys(text for text in texts if text.strip()))[:REAL_PASSAGES]


def _write(texts: list[str], found: list[TextVectors]) -> None:
    """Every real passage PASSAGES / REAL_PASSAGES times: noise on its embedding, up to a tenth on the weights of its terms."""
    draw = np.random.default_rng(0)
    copies = PASSAGES // len(texts)
    dense = np.tile(np.stack([one.dense for one in found]), (copies, 1))
    dense += draw.normal(0.0, JITTER, dense.shape).astype(np.float32)
    values = np.tile(np.concatenate([one.sparse.values for one in found]), copies)
    HOME.mkdir(parents=True, exist_ok=True)
    TEXTS.write_text(json.dumps(texts))
    with (unfinished := Path(f"{VECTORS}.tmp")).open("wb") as file:
        np.savez(
            file,
            dense=dense / np.linalg.norm(dense, axis=1, keepdims=True),
            indices=np.tile(np.concatenate([one.sparse.indices for one in found]), copies),
            values=values * draw.uniform(0.9, 1.1, len(values)).astype(np.float32),
            starts=np.concatenate([[0], np.cumsum([len(one.sparse.indices) for one in found] * copies)]),
        )
    unfinished.rename(VECTORS)


def _point(stored: Corpus, ordinal: int, document: Document) -> PassagePoint:
    text = stored.texts[ordinal % len(stored.texts)]
    terms = slice(stored.starts[ordinal], stored.starts[ordinal + 1])
    return PassagePoint(
        document=document.name,
        revision=document.revision,
        attempt=document.attempt,
        ordinal=ordinal,
        text=text,
        start_byte=0,
        end_byte=len(text.encode()),
        title="",
        metadata={"copy": float(ordinal // len(stored.texts))},
        dense=stored.dense[ordinal],
        sparse=Sparse(indices=stored.indices[terms], values=stored.values[terms]),
    )


def _document(collection: CollectionName) -> Document:
    return Document(
        name=collection.document("repeated"),
        revision=1,
        attempt="bench",
        title="",
        mime_type="text/plain",
        metadata={},
        text_bytes=0,
        chunk_count=PASSAGES,
        content_sha256="",
        fingerprint="",
        created_at_s=0.0,
        updated_at_s=0.0,
    )
