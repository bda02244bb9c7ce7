"""A client of a real gateway that reads like the API, and the texts that the tests store."""

import asyncio
import hashlib
import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.struct_pb2 import Struct
from integration.conftest import Service

from gannet.gateway.v1 import (
    answer_pb2,
    answer_pb2_grpc,
    collections_pb2,
    collections_pb2_grpc,
    documents_pb2,
    documents_pb2_grpc,
    search_pb2,
    search_pb2_grpc,
)
from gannet_service.errors import GannetError, from_rpc_error

COLLECTION = "tenants/-/collections/docs"
TIMEOUT_S = 60

TEXTS = {
    "yield.md": (
        "# Yield expressions\n\nThe yield expression is used when defining a generator function. Using a yield expression in a "
        "function's body causes that function to be a generator function. When a generator function is called, it returns an "
        "iterator known as a generator.\n\n## Exceptions\n\nThe close method raises GeneratorExit at the point where the "
        "generator function was paused.\n"
    ),
    "with.md": (
        "# The with statement\n\nThe with statement is used to wrap the execution of a block with methods defined by a context "
        "manager. The context manager's exit method is always called, even when an exception was raised.\n"
    ),
    "zagreb.txt": "Zagreb je glavni grad Hrvatske. Čakovec leži na sjeveru – blizu Drave. Cijena kave je oko 2 € 😀.\n",
}


@dataclass(frozen=True, kw_only=True)
class File:
    """A document to upload; `digest` replaces its true one."""

    content: bytes
    start: dict[str, Any] = field(default_factory=dict)
    digest: bytes | None = None


class Client:
    """One API key at one gateway."""

    def __init__(self, address: str, key: str) -> None:
        self.channel = grpc.aio.insecure_channel(address)
        # For streams that the server may end while they are written: grpc.aio then loses the status ("Internal error from Core").
        self.blocking_channel = grpc.insecure_channel(address)
        self.metadata: tuple[tuple[str, str], ...] = (("authorization", f"Bearer {key}"),) if key else ()
        self._collections = collections_pb2_grpc.CollectionServiceStub(self.channel)
        self._documents = documents_pb2_grpc.DocumentServiceStub(self.channel)
        self._uploads = documents_pb2_grpc.DocumentServiceStub(self.blocking_channel)
        self._search = search_pb2_grpc.SearchServiceStub(self.channel)
        self._answers = answer_pb2_grpc.AnswerServiceStub(self.channel)

    async def close(self) -> None:
        """Close both channels."""
        self.blocking_channel.close()
        await self.channel.close()

    async def create(self, collection_id: str, **settings: Any) -> collections_pb2.Collection:
        """Make a collection."""
        collection = collections_pb2.Collection(**settings)
        request = collections_pb2.CreateCollectionRequest(
            parent="tenants/-", collection_id=collection_id, collection=collection
        )
        return await self._collections.CreateCollection(request, metadata=self.metadata, timeout=TIMEOUT_S)

    async def collection(self, name: str = COLLECTION) -> collections_pb2.Collection:
        """GetCollection."""
        request = collections_pb2.GetCollectionRequest(name=name)
        return await self._collections.GetCollection(request, metadata=self.metadata, timeout=TIMEOUT_S)

    async def collections(self, **fields: Any) -> collections_pb2.ListCollectionsResponse:
        """ListCollections."""
        request = collections_pb2.ListCollectionsRequest(**{"parent": "tenants/-", **fields})
        return await self._collections.ListCollections(request, metadata=self.metadata, timeout=TIMEOUT_S)

    async def delete_collection(self, name: str) -> None:
        """DeleteCollection."""
        request = collections_pb2.DeleteCollectionRequest(name=name)
        await self._collections.DeleteCollection(request, metadata=self.metadata, timeout=TIMEOUT_S)

    async def send(self, messages: Iterable[Any], parent: str = COLLECTION) -> list[Any]:
        """Upload messages after the header; the acknowledgements."""

        def upload() -> list[Any]:
            header = documents_pb2.UploadDocumentsRequest(header=documents_pb2.UploadHeader(parent=parent))
            requests = itertools.chain([header], messages)
            return list(self._uploads.UploadDocuments(requests, metadata=self.metadata, timeout=TIMEOUT_S))

        return await asyncio.to_thread(upload)

    async def upload(self, files: Iterable[tuple[str, File | str]], parent: str = COLLECTION) -> list[Any]:
        """Upload whole documents; their final acknowledgements in the order sent."""
        acks = await self.send((message for name, file in files for message in _messages(name, file)), parent)
        final = [ack for ack in acks if ack.WhichOneof("ack") not in ("received", "accepted")]
        return [getattr(ack, ack.WhichOneof("ack")) for ack in sorted(final, key=lambda ack: ack.index)]

    async def document(self, document_id: str, start: int | None = None, end: int = 0) -> documents_pb2.Document:
        """GetDocument by full name or by id, with a range of its text if `start` is given."""
        name = document_id if document_id.startswith("tenants/") else f"{COLLECTION}/documents/{document_id}"
        text = None if start is None else documents_pb2.TextRange(start_byte=start, end_byte=end)
        request = documents_pb2.GetDocumentRequest(name=name, text=text)
        return await self._documents.GetDocument(request, metadata=self.metadata, timeout=TIMEOUT_S)

    async def documents(self, **fields: Any) -> documents_pb2.ListDocumentsResponse:
        """ListDocuments."""
        request = documents_pb2.ListDocumentsRequest(**{"parent": COLLECTION, **fields})
        return await self._documents.ListDocuments(request, metadata=self.metadata, timeout=TIMEOUT_S)

    async def delete(self, document_id: str, etag: str = "", parent: str = COLLECTION) -> None:
        """DeleteDocument."""
        request = documents_pb2.DeleteDocumentRequest(name=f"{parent}/documents/{document_id}", etag=etag)
        await self._documents.DeleteDocument(request, metadata=self.metadata, timeout=TIMEOUT_S)

    async def purge(self, document_ids: list[str], parent: str = COLLECTION) -> list[str]:
        """PurgeDocuments."""
        request = documents_pb2.PurgeDocumentsRequest(parent=parent, document_ids=document_ids)
        reply = await self._documents.PurgeDocuments(request, metadata=self.metadata, timeout=TIMEOUT_S)
        return list(reply.purged_document_ids)

    async def revisions(self, name: str, **fields: Any) -> documents_pb2.ListDocumentRevisionsResponse:
        """ListDocumentRevisions."""
        request = documents_pb2.ListDocumentRevisionsRequest(name=name, **fields)
        return await self._documents.ListDocumentRevisions(request, metadata=self.metadata, timeout=TIMEOUT_S)

    async def rollback(self, name: str, revision: int, etag: str = "") -> documents_pb2.Document:
        """RollbackDocument."""
        request = documents_pb2.RollbackDocumentRequest(name=name, revision=revision, etag=etag)
        return await self._documents.RollbackDocument(request, metadata=self.metadata, timeout=TIMEOUT_S)

    async def search(
        self, query: str, parent: str = COLLECTION, *, extra: tuple[tuple[str, str], ...] = (), **options: Any
    ) -> search_pb2.SearchResponse:
        """Search."""
        request = search_pb2.SearchRequest(parent=parent, query=query, options=search_pb2.SearchOptions(**options))
        return await self._search.Search(request, metadata=self.metadata + extra, timeout=TIMEOUT_S)

    async def search_within(self, request: search_pb2.SearchRequest, timeout_s: float) -> search_pb2.SearchResponse:
        """Search, with a deadline of the caller's."""
        return await self._search.Search(request, metadata=self.metadata, timeout=timeout_s)

    async def search_bytes(self, request: bytes) -> None:
        """Search by a request that no library would write."""
        method = self.channel.unary_unary("/gannet.gateway.v1.SearchService/Search")
        await method(request, metadata=self.metadata, timeout=TIMEOUT_S)

    async def answer(self, query: str, parent: str = COLLECTION, **fields: Any) -> list[answer_pb2.AnswerEvent]:
        """StreamAnswer, all events."""
        request = answer_pb2.AnswerRequest(parent=parent, query=query, **fields)
        replies = self._answers.StreamAnswer(request, metadata=self.metadata, timeout=TIMEOUT_S)
        return [event async for event in replies]

    async def whole_answer(self, query: str) -> answer_pb2.AnswerResponse:
        """Answer."""
        request = answer_pb2.AnswerRequest(parent=COLLECTION, query=query)
        return await self._answers.Answer(request, metadata=self.metadata, timeout=TIMEOUT_S)


async def refusal(call: Any) -> GannetError:
    """The error that a call ends in."""
    try:
        await call
    except grpc.RpcError as error:
        return from_rpc_error(error)
    raise AssertionError("the call was not refused")


def log_line(service: Service, **fields: str) -> dict[str, Any]:
    """The next line that `service` logs with these fields; lines before it are passed over."""
    while True:
        line = service.wait_for(fields["event"])
        if fields.items() <= line.items():
            return line


def struct(**fields: Any) -> Struct:
    """Metadata."""
    message = Struct()
    message.update(fields)
    return message


def _messages(name: str, file: File | str) -> list[documents_pb2.UploadDocumentsRequest]:
    if isinstance(file, str):
        file = File(content=file.encode(), start={"mime_type": "text/markdown" if name.endswith(".md") else ""})
    digest = hashlib.sha256(file.content).digest() if file.digest is None else file.digest
    return [
        documents_pb2.UploadDocumentsRequest(start=documents_pb2.DocumentStart(document_id=name, **file.start)),
        *(
            documents_pb2.UploadDocumentsRequest(
                content=documents_pb2.DocumentContent(data=file.content[at : at + 65_536])
            )
            for at in range(0, len(file.content), 65_536)
        ),
        documents_pb2.UploadDocumentsRequest(end=documents_pb2.DocumentEnd(sha256=digest)),
    ]
