"""Which documents a call may read and change: those that everyone reads, or whose readers the caller is one of.

To everybody else such a document does not exist, but for callers with the scope `documents.all`. Searches never ask here: their one filter
has the caller's identities, and knows no exception.
"""

from gannet_gateway.ledger.ledger import Ledger
from gannet_gateway.ledger.records import Document
from gannet_gateway.names import DocumentName
from gannet_gateway.tenants.scopes import Scope
from gannet_service import call
from gannet_service.errors import NotFound, PermissionDenied

REVISIONS_MAX = 1001  # `revisions_kept` and the live one


def reads_as() -> tuple[str, ...] | None:
    """The caller's identities; None where the caller reads all documents of the tenant."""
    principal = call.principal()
    return None if Scope.DOCUMENTS_ALL in principal.scopes else principal.identities


async def is_hidden(ledger: Ledger, name: DocumentName) -> bool:
    """Whether there is such a document, also a deleted one that is still kept, that the caller may not know of."""
    identities = reads_as()
    if identities is None:
        return False
    newest = (await ledger.list_revisions(name, below=0, limit=1)).items
    return bool(newest) and not newest[0].is_read_by(identities)


async def check_known(ledger: Ledger, name: DocumentName) -> None:
    """Raises NotFound for a document that the caller may not know of."""
    if await is_hidden(ledger, name):
        raise NotFound(f"{name} does not exist", field="name")


async def check_replaceable(ledger: Ledger, name: DocumentName) -> None:
    """Raises PermissionDenied, reason DOCUMENT_NOT_READABLE, for the upload over a document that the caller may not read."""
    if await is_hidden(ledger, name):
        problem = f"{name} has readers, of which the caller is none; the scope {Scope.DOCUMENTS_ALL.value!r} would do"
        raise PermissionDenied(problem, field="document_id", reason="DOCUMENT_NOT_READABLE")


async def revision_at(ledger: Ledger, name: DocumentName, generation: int) -> Document:
    """The revision that readers of a generation see; raises NotFound, also where the caller may not read it."""
    await check_known(ledger, name)
    kept = await ledger.list_revisions(name, below=0, limit=REVISIONS_MAX, identities=reads_as())
    for document in kept.items:
        if document.gen_from <= generation < document.gen_to:
            return document
    raise NotFound(f"{name} does not exist at generation {generation}", field="name")
