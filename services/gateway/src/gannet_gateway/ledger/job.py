"""A job, one accepted document, as the ledger gives it back."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import RowMapping

from gannet_gateway.names import DocumentName


class JobState(StrEnum):
    """How far a job is."""

    QUEUED = "QUEUED"
    CHUNKING = "CHUNKING"
    EMBEDDING = "EMBEDDING"
    STORING = "STORING"
    PUBLISHING = "PUBLISHING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why an attempt failed: the last one of a job that is retried, or the one that ended it."""

    code: str
    reason: str
    message: str
    field: str = ""


CONTENT_SHA256 = "content_sha256"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """A document to accept; `fields` are its upload's, and CONTENT_SHA256, in hex.

    Its bytes are in the blob store; `digest` is over all that `request_id` stands for, where there is one.
    """

    document: DocumentName
    operation: str
    blob: str
    blob_bytes: int
    fields: Mapping[str, Any]
    request_id: str = ""
    digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job. `attempt` counts the times it was begun; `number` is its place in the order of acceptance."""

    number: int
    id: str
    operation: str
    document: DocumentName
    blob: str
    blob_bytes: int
    fields: Mapping[str, Any]
    state: JobState
    attempt: int
    holder: str
    cancelled: bool
    chunks_total: int
    chunks_done: int
    chunks_cached: int
    error: Failure | None
    revision: int
    generation: int
    unchanged: bool
    created_at_s: float
    updated_at_s: float
    ended_at_s: float | None

    @property
    def ended(self) -> bool:
        """Nothing more happens to it, unless it is retried."""
        return self.ended_at_s is not None


@dataclass(slots=True, kw_only=True)
class Progress:
    """How far the work on a document is; whoever works on it writes, whoever renews its lease reads."""

    state: JobState = JobState.CHUNKING
    chunks_total: int = 0
    chunks_done: int = 0
    chunks_cached: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What becomes of an attempt that no publish ended. Without `retry_at_s` it is the job's end."""

    job: Job
    state: JobState
    error: Failure | None = None
    retry_at_s: float | None = None
    revision: int = 0
    generation: int = 0
    chunks: int = 0
    unchanged: bool = False


def to_job(row: RowMapping) -> Job:
    """The record in a row of `jobs`."""
    fields = {key: row[key] for key in Job.__dataclass_fields__ if key not in ("document", "state", "error")}
    error = None if row["error"] is None else Failure(**row["error"])
    document = DocumentName(row["tenant"], row["collection"], row["document"])
    return Job(document=document, state=JobState(row["state"]), error=error, **fields)
