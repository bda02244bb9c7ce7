"""The contract on the wire: stubs are fresh, changes are compatible, every field says what it is."""

import runpy
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest
from contract.source_tree import ROOT, STUBS
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet
from grpc_tools import protoc

GENERATOR = runpy.run_path(str(ROOT / "libs/protos/generate.py"))
RELEASED = Path(__file__).with_name("released.binpb")
# Field number of `DescriptorProto.field` and so on, as source locations spell paths.
FILE_MESSAGES, MESSAGE_FIELDS, MESSAGE_MESSAGES = 4, 2, 3


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stubs written anew from protos/."""
    out = tmp_path_factory.mktemp("stubs")
    GENERATOR["generate"](out)
    return out / "gannet"


def test_stubs_of_the_checkout_are_fresh(generated: Path):
    """`make protos` would change nothing."""
    assert _contents(STUBS / "gannet") == _contents(generated)


def test_descriptors_against_the_released_ones_are_compatible(generated: Path):
    """What a released client knows is still there under the same number, name, type and presence.

    A change that is meant to break needs a new version folder. A release copies descriptors.binpb to released.binpb.
    """
    before, now = _read(RELEASED), _read(generated / "descriptors.binpb")
    assert {**now, **before} == now


def test_compatibility_check_of_a_changed_field_fails():
    """The comparison sees a field that was removed, renumbered, retyped or renamed."""
    before = _read(RELEASED)
    name = "gannet.gateway.v1.SearchRequest.query"
    assert before[name][0] == 2
    for changed in ({}, {name: (9, *before[name][1:])}, {name: (2, 5, *before[name][2:])}):
        now = {key: value for key, value in before.items() if key != name} | changed
        assert {**now, **before} != now


def test_field_comments_open_with_the_name_of_the_field(tmp_path: Path):
    """Every field of every message is documented, beginning with its own name."""
    descriptors = tmp_path / "with-comments.binpb"
    files = sorted(str(path.relative_to(ROOT / "protos")) for path in (ROOT / "protos").rglob("*.proto"))
    longrunning = GENERATOR["longrunning"](tmp_path / "include")
    includes = (ROOT / "protos", resources.files("grpc_tools") / "_proto", GENERATOR["googleapis"](), longrunning)
    arguments = [*(f"--proto_path={path}" for path in includes), f"--descriptor_set_out={descriptors}"]
    assert protoc.main(["protoc", "--include_source_info", *arguments, *files]) == 0
    parsed = FileDescriptorSet.FromString(descriptors.read_bytes())
    assert [problem for file in parsed.file for problem in _undocumented(file)] == []


def _contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def _read(path: Path) -> dict[str, tuple[object, ...]]:
    """Everything that clients depend on, by full name."""
    facts: dict[str, tuple[object, ...]] = {}
    for file in FileDescriptorSet.FromString(path.read_bytes()).file:
        if not file.package.startswith("gannet."):
            continue
        for message, prefix in _messages(file.message_type, file.package):
            facts[f"{prefix}.{message.name}"] = ("message",)
            for field in message.field:
                facts[f"{prefix}.{message.name}.{field.name}"] = _facts(field)
        for enum in file.enum_type:
            facts |= {f"{file.package}.{enum.name}.{value.name}": (value.number,) for value in enum.value}
        for service in file.service:
            for method in service.method:
                kind = (method.input_type, method.output_type, method.client_streaming, method.server_streaming)
                facts[f"{file.package}.{service.name}.{method.name}"] = kind
    return facts


def _facts(field: FieldDescriptorProto) -> tuple[object, ...]:
    in_oneof = field.HasField("oneof_index")
    return (field.number, field.type, field.type_name, field.label, field.proto3_optional, in_oneof)


def _messages(messages: list[DescriptorProto], prefix: str) -> Iterator[tuple[DescriptorProto, str]]:
    for message in messages:
        yield message, prefix
        yield from _messages(message.nested_type, f"{prefix}.{message.name}")


def _undocumented(file: FileDescriptorProto) -> Iterator[str]:
    comments = {tuple(location.path): location.leading_comments for location in file.source_code_info.location}
    pending = [((FILE_MESSAGES, place), message) for place, message in enumerate(file.message_type)]
    while pending:
        path, message = pending.pop()
        for place, field in enumerate(message.field):
            words = comments.get((*path, MESSAGE_FIELDS, place), "").split()
            if not words or words[0].rstrip(",:") != field.name:
                yield f"{file.name}: {message.name}.{field.name}"
        pending += [((*path, MESSAGE_MESSAGES, place), inner) for place, inner in enumerate(message.nested_type)]
