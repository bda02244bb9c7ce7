from typing import Any

import pytest
from google.protobuf.struct_pb2 import Struct
from hypothesis import given
from hypothesis import strategies as st
from unit.gateway.fakes import COLLECTION

from gannet.gateway.v1.documents_pb2 import (
    DocumentContent,
    DocumentEnd,
    DocumentStart,
    UploadDocumentsRequest,
    UploadHeader,
)
from gannet_gateway.documents import wire
from gannet_gateway.documents.upload import End, Start
from gannet_gateway.parsing.parser import Held
from gannet_service.errors import InvalidInput

VALUES = (
    st.text(max_size=9)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.booleans()
    | st.lists(st.text(max_size=5))
)


def struct(**fields: Any) -> Struct:
    """Metadata as it arrives."""
    message = Struct()
    message.update(fields)
    return message


@given(st.dictionaries(st.text(max_size=9), VALUES, max_size=9))
def test_metadata_there_and_back_is_unchanged(metadata: dict[str, Any]):
    """Every type that is allowed."""
    assert wire.to_metadata(wire.to_struct(metadata)) == metadata


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), None, {"a": 1}, [1], [["a"]], [None]])
def test_metadata_of_another_type_is_refused_by_name(value: Any):
    """The key is in the field's path."""
    with pytest.raises(InvalidInput) as caught:
        wire.to_metadata(struct(fine="x", bad=value))
    assert caught.value.field == "metadata.bad"
    assert caught.value.message == "metadata.bad: must be a string, a finite number, a boolean or a list of strings"


def test_metadata_over_its_limits_is_refused():
    """64 entries and 16 KiB pass; more does not, and the limit is named."""
    assert len(wire.to_metadata(struct(**{f"k{place}": "v" for place in range(64)}))) == 64
    with pytest.raises(InvalidInput, match="metadata: 65 entries; the limit is 64"):
        wire.to_metadata(struct(**{f"k{place}": "v" for place in range(65)}))
    with pytest.raises(InvalidInput, match="bytes; the limit is 16384"):
        wire.to_metadata(struct(k="x" * 16_384))


def test_start_makes_an_upload_of_its_content():
    """White space in the title is folded; the type defaults to plain text."""
    message = UploadDocumentsRequest(start=DocumentStart(document_id="a/b.md", title=" A\n  b ", create_only=True))
    start = wire.to_message(message, COLLECTION)
    assert isinstance(start, Start)
    upload = start.make(Held(b"x"))
    assert (str(upload.name), upload.title, upload.mime_type, upload.create_only, upload.content) == (
        "tenants/acme/collections/docs/documents/a/b.md",
        "A b",
        "text/plain",
        True,
        Held(b"x"),
    )


@pytest.mark.parametrize(
    "start, field",
    [
        ({"document_id": ""}, "document_id"),
        ({"document_id": "a", "title": "é" * 513}, "title"),
        ({"document_id": "a", "mime_type": "image/png"}, "mime_type"),
        ({"document_id": "a", "metadata": struct(k=float("nan"))}, "metadata.k"),
    ],
)
def test_start_with_a_bad_field_is_refused_when_its_content_is_there(start: dict[str, Any], field: str):
    """So that the refusal is this document's acknowledgement and not the end of the stream."""
    message = wire.to_message(UploadDocumentsRequest(start=DocumentStart(**start)), COLLECTION)
    assert isinstance(message, Start)
    with pytest.raises(InvalidInput) as caught:
        message.make(Held(b"x"))
    assert caught.value.field == field


def test_messages_of_a_stream_are_told_apart():
    """Content and end as they are; a second header, an empty message and half a digest are refused."""
    assert wire.to_message(UploadDocumentsRequest(content=DocumentContent(data=b"x")), COLLECTION) == b"x"
    assert wire.to_message(UploadDocumentsRequest(end=DocumentEnd(sha256=b"")), COLLECTION) == End(sha256=b"")
    for message, field in (
        (UploadDocumentsRequest(header=UploadHeader(parent="p")), "header"),
        (UploadDocumentsRequest(), "message"),
        (UploadDocumentsRequest(end=DocumentEnd(sha256=b"short")), "end.sha256"),
    ):
        with pytest.raises(InvalidInput) as caught:
            wire.to_message(message, COLLECTION)
        assert caught.value.field == field
