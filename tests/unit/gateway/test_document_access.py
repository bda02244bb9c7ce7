"""Who may read and change which documents: over a real ledger, on both engines."""

from typing import Any

import pytest
from unit.gateway.fakes import COLLECTION, DIGEST, MODEL
from unit.gateway.ingestion import NAME, RECORD, Ingestion, upload

from gannet.gateway.v1 import documents_pb2 as pb
from gannet_gateway.auth import Tenants
from gannet_gateway.blobs.blobs import Blobs
from gannet_gateway.config import GatewayConfig
from gannet_gateway.documents import access
from gannet_gateway.documents.build import build
from gannet_gateway.documents.servicer import DocumentServicer
from gannet_gateway.ledger.accounts import Accounts
from gannet_gateway.ledger.engine import Database
from gannet_gateway.ledger.ledger import Ledger
from gannet_gateway.tenants.buckets import LocalBuckets
from gannet_gateway.tenants.quotas import Quotas
from gannet_gateway.tenants.records import Limits
from gannet_gateway.tenants.scopes import Scope
from gannet_gateway.vectors.visible import Snapshot
from gannet_service import call
from gannet_service.call import Call, Principal
from gannet_service.errors import InvalidInput, NotFound, PermissionDenied

ANN, BOB, ENG = ("user:ann",), ("user:bob",), ("group:eng", "user:eve")


class Retriever:
    """Notes what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[Snapshot, str, int, int]] = []

    async def passages(self, snapshot: Snapshot, document: str, first: int, limit: int) -> list[Any]:
        """As the real one, with nothing stored."""
        self.asked.append((snapshot, document, first, limit))
        return []


def act(identities: tuple[str, ...], *scopes: Scope) -> None:
    """Call from now on as these identities of "acme"."""
    principal = Principal(tenant="acme", credential="k", scopes=frozenset(scopes), identities=identities)
    call.set_current(Call(method="test", request_id="r", deadline=None, principal=principal))


@pytest.fixture
def retriever() -> Retriever:
    """A vector store that is asked for passages."""
    return Retriever()


@pytest.fixture
async def servicer(
    ingestion: Ingestion, ledger: Ledger, *, blobs: Blobs, retriever: Any, embedder: Any, database: Database
) -> DocumentServicer:
    """Over a collection with a.md for Ann and engineers, and open.md for everyone."""
    accounts = Accounts(database)
    unlimited = Quotas(accounts, Tenants(accounts, cache_s=60), LocalBuckets(), Limits(), burst_s=1)
    readers = ("group:eng", "user:ann")
    await ingestion.ingester.index(RECORD, upload("# A\n\nFirst.", readers=readers))
    await ingestion.ingester.index(RECORD, upload("# A\n\nSecond.", readers=readers))
    await ingestion.ingester.index(RECORD, upload("# Open", name=COLLECTION.document("open.md")))
    config, index = GatewayConfig(), ingestion.stores.index
    built = build(config, database, ledger=ledger, blobs=blobs, index=index, embedder=embedder)
    built = built._replace(ingester=ingestion.ingester)
    return DocumentServicer(ledger, blobs, built, config, retriever=retriever, quotas=unlimited)


async def listed(servicer: DocumentServicer) -> list[str]:
    """What ListDocuments shows, in pages of one."""
    names: list[str] = []
    token = ""
    while True:
        request = pb.ListDocumentsRequest(parent=str(COLLECTION), page_size=1, page_token=token)
        page = await servicer.ListDocuments(request, None)
        names += [document.name.rpartition("/")[2] for document in page.documents]
        token = page.next_page_token
        if not token:
            return names


@pytest.mark.parametrize(
    "identities, scopes, seen",
    [
        (ANN, (), ["a.md", "open.md"]),
        (ENG, (), ["a.md", "open.md"]),
        (BOB, (), ["open.md"]),
        ((), (), ["open.md"]),
        (("user:Ann",), (), ["open.md"]),
        (("user:an", "group:ann", "group:en"), (), ["open.md"]),
        ((), (Scope.DOCUMENTS_ALL,), ["a.md", "open.md"]),
    ],
)
async def test_list_shows_what_the_caller_reads(
    identities: tuple[str, ...], scopes: tuple[Scope, ...], seen: list[str], servicer: DocumentServicer
):
    """Names count letter by letter, and no page is short for what it leaves out."""
    act(identities, *scopes)
    assert await listed(servicer) == seen


async def test_document_of_others_does_not_exist(servicer: DocumentServicer):
    """Not to be read, listed by revision or passage, rolled back, deleted or erased."""
    act(BOB, Scope.DOCUMENTS_READ, Scope.DOCUMENTS_WRITE)
    name = str(NAME)
    for refused in (
        servicer.GetDocument(pb.GetDocumentRequest(name=name, text=pb.TextRange()), None),
        servicer.ListDocumentRevisions(pb.ListDocumentRevisionsRequest(name=name), None),
        servicer.ListChunks(pb.ListChunksRequest(name=name), None),
        servicer.RollbackDocument(pb.RollbackDocumentRequest(name=name, revision=1), None),
        servicer.DeleteDocument(pb.DeleteDocumentRequest(name=name), None),
    ):
        with pytest.raises(NotFound):
            await refused
    purge = pb.PurgeDocumentsRequest(parent=str(COLLECTION), document_ids=["a.md"])
    assert list((await servicer.PurgeDocuments(purge, None)).purged_document_ids) == []
    act(ANN)
    found = await servicer.GetDocument(pb.GetDocumentRequest(name=name, text=pb.TextRange()), None)
    assert (found.text, list(found.readers)) == (b"# A\n\nSecond.", ["group:eng", "user:ann"])


async def test_document_of_others_that_was_deleted_stays_hidden(servicer: DocumentServicer, ledger: Ledger):
    """It is kept for rollbacks, by those who may."""
    act(ANN)
    await servicer.DeleteDocument(pb.DeleteDocumentRequest(name=str(NAME)), None)
    act(BOB)
    for refused in (
        servicer.ListDocumentRevisions(pb.ListDocumentRevisionsRequest(name=str(NAME)), None),
        servicer.RollbackDocument(pb.RollbackDocumentRequest(name=str(NAME), revision=1), None),
    ):
        with pytest.raises(NotFound):
            await refused
    act(ANN)
    again = await servicer.RollbackDocument(pb.RollbackDocumentRequest(name=str(NAME), revision=1), None)
    assert (again.revision, list(again.readers)) == (3, ["group:eng", "user:ann"])


async def test_upload_over_a_document_of_others_is_denied(servicer: DocumentServicer, ledger: Ledger):
    """Readers may replace it, and whoever keeps all documents; a new one anybody may bring."""
    act(BOB)
    with pytest.raises(PermissionDenied) as caught:
        await access.check_replaceable(ledger, NAME)
    assert caught.value.reason == "DOCUMENT_NOT_READABLE"
    await access.check_replaceable(ledger, COLLECTION.document("new.md"))
    for identities, scopes in ((ANN, ()), ((), (Scope.DOCUMENTS_ALL,))):
        act(identities, *scopes)
        await access.check_replaceable(ledger, NAME)


async def test_earlier_revision_comes_back_for_those_who_read_now(
    servicer: DocumentServicer, ingestion: Ingestion, ledger: Ledger
):
    """An access that was taken away stays away; a revision that one could not read cannot be brought back by guess."""
    await ingestion.ingester.index(RECORD, upload("# A\n\nThird.", readers=BOB))
    act(BOB)
    with pytest.raises(NotFound):
        await servicer.RollbackDocument(pb.RollbackDocumentRequest(name=str(NAME), revision=1), None)
    revisions = await servicer.ListDocumentRevisions(pb.ListDocumentRevisionsRequest(name=str(NAME)), None)
    assert [document.revision for document in revisions.revisions] == [3]
    act((), Scope.DOCUMENTS_ALL)
    await servicer.RollbackDocument(pb.RollbackDocumentRequest(name=str(NAME), revision=1), None)
    assert (await ledger.document(NAME)).readers == BOB


async def test_change_of_readers_alone_is_a_revision_without_new_vectors(ingestion: Ingestion, ledger: Ledger):
    """The same content for others is not the same document."""
    first = await ingestion.ingester.index(RECORD, upload())
    made = len(ingestion.embedder.texts)
    second = await ingestion.ingester.index(RECORD, upload(readers=ANN))
    assert (first.document.revision, second.document.revision, second.unchanged) == (1, 2, False)
    assert len(ingestion.embedder.texts) == made
    assert (await ingestion.ingester.index(RECORD, upload(readers=ANN))).unchanged


async def test_chunks_are_asked_for_as_the_documents_readers(servicer: DocumentServicer, retriever: Retriever):
    """At the generation wanted; the token goes on where the page ended, at the same generation."""
    act(ANN)
    reply = await servicer.ListChunks(pb.ListChunksRequest(name=str(NAME), page_size=7), None)
    latest = reply.generation
    await servicer.ListChunks(pb.ListChunksRequest(name=str(NAME), generation=2), None)
    expected = Snapshot(
        collection=COLLECTION,
        generation=latest,
        qdrant_collection=f"gannet-{MODEL.model}-{DIGEST[:12]}",
        identities=("group:eng", "user:ann"),
    )
    assert retriever.asked[0] == (expected, "a.md", 0, 7)
    assert retriever.asked[1][0].generation == 2
    with pytest.raises(InvalidInput):
        await servicer.ListChunks(pb.ListChunksRequest(name=str(NAME), page_token="AAAA"), None)  # noqa: S106 - a token of a page
