"""Qdrant's protobuf filters as Edge filters. What is not listed here is refused by name, never ignored."""

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

import numpy as np
from qdrant_client import grpc
from qdrant_edge import (
    FieldCondition,
    Filter,
    HasIdCondition,
    IsEmptyCondition,
    IsNullCondition,
    MatchAny,
    MatchExcept,
    MatchValue,
    MinShould,
    RangeDateTime,
    RangeFloat,
)

from gannet_edge import validate
from gannet_edge.points import point_id
from gannet_edge.validate import Limits
from gannet_service.errors import InvalidInput, Unimplemented

if TYPE_CHECKING:
    from qdrant_edge import ConditionType  # in the stubs only

Condition = FieldCondition | IsEmptyCondition | IsNullCondition | HasIdCondition | Filter
Match = MatchValue | MatchAny | MatchExcept

DEPTH_MAX = 8


def to_filter(message: grpc.Filter, limits: Limits, field: str = "filter") -> Filter:
    """Convert `message`.

    Raises:
        InvalidInput: too many conditions, nested too deep, or a key, id or bound that is malformed.
        Unimplemented: a kind of condition that the embedded Qdrant does not serve.
    """
    validate.size(field, _count(message, 1, field), limits.conditions)
    try:
        return _filter(message, limits, field)
    except (ValueError, TypeError) as error:  # Edge's constructors parse the keys
        raise InvalidInput(f"{field}: {error}", field=field) from error


def _count(message: grpc.Filter, depth: int, field: str) -> int:
    if depth > DEPTH_MAX:
        raise InvalidInput(f"{field}: nested more than {DEPTH_MAX} deep", field=field)
    conditions = (*message.must, *message.should, *message.must_not, *message.min_should.conditions)
    nested = (condition.filter for condition in conditions if condition.HasField("filter"))
    return len(conditions) + sum(_count(inner, depth + 1, field) for inner in nested)


def _filter(message: grpc.Filter, limits: Limits, field: str) -> Filter:
    def convert(conditions: Iterable[grpc.Condition], kind: str) -> "list[ConditionType]":
        return [_condition(condition, limits, f"{field}.{kind}[{at}]") for at, condition in enumerate(conditions)]

    min_should = None
    if message.HasField("min_should"):
        min_should = MinShould(
            conditions=convert(message.min_should.conditions, "min_should"), min_count=message.min_should.min_count
        )
    return Filter(
        must=convert(message.must, "must"),
        should=convert(message.should, "should"),
        must_not=convert(message.must_not, "must_not"),
        min_should=min_should,
    )


def _condition(message: grpc.Condition, limits: Limits, field: str) -> Condition:
    match message.WhichOneof("condition_one_of"):
        case "field":
            return _field_condition(message.field, limits, field)
        case "is_empty":
            return IsEmptyCondition(key=message.is_empty.key)
        case "is_null":
            return IsNullCondition(key=message.is_null.key)
        case "has_id":
            validate.size(field, len(message.has_id.has_id), limits.ids)
            return HasIdCondition(point_ids={point_id(one, field) for one in message.has_id.has_id})
        case "filter":
            return _filter(message.filter, limits, field)
        case None:
            raise InvalidInput(f"{field}: the condition is empty", field=field)
        case other:
            raise Unimplemented(f"{field}: the embedded Qdrant has no {other!r} condition")


def _field_condition(message: grpc.FieldCondition, limits: Limits, field: str) -> FieldCondition:
    match [descriptor.name for descriptor, _ in message.ListFields() if descriptor.name != "key"]:
        case ["match"]:
            return FieldCondition(key=message.key, match=_match(message.match, limits, field))
        case ["range"]:
            bounds = {descriptor.name: float(value) for descriptor, value in message.range.ListFields()}
            if not all(math.isfinite(bound) for bound in bounds.values()):
                raise InvalidInput(f"{field}: bounds must be finite", field=field)
            return FieldCondition(key=message.key, range=RangeFloat(**bounds))
        case ["datetime_range"]:
            times = {descriptor.name: value.ToJsonString() for descriptor, value in message.datetime_range.ListFields()}
            return FieldCondition(key=message.key, range=RangeDateTime(**times))
        case ["is_empty"]:
            return FieldCondition(key=message.key, is_empty=message.is_empty)
        case ["is_null"]:
            return FieldCondition(key=message.key, is_null=message.is_null)
        case []:
            raise InvalidInput(f"{field}: the condition on {message.key[:64]!r} is empty", field=field)
        case others:
            raise Unimplemented(f"{field}: the embedded Qdrant has no condition on {' and '.join(others)}")


def _match(message: grpc.Match, limits: Limits, field: str) -> Match:
    match message.WhichOneof("match_value"):
        case "boolean":
            # qdrant-edge-py 0.9.0 reads Python's True as the integer 1, which no stored boolean equals, and NumPy's as a boolean.
            return MatchValue(value=cast("bool", np.bool_(message.boolean)))
        case "keyword" | "integer" as kind:
            return MatchValue(value=getattr(message, kind))
        case "keywords" | "except_keywords" as kind:
            strings = list(getattr(message, kind).strings)
            validate.size(field, len(strings), limits.ids)
            return MatchAny(any=strings) if kind == "keywords" else MatchExcept(strings)
        case "integers" | "except_integers" as kind:
            integers = list(getattr(message, kind).integers)
            validate.size(field, len(integers), limits.ids)
            return MatchAny(any=integers) if kind == "integers" else MatchExcept(integers)
        case None:
            raise InvalidInput(f"{field}: the match is empty", field=field)
        case other:
            raise Unimplemented(f"{field}: the embedded Qdrant has no {other!r} match")
