"""Cache keys: what a value depends on, in a few bytes. Two different lists of parts never share a key."""

import hashlib
import struct
import time
import unicodedata
from collections.abc import Callable

from gannet_gateway.ledger.records import Collection
from gannet_gateway.search.query import Query

KEY_BYTES = 16

Part = str | bytes | int | float | None


def cache_key(kind: str, *parts: Part) -> bytes:
    """`kind` and the BLAKE2b-128 digest of `parts`, each with its type and length in front.

    `kind` names the computation and the format of its value: change it with either.
    """
    digest = hashlib.blake2b(digest_size=KEY_BYTES)
    for part in parts:
        tag, data = _encoded(part)
        digest.update(struct.pack("<cI", tag, len(data)))
        digest.update(data)
    return kind.encode() + b":" + digest.digest()


def normalised(text: str) -> str:
    """NFC without white space at the ends: spellings of one text that no reader tells apart."""
    return unicodedata.normalize("NFC", text).strip()


def cache_window(collection: Collection, clock: Callable[[], float] = time.time) -> int | None:
    """The number of the present one of the windows, each cache_ttl long, that replies of a collection are cached in.

    A reply is asked for again only in the window that it was made in, so it is never older than cache_ttl, on average half of it. Windows
    begin at the collection's creation, so that those of many collections do not end at once.
    """
    ttl_s = collection.cache_ttl_s
    return None if ttl_s is None else int((clock() - collection.created_at_s) // ttl_s)


def result_key(collection: Collection, query: Query, *models: str, window: int | None = None) -> bytes:
    """The key of a search's reply: everything that the reply depends on; `window` is `cache_window` of now.

    The generation makes a stale hit impossible: a publish changes it, and what was stored before is never asked for again. The query is
    taken by its `repr`, which names and quotes every field, so that a new option cannot be left out. `models` are the digests of the
    models beyond the collection's own.
    """
    return cache_key(
        "result1",
        collection.name.tenant,
        collection.name.collection,
        collection.created_at_s,  # a collection that was deleted and made again starts over at the same generation
        collection.cache_epoch,
        collection.generation,
        collection.language,
        collection.embedding_model,
        collection.embedding_model_digest,
        repr(query),
        window,
        *models,
    )


def _encoded(part: Part) -> tuple[bytes, bytes]:
    match part:
        case None:
            return b"n", b""
        case str():
            return b"s", part.encode()
        case bytes():
            return b"b", part
        case int():
            return b"i", str(part).encode()
        case float():
            return b"f", struct.pack("<d", part)
