"""The Python SDK of Gannet, async first.

Example:
    async with GannetClient(api_key="gnt_...") as client:
        async for event in client.stream_answer("docs", "What does yield do?"):
            ...
"""

from gannet_client.client import GannetClient
from gannet_client.errors import (
    AlreadyExists,
    Conflict,
    DeadlineExceeded,
    FieldViolation,
    GannetError,
    InvalidInput,
    NotFound,
    Overloaded,
    PermissionDenied,
    ServerError,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)
from gannet_client.tenants import ApiKey, NewApiKey, Tenant, TenantLimits, Tenants
from gannet_client.transport import RetryPolicy
from gannet_client.types import (
    Answer,
    AnswerEvent,
    Chunk,
    Citation,
    Cited,
    CitedSource,
    Collection,
    Completed,
    Degradation,
    Delta,
    Document,
    DocumentFailed,
    DocumentIndexed,
    DocumentInput,
    FinishReason,
    FusionMethod,
    Health,
    Heartbeat,
    Passage,
    Retrieved,
    Scores,
    SearchMode,
    SearchOptions,
    SearchResult,
    SearchTimings,
    ServingStatus,
    Started,
    UploadAck,
    Warned,
)
from gannet_client.wire import collection_name, document_name

__all__ = [
    "AlreadyExists", "Answer", "AnswerEvent", "ApiKey", "Chunk", "Citation", "Cited", "CitedSource", "Collection",
    "Completed", "Conflict", "DeadlineExceeded", "Degradation", "Delta", "Document", "DocumentFailed", "DocumentIndexed",
    "DocumentInput", "FieldViolation", "FinishReason", "FusionMethod", "GannetClient", "GannetError", "Health", "Heartbeat",
    "InvalidInput", "NewApiKey", "NotFound", "Overloaded", "Passage", "PermissionDenied", "Retrieved", "RetryPolicy",
    "Scores", "SearchMode", "SearchOptions", "SearchResult", "SearchTimings", "ServerError", "ServingStatus", "Started",
    "Tenant", "TenantLimits", "Tenants", "Unauthenticated", "Unavailable", "Unimplemented", "UploadAck", "Warned",
    "collection_name", "document_name",
]  # fmt: skip
