"""The one filter that every read goes through: tenant, collection, generation, readers, and what was asked for inside of that."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from qdrant_client import models

from gannet_gateway.names import CollectionName
from gannet_gateway.search.filter import And, Comparison, Filter, Not, Or, Present
from gannet_gateway.vectors.points import EVERYONE, Candidate

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]+")
_BOUNDS = {"<": "lt", "<=": "lte", ">": "gt", ">=": "gte"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What a search sees: one collection at one generation, in the Qdrant collection that holds its vectors.

    Of documents with readers it sees those that name one of the caller's `identities`.
    """

    collection: CollectionName
    generation: int
    qdrant_collection: str
    identities: tuple[str, ...] = ()


def visible(snapshot: Snapshot, narrowed: Filter | None = None) -> models.Filter:
    """This tenant, this collection, this generation, these readers; `narrowed` can only take away from that."""
    name, generation = snapshot.collection, snapshot.generation
    conditions: list[models.Condition] = [
        models.FieldCondition(key="tenant", match=models.MatchValue(value=name.tenant)),
        models.FieldCondition(key="collection", match=models.MatchValue(value=name.collection)),
        models.FieldCondition(key="gen_from", range=models.Range(lte=generation)),
        models.FieldCondition(key="gen_to", range=models.Range(gt=generation)),
        models.FieldCondition(key="readers", match=models.MatchAny(any=[EVERYONE, *snapshot.identities])),
    ]
    if narrowed is not None:
        conditions.append(_condition(narrowed))
    return models.Filter(must=conditions)


def around(snapshot: Snapshot, candidates: Sequence[Candidate], reach: int) -> models.Filter:
    """The visible passages of the candidates' revisions, at most `reach` places away from them."""
    ordinals: dict[tuple[str, int], set[int]] = {}
    for one in candidates:
        near = range(max(0, one.ordinal - reach), one.ordinal + reach + 1)
        ordinals.setdefault((one.document.document, one.revision), set()).update(near)
    documents: list[models.Condition] = [
        models.Filter(
            must=[
                models.FieldCondition(key="document", match=models.MatchValue(value=document)),
                models.FieldCondition(key="revision", match=models.MatchValue(value=revision)),
                models.FieldCondition(key="ordinal", match=models.MatchAny(any=sorted(near))),
            ]
        )
        for (document, revision), near in ordinals.items()
    ]
    return models.Filter(must=visible(snapshot).must, should=documents)


def passages(snapshot: Snapshot, document: str, first: int, last: int) -> models.Filter:
    """The visible passages of a document with these ordinals, both ends included."""
    conditions: list[models.Condition] = [
        models.FieldCondition(key="document", match=models.MatchValue(value=document)),
        models.FieldCondition(key="ordinal", range=models.Range(gte=first, lte=last)),
    ]
    return models.Filter(must=[visible(snapshot), *conditions])


def _condition(node: Filter) -> models.Condition:
    match node:
        case Comparison(key=key, operator=operator, value=value):
            return _comparison("document" if key is None else _path(key), operator, value)
        case Present(key=key):
            return models.Filter(must_not=[models.IsEmptyCondition(is_empty=models.PayloadField(key=_path(key)))])
        case Not(operand):
            return models.Filter(must_not=[_condition(operand)])
        case And(operands):
            return models.Filter(must=[_condition(operand) for operand in operands])
        case Or(operands):
            return models.Filter(should=[_condition(operand) for operand in operands])


def _comparison(path: str, operator: str, value: str | float | bool | datetime) -> models.Condition:  # noqa: FBT001 - a literal
    if isinstance(value, datetime):
        return models.FieldCondition(key=path, range=models.DatetimeRange(**{_BOUNDS[operator]: value}))
    if isinstance(value, str | bool):
        return models.FieldCondition(key=path, match=models.MatchValue(value=value))
    # Stored numbers are doubles, which Qdrant matches by range only.
    bounds = {"gte": value, "lte": value} if operator == "=" else {_BOUNDS[operator]: value}
    return models.FieldCondition(key=path, range=models.Range(**bounds))


def _path(key: str) -> str:
    return f"metadata.{key}" if _PLAIN_KEY.fullmatch(key) else f'metadata."{key}"'
