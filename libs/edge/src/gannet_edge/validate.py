"""Checks that run before Qdrant Edge sees anything: what it refuses is in its write-ahead log already, and comes back at the next start.

A wrong dimension or an unknown vector name becomes an empty point after replay, a payload 500 levels deep makes the whole collection
unreadable, and a sparse vector with fewer values than indices panics at every later start (measured with qdrant-edge-py 0.9.0).
"""

import itertools
import math
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gannet_edge.schema import CollectionSchema
from gannet_service.errors import InvalidInput

# Names become folders. Qdrant allows more; nothing of ours needs it.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
# Edge computes squared norms in float32: 1e18 squared still fits, 3e38 silently became a zero vector.
NORM_MAX = 1e18
DIMENSION_MAX = 65_536

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The largest of everything, and the least free disk space; see `EdgeConfig` for the units."""

    collections: int = 64
    points: int = 1_000_000
    upsert_points: int = 1_000
    ids: int = 10_000
    payload_bytes: int = 256 << 10
    payload_depth: int = 16
    sparse_terms: int = 4_096
    results: int = 10_000
    prefetches: int = 8
    batch_queries: int = 64
    conditions: int = 256
    disk_free_bytes: int = 256 << 20


def collection_name(name: str) -> str:
    """`name`, if it can be a folder: 1 to 200 letters, digits, `_`, `-` and `.`, not starting with `-` or `.`."""
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            "collection_name: must be 1 to 200 letters, digits, '_', '-', '.' and start with a letter, a digit or '_'",
            field="collection_name",
        )
    return name


def size(field: str, actual: int, limit: int, *, least: int = 0) -> int:
    """`actual`, if `least <= actual <= limit`."""
    if not least <= actual <= limit:
        raise InvalidInput(f"{field}: {actual} is outside of {least} to {limit}", field=field)
    return actual


def point_uuid(text: str, field: str) -> str:
    """The canonical form of a UUID."""
    try:
        return str(uuid.UUID(text))
    except ValueError as error:
        raise InvalidInput(f"{field}: {text[:64]!r} is not a UUID", field=field) from error


def dense(values: Sequence[float], name: str, schema: CollectionSchema, field: str) -> None:
    """Check a dense vector: the name is known, the dimension fits, every value is finite, the norm at most 1e18."""
    expected = schema.dense.get(name)
    if expected is None:
        raise _unknown_vector(name, "dense", schema.dense, field)
    if len(values) != expected.size:
        raise InvalidInput(f"{field}: {len(values)} dimensions where {name!r} has {expected.size}", field=field)
    norm = math.hypot(*values)  # one pass in C, finite exactly if every value is
    if not norm <= NORM_MAX:
        raise InvalidInput(f"{field}: values must be finite and the norm at most {NORM_MAX:g}", field=field)


def sparse(
    indices: Sequence[int],
    values: Sequence[float],
    name: str,
    schema: CollectionSchema,
    *,
    limits: Limits,
    field: str,
) -> None:
    """Check a sparse vector: the name is known, as many values as indices, indices strictly ascending, values finite."""
    if name not in schema.sparse:
        raise _unknown_vector(name, "sparse", schema.sparse, field)
    if len(indices) != len(values):
        raise InvalidInput(f"{field}: {len(indices)} indices but {len(values)} values", field=field)
    size(field, len(indices), limits.sparse_terms)
    if any(left >= right for left, right in itertools.pairwise(indices)):
        raise InvalidInput(f"{field}: indices must be strictly ascending", field=field)
    if not math.hypot(*values) <= NORM_MAX:
        raise InvalidInput(f"{field}: values must be finite and the norm at most {NORM_MAX:g}", field=field)


def payload(value: dict[str, Json], size_bytes: int, limits: Limits, field: str) -> None:
    """Check a payload of `size_bytes` serialised: size, nesting, finite numbers."""
    if size_bytes > limits.payload_bytes:
        raise InvalidInput(f"{field}: {size_bytes} bytes, limit {limits.payload_bytes}", field=field)
    containers: list[Json] = [value]
    for _ in range(limits.payload_depth):
        children = [child for container in containers for child in _children(container)]
        if any(isinstance(child, float) and not math.isfinite(child) for child in children):
            raise InvalidInput(f"{field}: numbers must be finite", field=field)
        containers = [child for child in children if isinstance(child, dict | list)]
        if not containers:
            return
    raise InvalidInput(f"{field}: nested more than {limits.payload_depth} deep", field=field)


def _children(container: Json) -> list[Json]:
    if isinstance(container, dict):
        return list(container.values())
    return container if isinstance(container, list) else []


def _unknown_vector(name: str, kind: str, known: Mapping[str, object], field: str) -> InvalidInput:
    return InvalidInput(
        f"{field}: no {kind} vector is named {name[:64]!r}; known: {', '.join(sorted(known)) or 'none'}", field=field
    )
