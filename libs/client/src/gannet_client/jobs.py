"""Accepted documents as jobs: what became of them, and their retries."""

from __future__ import annotations  # grpc's classes are generic in their stubs only

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from google.longrunning import operations_pb2
from google.longrunning.operations_pb2_grpc import OperationsStub

from gannet.gateway.v1 import documents_pb2, jobs_pb2
from gannet.gateway.v1.documents_pb2_grpc import DocumentServiceStub
from gannet.gateway.v1.jobs_pb2_grpc import JobServiceStub
from gannet_client import wire
from gannet_client.errors import GannetError, from_status
from gannet_client.transport import Transport, new_request_id
from gannet_client.types import DocumentInput

PAGE_SIZE = 200


class JobState(Enum):
    """How far a job is."""

    QUEUED = "queued"
    CHUNKING = "chunking"
    EMBEDDING = "embedding"
    STORING = "storing"
    PUBLISHING = "publishing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentJob:
    """One document's way; `error` is why the last attempt failed. `revision` and `generation` are 0 until it has succeeded."""

    name: str
    state: JobState
    attempt: int
    chunks_total: int
    chunks_done: int
    chunks_cached: int
    error: GannetError | None
    revision: int
    generation: int
    unchanged: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """Documents that were accepted together: one of an upload, all of an import. `state` is that of the one that is least far."""

    name: str
    done: bool
    state: JobState
    collection: str
    documents: tuple[DocumentJob, ...]


class Jobs:
    """Operations of the own tenant, by name, "tenants/{tenant}/operations/{operation}", or by the last part of it.

    Every method raises GannetError.
    """

    def __init__(self, transport: Transport, timeout_s: float) -> None:
        self._transport = transport
        self._timeout_s = timeout_s
        # googleapis ships these stubs without types.
        self._operations: Any = OperationsStub(transport.channel)
        self._retries = JobServiceStub(transport.channel)
        self._documents = DocumentServiceStub(transport.channel)

    async def submit(
        self,
        collection: str,
        documents: Sequence[DocumentInput],
        *,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> Operation:
        """Hand over up to 100 small documents, all or none, and return once they are durable; `wait` tells what became of them.

        Without a `request_id` a fresh one is made, so that the call is safe to repeat.
        """
        request = documents_pb2.ImportDocumentsRequest(
            parent=wire.collection_name(collection),
            documents=[
                documents_pb2.InlineDocument(start=wire.document_start(each).start, content=each.content)
                for each in documents
            ],
            request_id=request_id or new_request_id(),
        )
        found = await self._transport.unary(self._documents.ImportDocuments, request, self._limit(timeout_s))
        return _operation(found)

    async def get(self, operation: str, *, timeout_s: float | None = None) -> Operation:
        """One operation, as it is now."""
        request = operations_pb2.GetOperationRequest(name=_name(operation))
        return _operation(await self._transport.unary(self._operations.GetOperation, request, self._limit(timeout_s)))

    async def wait(self, operation: str, *, timeout_s: float | None = None) -> Operation:
        """The operation once it is done, or as it is when the time is nearly over."""
        request = operations_pb2.WaitOperationRequest(name=_name(operation))
        return _operation(await self._transport.unary(self._operations.WaitOperation, request, self._limit(timeout_s)))

    async def list(
        self, *, collection: str = "", state: JobState | None = None, timeout_s: float | None = None
    ) -> AsyncGenerator[Operation]:
        """Operations, newest first; `collection` is an id."""
        terms = [f"collection = {collection}"] if collection else []
        if state is not None:
            terms.append(f"state = {state.name}")
        token = ""
        while True:
            request = operations_pb2.ListOperationsRequest(
                name="tenants/-", filter=" AND ".join(terms), page_size=PAGE_SIZE, page_token=token
            )
            page = await self._transport.unary(self._operations.ListOperations, request, self._limit(timeout_s))
            for found in page.operations:
                yield _operation(found)
            token = page.next_page_token
            if not token:
                return

    async def cancel(self, operation: str, *, timeout_s: float | None = None) -> None:
        """End what readers do not see yet."""
        request = operations_pb2.CancelOperationRequest(name=_name(operation))
        await self._transport.unary(self._operations.CancelOperation, request, self._limit(timeout_s))

    async def delete(self, operation: str, *, timeout_s: float | None = None) -> None:
        """Forget an operation that is done."""
        request = operations_pb2.DeleteOperationRequest(name=_name(operation))
        await self._transport.unary(self._operations.DeleteOperation, request, self._limit(timeout_s))

    async def retry(self, operation: str, *, timeout_s: float | None = None) -> Operation:
        """Queue what failed again."""
        request = jobs_pb2.RetryOperationRequest(name=_name(operation))
        return _operation(await self._transport.unary(self._retries.RetryOperation, request, self._limit(timeout_s)))

    def _limit(self, timeout_s: float | None) -> float:
        return self._timeout_s if timeout_s is None else timeout_s


def _name(operation: str) -> str:
    return operation if "/" in operation else f"tenants/-/operations/{operation}"


def _operation(message: operations_pb2.Operation) -> Operation:
    metadata = jobs_pb2.IngestMetadata()
    message.metadata.Unpack(metadata)
    return Operation(
        name=message.name,
        done=message.done,
        state=_state(metadata.state),
        collection=metadata.collection,
        documents=tuple(_document(each) for each in metadata.documents),
    )


def _document(message: jobs_pb2.DocumentJob) -> DocumentJob:
    return DocumentJob(
        name=message.name,
        state=_state(message.state),
        attempt=message.attempt,
        chunks_total=message.chunks_total,
        chunks_done=message.chunks_done,
        chunks_cached=message.chunks_cached,
        error=from_status(message.error, "") if message.HasField("error") else None,
        revision=message.revision,
        generation=message.generation,
        unchanged=message.unchanged,
    )


def _state(number: jobs_pb2.JobState.ValueType) -> JobState:
    return JobState[jobs_pb2.JobState.Name(number).removeprefix("JOB_STATE_")]
