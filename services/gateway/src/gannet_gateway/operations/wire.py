"""Operations between protobuf and the gateway's own types."""

import re
from collections.abc import Sequence
from typing import Final

from google.longrunning import operations_pb2

from gannet.gateway.v1 import jobs_pb2
from gannet_gateway.documents.acceptance import error_of
from gannet_gateway.ledger.job import Job, JobState
from gannet_gateway.ledger.operations import Operation, OperationFilter
from gannet_gateway.names import OperationName, check_collection_id
from gannet_service.errors import InvalidInput, of_code, to_status

FILTER_CHARACTERS_MAX = 200

_STATES: Final[dict[JobState, jobs_pb2.JobState.ValueType]] = {
    state: jobs_pb2.JobState.Value(f"JOB_STATE_{state.value}") for state in JobState
}
_UNENDED = tuple(JobState)[:5]
_TERM = re.compile(r'\s*(state|collection)\s*=\s*"?([A-Za-z0-9-]+)"?\s*')


def from_operation(operation: Operation) -> operations_pb2.Operation:
    """An operation as it travels."""
    first = operation.jobs[0]
    message = operations_pb2.Operation(
        name=str(OperationName(first.document.tenant, operation.id)), done=operation.done
    )
    documents = [_from_job(job) for job in operation.jobs]
    metadata = jobs_pb2.IngestMetadata(
        state=_STATES[_state(operation.jobs)],
        documents=documents,
        collection=str(first.document.parent),
        create_time_us=round(min(job.created_at_s for job in operation.jobs) * 1e6),
        update_time_us=round(max(job.updated_at_s for job in operation.jobs) * 1e6),
    )
    message.metadata.Pack(metadata)
    failed = next((job for job in operation.jobs if job.state in (JobState.FAILED, JobState.CANCELLED)), None)
    if operation.done and failed is not None:
        message.error.CopyFrom(to_status(error_of(failed)))
    elif operation.done:
        message.response.Pack(jobs_pb2.IngestResponse(documents=documents))
    return message


def to_filter(text: str) -> OperationFilter:
    """Reads `state = FAILED AND collection = docs`, each at most once."""
    if len(text) > FILTER_CHARACTERS_MAX:
        problem = f"filter: {len(text)} characters; the limit is {FILTER_CHARACTERS_MAX}"
        raise InvalidInput(problem, field="filter")
    found: dict[str, str] = {}
    for term in text.split(" AND ") if text.strip() else []:
        match = _TERM.fullmatch(term)
        if match is None or match[1] in found:
            problem = f"filter: {term.strip()[:100]!r} is not `state = STATE` or `collection = ID`, each once"
            raise InvalidInput(problem, field="filter")
        found[match[1]] = match[2]
    state = found.get("state", "")
    if state and state not in JobState.__members__:
        raise InvalidInput(f"filter: state {state[:20]!r} is not one of {', '.join(JobState)}", field="filter")
    collection = found.get("collection", "")
    return OperationFilter(collection=check_collection_id(collection, "filter") if collection else "", state=state)


def _state(jobs: Sequence[Job]) -> JobState:
    """That of the job that is least far; of ended ones the worst."""
    states = {job.state for job in jobs}
    order = (*_UNENDED, JobState.FAILED, JobState.CANCELLED, JobState.SUCCEEDED)
    return next(state for state in order if state in states)


def _from_job(job: Job) -> jobs_pb2.DocumentJob:
    message = jobs_pb2.DocumentJob(
        name=str(job.document),
        state=_STATES[job.state],
        attempt=job.attempt,
        chunks_total=job.chunks_total,
        chunks_done=job.chunks_done,
        chunks_cached=job.chunks_cached,
        revision=job.revision,
        generation=job.generation,
        unchanged=job.unchanged,
    )
    if job.error is not None:
        error = of_code(job.error.code, job.error.message, reason=job.error.reason, field=job.error.field or None)
        message.error.CopyFrom(to_status(error))
    return message
