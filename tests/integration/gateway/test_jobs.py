"""Accepted documents, their operations and their idempotency, over sockets; `kill -9` included."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf.duration_pb2 import Duration
from integration.conftest import StartService
from integration.gateway.conftest import KEY, Stack
from integration.gateway.stack import COLLECTION, Client, refusal

from gannet.gateway.v1 import documents_pb2, documents_pb2_grpc, jobs_pb2, jobs_pb2_grpc
from gannet_client import DocumentInput, GannetClient, JobState
from gannet_client import InvalidInput as SdkInvalidInput
from gannet_service import errors

TIMEOUT_S = 60
DOCUMENTS = 40

Request = documents_pb2.UploadDocumentsRequest


class Operations:
    """google.longrunning.Operations, ImportDocuments and RetryOperation of one client."""

    def __init__(self, client: Client) -> None:
        self._metadata = client.metadata
        self._operations = operations_pb2_grpc.OperationsStub(client.channel)
        self._documents = documents_pb2_grpc.DocumentServiceStub(client.channel)
        self._jobs = jobs_pb2_grpc.JobServiceStub(client.channel)

    async def call(self, method: str, **fields: Any) -> Any:
        """One method of Operations."""
        kind = "ListOperationsRequest" if method == "ListOperations" else f"{method}Request"
        request = getattr(operations_pb2, kind)(**fields)
        return await getattr(self._operations, method)(request, metadata=self._metadata, timeout=TIMEOUT_S)

    async def wait(self, name: str) -> Any:
        """The operation once it is done."""
        return await self.call("WaitOperation", name=name, timeout=Duration(seconds=50))

    async def import_(self, texts: dict[str, str], **fields: Any) -> Any:
        """ImportDocuments."""
        documents = [
            documents_pb2.InlineDocument(start=documents_pb2.DocumentStart(document_id=name), content=text.encode())
            for name, text in texts.items()
        ]
        request = documents_pb2.ImportDocumentsRequest(**{"parent": COLLECTION, "documents": documents, **fields})
        return await self._documents.ImportDocuments(request, metadata=self._metadata, timeout=TIMEOUT_S)

    async def retry(self, name: str) -> Any:
        """RetryOperation."""
        request = jobs_pb2.RetryOperationRequest(name=name)
        return await self._jobs.RetryOperation(request, metadata=self._metadata, timeout=TIMEOUT_S)


@pytest.fixture
def operations(client: Client) -> Operations:
    """The first tenant's."""
    return Operations(client)


def metadata(operation: operations_pb2.Operation) -> jobs_pb2.IngestMetadata:
    """What an operation says of its documents."""
    found = jobs_pb2.IngestMetadata()
    assert operation.metadata.Unpack(found)
    return found


def messages(documents: int, *, accepted_only: bool, request_ids: bool = False) -> Iterator[Any]:
    """An upload stream."""
    yield Request(header=documents_pb2.UploadHeader(parent=COLLECTION, accepted_only=accepted_only))
    for number in range(documents):
        request_id = f"request-{number}" if request_ids else ""
        yield Request(start=documents_pb2.DocumentStart(document_id=f"n{number}.txt", request_id=request_id))
        yield Request(content=documents_pb2.DocumentContent(data=f"Gannets dive, number {number}.".encode()))
        yield Request(end=documents_pb2.DocumentEnd())


async def upload(client: Client, requests: Iterator[Any]) -> list[Any]:
    """All acknowledgements of a stream."""
    stub = documents_pb2_grpc.DocumentServiceStub(client.blocking_channel)
    return await asyncio.to_thread(
        lambda: list(stub.UploadDocuments(requests, metadata=client.metadata, timeout=TIMEOUT_S))
    )


async def test_accepted_documents_survive_kill_9_of_the_gateway(
    start_gateway: Callable[..., Stack],
    start_service: StartService,
    connect: Callable[[Stack, str], Client],
    tmp_path: Any,
):
    """A stream that ended with accepted needs nobody: the next gateway over the same stores indexes every document, once."""
    edge = start_service("gannet_edge", {"GANNET_EDGE_DATA_DIR": tmp_path / "vectors"})
    stores = {"data_dir": tmp_path / "data", "qdrant_url": f"http://{edge.address}"}
    stack = await asyncio.to_thread(start_gateway, **stores)
    client = connect(stack, KEY)
    await client.create("docs")
    acks = await upload(client, messages(DOCUMENTS, accepted_only=True))
    os.kill(stack.gateway.pid, signal.SIGKILL)
    stack.gateway.wait()
    accepted = [ack.accepted.operation for ack in acks if ack.HasField("accepted")]
    assert len(set(accepted)) == DOCUMENTS
    assert {ack.WhichOneof("ack") for ack in acks} == {"received", "accepted"}

    client = connect(await asyncio.to_thread(start_gateway, **stores), KEY)
    operations = Operations(client)
    done = [await operations.wait(name) for name in accepted]
    assert [metadata(operation).state for operation in done] == [jobs_pb2.JOB_STATE_SUCCEEDED] * DOCUMENTS
    assert (await client.collection()).document_count == DOCUMENTS
    assert {metadata(operation).documents[0].revision for operation in done} == {1}


async def test_import_is_an_operation_that_can_be_waited_for(client: Client, operations: Operations, other: Client):
    """Its response has every document; its owner alone sees it; once deleted it is gone."""
    started = await operations.import_({"i1.txt": "Herons stand.", "i2.txt": "Herons wade."}, request_id="import-1")
    again = await operations.import_({"i1.txt": "Herons stand.", "i2.txt": "Herons wade."}, request_id="import-1")
    assert again.name == started.name
    done = await operations.wait(started.name)
    response = jobs_pb2.IngestResponse()
    assert done.done
    assert done.response.Unpack(response)
    assert [document.name.rpartition("/")[2] for document in response.documents] == ["i1.txt", "i2.txt"]
    assert all(document.chunks_done == document.chunks_total == 1 for document in response.documents)
    listed = await operations.call("ListOperations", name="tenants/-", filter="state = SUCCEEDED AND collection = docs")
    assert started.name in [operation.name for operation in listed.operations]
    foreign = Operations(other)
    assert isinstance(await refusal(foreign.call("GetOperation", name=started.name)), errors.PermissionDenied)
    own = started.name.replace("tenants/first", "tenants/-")
    assert isinstance(await refusal(foreign.call("GetOperation", name=own)), errors.NotFound)
    await operations.call("DeleteOperation", name=started.name)
    assert isinstance(await refusal(operations.call("GetOperation", name=started.name)), errors.NotFound)
    for name in ("i1.txt", "i2.txt"):
        await client.delete(name)


async def test_request_ids_make_uploads_safe_to_repeat(client: Client, operations: Operations):
    """The same stream again has the same operations; another content under one of its ids is ABORTED."""
    first = await upload(client, messages(2, accepted_only=True, request_ids=True))
    second = await upload(client, messages(2, accepted_only=False, request_ids=True))

    def by_document(acks: list[Any]) -> dict[str, str]:
        return {ack.document_id: ack.accepted.operation for ack in acks if ack.HasField("accepted")}

    assert by_document(first) == by_document(second)
    assert [ack.indexed.revision for ack in second if ack.HasField("indexed")] == [1, 1]
    reused = await refusal(operations.import_({"n0.txt": "Another text."}, request_id="request-0"))
    assert (type(reused), reused.reason) == (errors.Conflict, "REQUEST_ID_REUSED")
    for name in ("n0.txt", "n1.txt"):
        await client.delete(name)


async def test_failed_operation_says_why_and_stays_failed_when_it_cannot_be_better(operations: Operations):
    """The error is the document's; a retry works on it again, and fails again."""
    started = await operations.import_({"bad.txt": "a\x00b"})
    failed = await operations.wait(started.name)
    assert isinstance(errors.from_status(failed.error), errors.InvalidInput)
    assert metadata(failed).state == jobs_pb2.JOB_STATE_FAILED
    assert not (await operations.retry(started.name)).done
    again = await operations.wait(started.name)
    assert (metadata(again).documents[0].attempt, metadata(again).documents[0].error.code) == (1, 3)


async def test_cancelled_operation_of_a_document_in_work_ends(operations: Operations):
    """An operation that is done stays as it is."""
    started = await operations.import_({"c.txt": "Cormorants dry their wings."})
    await operations.call("CancelOperation", name=started.name)
    state = metadata(await operations.wait(started.name)).state
    assert state in (jobs_pb2.JOB_STATE_CANCELLED, jobs_pb2.JOB_STATE_SUCCEEDED)
    await operations.call("CancelOperation", name=started.name)
    assert metadata(await operations.call("GetOperation", name=started.name)).state == state


@pytest.mark.parametrize(
    "method, fields, field",
    [
        ("GetOperation", {"name": "operations/x"}, "name"),
        ("GetOperation", {"name": "tenants/-/operations/UPPER"}, "name"),
        ("ListOperations", {"name": "nobody"}, "name"),
        ("ListOperations", {"name": "tenants/-", "filter": "state = NONE"}, "filter"),
        ("ListOperations", {"name": "tenants/-", "filter": "size > 3"}, "filter"),
        ("ListOperations", {"name": "tenants/-", "page_size": -1}, "page_size"),
        ("ListOperations", {"name": "tenants/-", "page_size": 1001}, "page_size"),
        ("ListOperations", {"name": "tenants/-", "page_token": "x"}, "page_token"),
    ],
)
async def test_bad_requests_name_the_field(method: str, fields: dict[str, Any], field: str, operations: Operations):
    """Nothing happens."""
    error = await refusal(operations.call(method, **fields))
    assert isinstance(error, errors.InvalidInput)
    assert error.field == field


@pytest.mark.parametrize(
    "fields, field",
    [
        ({"documents": []}, "documents"),
        ({"request_id": "no spaces"}, "request_id"),
        (
            {"documents": [documents_pb2.InlineDocument(start=documents_pb2.DocumentStart(document_id=""))]},
            "document_id",
        ),
    ],
)
async def test_bad_imports_name_the_field(fields: dict[str, Any], field: str, operations: Operations):
    """Nothing of them is kept."""
    error = await refusal(operations.import_({"a": "b"}, **fields))
    assert isinstance(error, errors.InvalidInput)
    assert error.field == field


async def test_sdk_hands_documents_over_and_follows_them(stack: Stack, client: Client):
    """The client that users have: submit, wait, list, and the errors of what failed."""
    async with GannetClient(stack.gateway.address, api_key=KEY) as sdk:
        documents = [
            DocumentInput(document_id="s1.txt", content=b"Skuas steal."),
            DocumentInput(document_id="s2.txt", content=b"\x00"),
        ]
        submitted = await sdk.jobs.submit("docs", documents)
        done = await sdk.jobs.wait(submitted.name)
        assert (done.done, done.state) == (True, JobState.FAILED)
        assert [document.state for document in done.documents] == [JobState.SUCCEEDED, JobState.FAILED]
        assert isinstance(done.documents[1].error, SdkInvalidInput)
        listed = [each.name async for each in sdk.jobs.list(collection="docs", state=JobState.FAILED)]
        assert submitted.name in listed
        retried = await sdk.jobs.retry(submitted.name.rpartition("/")[2])
        assert retried.documents[0].state is JobState.SUCCEEDED
        assert (await sdk.jobs.wait(submitted.name)).state is JobState.FAILED
        await sdk.jobs.delete(submitted.name)
    await client.delete("s1.txt")


async def test_command_line_shows_jobs(stack: Stack, operations: Operations):
    """`gannet jobs list` and `show`, as JSON for programs and as a table for people."""
    started = await operations.import_({"l.txt": "a\x00b"})
    await operations.wait(started.name)

    def gannet(*arguments: str) -> str:
        command = [
            Path(sys.executable).parent / "gannet",
            "--target",
            stack.gateway.address,
            "--api-key",
            KEY,
            *arguments,
        ]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=TIMEOUT_S).stdout

    shown = await asyncio.to_thread(gannet, "jobs", "show", started.name)
    assert "l.txt" in shown
    assert "failed" in shown
    lines = await asyncio.to_thread(gannet, "--json", "jobs", "list", "--collection", "docs", "--state", "failed")
    assert started.name in [json.loads(line)["name"] for line in lines.splitlines()]
