"""Says which field of an undecodable request is wrong; without this gRPC answers INTERNAL and leaves the caller guessing."""

from __future__ import annotations  # grpc's classes are generic in their stubs only

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message

# Protobuf reads no deeper; neither does the search for a bad string, or a hostile request would exhaust the stack.
DEPTH_MAX = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Undecodable:
    """Stands in for a request that is not a valid message; `field` is a dotted path, or empty where the framing is broken."""

    field: str
    message: str


def guarded(handler: grpc.RpcMethodHandler[Any, Any]) -> Callable[[bytes], Any] | None:
    """The handler's deserializer, made to return Undecodable instead of raising."""
    deserialize: Callable[[bytes], Any] | None = handler.request_deserializer
    if deserialize is None:
        return None
    owner = getattr(deserialize, "__self__", None)
    descriptor: Descriptor | None = getattr(owner, "DESCRIPTOR", None)

    def decode(data: bytes) -> Message | Undecodable:
        try:
            return deserialize(data)
        except DecodeError:
            field = _invalid_text(data, descriptor, DEPTH_MAX) if descriptor is not None else None
            if field is None:
                return Undecodable(field="", message="the request is not a valid protobuf message")
            return Undecodable(field=field, message=f"{field}: not valid UTF-8")

    return decode


def _invalid_text(data: bytes, descriptor: Descriptor, depth_left: int) -> str | None:
    """The path of the first string field that is not UTF-8, or None where the framing itself is broken."""
    at = 0
    try:
        while at < len(data):
            tag, at = _varint(data, at)
            field = descriptor.fields_by_number.get(tag >> 3)
            match tag & 7:
                case 0:
                    _, at = _varint(data, at)
                case 1:
                    at += 8
                case 5:
                    at += 4
                case 2:
                    length, at = _varint(data, at)
                    if at + length > len(data):
                        return None
                    found = _invalid_in(data[at : at + length], field, depth_left)
                    if found is not None:
                        return found
                    at += length
                case _:
                    return None
    except IndexError:
        return None
    return None


def _invalid_in(value: bytes, field: FieldDescriptor | None, depth_left: int) -> str | None:
    if field is None or depth_left == 0:
        return None
    if field.type == FieldDescriptor.TYPE_MESSAGE and field.message_type is not None:
        inner = _invalid_text(value, field.message_type, depth_left - 1)
        return None if inner is None else f"{field.name}.{inner}"
    if field.type == FieldDescriptor.TYPE_STRING:
        try:
            value.decode("utf-8")
        except UnicodeDecodeError:
            return field.name
    return None


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise IndexError("varint too long")
