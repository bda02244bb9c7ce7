"""From an uploaded document to a job: its bytes in the blob store, then its row in the ledger, and only then "accepted"."""

import asyncio
import dataclasses
import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from gannet_gateway.blobs.blobs import Blobs
from gannet_gateway.blobs.uploads import StoredUpload
from gannet_gateway.documents.executor import Executor
from gannet_gateway.documents.ingest import Upload
from gannet_gateway.documents.outcomes import Outcomes
from gannet_gateway.ledger.job import CONTENT_SHA256, Job, JobState, NewJob
from gannet_gateway.ledger.jobs import Jobs
from gannet_gateway.names import OperationName
from gannet_service.errors import Conflict, GannetError, of_code

_OWN_FIELDS = ("name", "content")


class Acceptor:
    """Accepts documents for the executors of all gateways."""

    def __init__(self, jobs: Jobs, blobs: Blobs, executor: Executor, outcomes: Outcomes) -> None:
        self._jobs = jobs
        self._blobs = blobs
        self._executor = executor
        self._outcomes = outcomes

    async def accept(self, upload: Upload, request_id: str) -> OperationName:
        """Make one document a job; its operation, or the one that the request id stands for. A stored content is its own from here on.

        Raises:
            Conflict: the request id stands for something else.
            Overloaded: too many documents of the tenant wait.
        """
        job = await self._stored(upload, uuid.uuid4().hex, request_id, _digest([upload]) if request_id else "")
        operation = ""
        try:
            operation = await self._jobs.accept(job)
        finally:
            if operation != job.operation:
                await self._blobs.delete_upload(job.blob)
        self._executor.wake()
        return OperationName(upload.name.tenant, operation)

    async def accept_together(self, uploads: Sequence[Upload], request_id: str) -> OperationName:
        """Make the documents of one request jobs of one operation, all or none; see `accept`."""
        operation, digest = uuid.uuid4().hex, _digest(uploads) if request_id else ""
        async with asyncio.TaskGroup() as tasks:
            storing = [tasks.create_task(self._stored(each, operation, request_id, digest)) for each in uploads]
        wanted = [task.result() for task in storing]
        accepted = ""
        try:
            accepted = await self._jobs.accept_together(wanted)
        finally:
            if accepted != operation:
                for job in wanted:
                    await self._blobs.delete_upload(job.blob)
        self._executor.wake()
        return OperationName(uploads[0].name.tenant, accepted)

    async def ended(self, name: OperationName) -> Job | GannetError:
        """The job of an operation that has only one, once it has ended; an error if it failed."""
        (job,) = (await self._outcomes.wait(name.operation)).jobs
        return job if job.state is JobState.SUCCEEDED else error_of(job)

    async def _stored(self, upload: Upload, operation: str, request_id: str, digest: str) -> NewJob:
        content = upload.content
        if isinstance(content, StoredUpload):
            key = content.key
        else:
            key = await self._blobs.put_upload(upload.name.parent, content.content)
        return NewJob(
            document=upload.name,
            operation=operation,
            blob=key,
            blob_bytes=content.size,
            fields={**_fields(upload), CONTENT_SHA256: content.sha256.hex()},
            request_id=request_id,
            digest=digest,
        )


def error_of(job: Job) -> GannetError:
    """Why a job ended without success."""
    if job.state is JobState.CANCELLED:
        return Conflict(f"{job.document}: the upload was cancelled", reason="JOB_CANCELLED")
    failure = job.error
    if failure is None:
        return Conflict(f"{job.document}: the upload has not succeeded", reason="JOB_FAILED")
    return of_code(failure.code, failure.message, reason=failure.reason, field=failure.field or None)


def _fields(upload: Upload) -> Mapping[str, Any]:
    """What the ledger keeps of an upload beside its name and its bytes."""
    names = [field.name for field in dataclasses.fields(upload) if field.name not in _OWN_FIELDS]
    fields = {name: getattr(upload, name) for name in names}
    if not upload.language:
        del fields["language"]  # a request from before there was one keeps its digest
    return fields


def _digest(uploads: Sequence[Upload]) -> str:
    parts = [[str(each.name), each.content.sha256.hex(), _fields(each)] for each in uploads]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=dict).encode()).hexdigest()
