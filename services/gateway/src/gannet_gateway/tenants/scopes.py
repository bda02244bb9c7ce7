"""What a caller may do: scopes, and the one table that says which each method needs."""

from collections.abc import Iterable
from enum import StrEnum

from gannet_service.call import Principal
from gannet_service.errors import PermissionDenied


class Scope(StrEnum):
    """A permission; its value is how it is written in keys and tokens."""

    SEARCH = "search"
    ANSWER = "answer"
    DOCUMENTS_READ = "documents.read"
    DOCUMENTS_WRITE = "documents.write"
    # Documents are read and changed whatever their readers; searches and answers find no more by it.
    DOCUMENTS_ALL = "documents.all"
    COLLECTIONS_READ = "collections.read"
    COLLECTIONS_WRITE = "collections.write"
    # Keys of the own tenant, with no scope that the caller lacks.
    KEYS = "keys"
    # A call may be made for a user that its metadata names.
    ACT_AS = "act_as"
    # Every tenant and its keys: for whoever runs the service.
    ADMIN = "admin"


EVERY_SCOPE = frozenset(Scope)
# What a call for a named user may not do, whatever its key may.
NOT_FOR_USERS = frozenset({Scope.DOCUMENTS_ALL, Scope.KEYS, Scope.ACT_AS, Scope.ADMIN})

_SERVICES: dict[str, dict[str, Scope]] = {
    "gannet.gateway.v1.SearchService": {"Search": Scope.SEARCH, "BatchSearch": Scope.SEARCH},
    "gannet.gateway.v1.AnswerService": {
        "Answer": Scope.ANSWER,
        "StreamAnswer": Scope.ANSWER,
        "ResumeAnswer": Scope.ANSWER,
        "VerifyAnswer": Scope.ANSWER,
    },
    "gannet.gateway.v1.DocumentService": {
        "UploadDocuments": Scope.DOCUMENTS_WRITE,
        "ImportDocuments": Scope.DOCUMENTS_WRITE,
        "GetDocument": Scope.DOCUMENTS_READ,
        "ListDocuments": Scope.DOCUMENTS_READ,
        "ListDocumentRevisions": Scope.DOCUMENTS_READ,
        "DeleteDocument": Scope.DOCUMENTS_WRITE,
        "PurgeDocuments": Scope.DOCUMENTS_WRITE,
        "RollbackDocument": Scope.DOCUMENTS_WRITE,
        "ListChunks": Scope.DOCUMENTS_READ,
    },
    "gannet.gateway.v1.JobService": {"RetryOperation": Scope.DOCUMENTS_WRITE},
    "google.longrunning.Operations": {
        "GetOperation": Scope.DOCUMENTS_READ,
        "ListOperations": Scope.DOCUMENTS_READ,
        "WaitOperation": Scope.DOCUMENTS_READ,
        "CancelOperation": Scope.DOCUMENTS_WRITE,
        "DeleteOperation": Scope.DOCUMENTS_WRITE,
    },
    "gannet.gateway.v1.CollectionService": {
        "CreateCollection": Scope.COLLECTIONS_WRITE,
        "UpdateCollection": Scope.COLLECTIONS_WRITE,
        "GetCollection": Scope.COLLECTIONS_READ,
        "ListCollections": Scope.COLLECTIONS_READ,
        "DeleteCollection": Scope.COLLECTIONS_WRITE,
    },
    "gannet.gateway.v1.ConversationService": {
        "CreateConversation": Scope.ANSWER,
        "GetConversation": Scope.ANSWER,
        "ListConversations": Scope.ANSWER,
        "DeleteConversation": Scope.ANSWER,
        "ListTurns": Scope.ANSWER,
    },
    # What users think of answers is read by whoever tunes the collection.
    "gannet.gateway.v1.FeedbackService": {
        "CreateFeedback": Scope.ANSWER,
        "ListFeedback": Scope.COLLECTIONS_WRITE,
    },
    "gannet.gateway.v1.PromptService": {
        "CreatePrompt": Scope.COLLECTIONS_WRITE,
        "GetPrompt": Scope.COLLECTIONS_READ,
        "ListPrompts": Scope.COLLECTIONS_READ,
        "DeletePrompt": Scope.COLLECTIONS_WRITE,
    },
    "gannet.gateway.v1.SourceService": {
        "CreateSource": Scope.DOCUMENTS_WRITE,
        "GetSource": Scope.DOCUMENTS_READ,
        "ListSources": Scope.DOCUMENTS_READ,
        "DeleteSource": Scope.DOCUMENTS_WRITE,
        "RunSource": Scope.DOCUMENTS_WRITE,
    },
    # Their addresses may hold a receiver's own secrets, and events name documents whoever may read them.
    "gannet.gateway.v1.WebhookService": {
        "CreateWebhook": Scope.COLLECTIONS_WRITE,
        "GetWebhook": Scope.COLLECTIONS_WRITE,
        "ListWebhooks": Scope.COLLECTIONS_WRITE,
        "UpdateWebhook": Scope.COLLECTIONS_WRITE,
        "DeleteWebhook": Scope.COLLECTIONS_WRITE,
        "ListDeliveries": Scope.COLLECTIONS_WRITE,
        "RedeliverEvent": Scope.COLLECTIONS_WRITE,
    },
    "gannet.gateway.v1.TenantService": {
        "CreateTenant": Scope.ADMIN,
        "GetTenant": Scope.KEYS,
        "ListTenants": Scope.ADMIN,
        "UpdateTenant": Scope.ADMIN,
        "DeleteTenant": Scope.ADMIN,
        "CreateApiKey": Scope.KEYS,
        "ListApiKeys": Scope.KEYS,
        "RevokeApiKey": Scope.KEYS,
    },
}
REQUIRED: dict[str, Scope] = {
    f"/{service}/{method}": scope for service, methods in _SERVICES.items() for method, scope in methods.items()
}


def authorize(method: str, principal: Principal) -> None:
    """Let the call through, or raise PermissionDenied: reason SCOPE_MISSING, or METHOD_UNKNOWN for one that the table lacks."""
    scope = REQUIRED.get(method)
    if scope is None:
        raise PermissionDenied(f"{method} is not open to callers", reason="METHOD_UNKNOWN")
    demand(scope, principal)


def demand(scope: Scope, principal: Principal) -> None:
    """Raises PermissionDenied, reason SCOPE_MISSING, for a caller without `scope`."""
    if scope not in principal.scopes:
        raise PermissionDenied(f"the scope {scope.value!r} is missing", reason="SCOPE_MISSING")


def known(names: Iterable[str]) -> frozenset[Scope]:
    """The scopes among `names`; others, as tokens carry them for other services, are passed over."""
    return frozenset(scope for scope in Scope if scope.value in set(names))
