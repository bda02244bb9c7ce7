from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct, Value
from hypothesis import given
from hypothesis import strategies as st

from gannet.gateway.v1.documents_pb2 import UploadDocumentsRequest
from gannet.gateway.v1.search_pb2 import SearchRequest
from gannet_service.decode import Undecodable, guarded

MARK = "<<here>>"
NOT_UTF8 = b"\xff" * len(MARK)
DEPTH_MAX = 12


def decoder(kind: type[Message]) -> Any:
    """What the interceptor puts in the place of `kind.FromString`."""

    async def unused(_request: Any, _context: Any) -> None: ...

    return guarded(grpc.unary_unary_rpc_method_handler(unused, request_deserializer=kind.FromString))


@st.composite
def marked_messages(draw: st.DrawFn) -> tuple[Message, str]:
    """A message with noise in it and MARK in one string field, and that field's path."""
    message = draw(st.sampled_from([SearchRequest, UploadDocumentsRequest, Struct]))()
    return message, ".".join(_mark(draw, message, DEPTH_MAX))


def _mark(draw: st.DrawFn, message: Message, depth: int) -> list[str]:
    _add_noise(draw, message)
    fields = [field for field in message.DESCRIPTOR.fields if _holds_text(field, set())]
    texts = [field for field in fields if field.type == FieldDescriptor.TYPE_STRING]
    field = draw(st.sampled_from(texts if texts and depth <= 0 else fields))
    if field.type == FieldDescriptor.TYPE_STRING:
        if field.is_repeated:
            getattr(message, field.name).append(MARK)
        else:
            setattr(message, field.name, MARK)
        return [field.name]
    if field.message_type.GetOptions().map_entry:
        entries = getattr(message, field.name)
        if depth <= 0 or draw(st.booleans()):
            entries[MARK].number_value = 1
            return [field.name, "key"]
        return [field.name, "value", *_mark(draw, entries["noise"], depth - 1)]
    child = getattr(message, field.name)
    child = child.add() if field.is_repeated else child
    child.SetInParent()
    return [field.name, *_mark(draw, child, depth - 1)]


def _add_noise(draw: st.DrawFn, message: Message) -> None:
    for field in message.DESCRIPTOR.fields:
        if field.is_repeated or field.containing_oneof is not None or not draw(st.booleans()):
            continue
        if field.type == FieldDescriptor.TYPE_STRING:
            setattr(message, field.name, draw(st.text("aé€😀", max_size=9)))
        elif field.type == FieldDescriptor.TYPE_BYTES:
            setattr(message, field.name, draw(st.binary(max_size=9)))


def _holds_text(field: FieldDescriptor, seen: set[Descriptor]) -> bool:
    if field.type == FieldDescriptor.TYPE_STRING:
        return True
    inner = field.message_type
    if inner is None or inner.full_name in seen:
        return False
    return any(_holds_text(below, seen | {inner.full_name}) for below in inner.fields)


@given(marked_messages())
def test_decode_of_one_corrupt_string_names_its_path(marked: tuple[Message, str]):
    """Wherever the one bad string is, it is the one that is named."""
    message, path = marked
    data = message.SerializeToString().replace(MARK.encode(), NOT_UTF8)
    assert decoder(type(message))(data) == Undecodable(field=path, message=f"{path}: not valid UTF-8")


@given(marked_messages())
def test_decode_of_a_valid_message_returns_it(marked: tuple[Message, str]):
    """The guard changes nothing that is right."""
    message, _ = marked
    assert decoder(type(message))(message.SerializeToString()) == message


@given(st.binary(max_size=60), st.sampled_from([SearchRequest, UploadDocumentsRequest, Struct]))
def test_decode_of_random_bytes_never_raises(data: bytes, kind: type[Message]):
    """It is a message or a complaint."""
    assert isinstance(decoder(kind)(data), kind | Undecodable)


@given(marked_messages(), st.data())
def test_decode_of_a_cut_message_never_raises(marked: tuple[Message, str], data: st.DataObject):
    """Nor for a message whose end is missing."""
    encoded = marked[0].SerializeToString().replace(MARK.encode(), NOT_UTF8)
    cut = encoded[: data.draw(st.integers(0, len(encoded)))]
    assert isinstance(decoder(type(marked[0]))(cut), type(marked[0]) | Undecodable)


@pytest.mark.parametrize("depth", [150, 30_000])
def test_decode_of_deep_nesting_returns_a_complaint(depth: int):
    """Deeper than protobuf reads: refused, and the search for a bad string does not follow it to the bottom."""
    data = b""
    prefixes = []
    size = 0
    for _ in range(depth):  # Value.list_value = 6, ListValue.values = 1
        inner = b"\x0a" + _varint(size)
        size += len(inner)
        outer = b"\x32" + _varint(size)
        size += len(outer)
        prefixes += [inner, outer]
    data = b"".join(reversed(prefixes))
    assert decoder(Value)(data) == Undecodable(field="", message="the request is not a valid protobuf message")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
