"""DocumentService on the wire."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from google.longrunning import operations_pb2
from google.protobuf.empty_pb2 import Empty

from gannet.gateway.v1 import documents_pb2, documents_pb2_grpc
from gannet_gateway.blobs.blobs import Blobs
from gannet_gateway.blobs.uploads import IncomingUpload
from gannet_gateway.config import GatewayConfig
from gannet_gateway.documents import access, wire
from gannet_gateway.documents.build import Ingestion
from gannet_gateway.documents.ingest import Upload
from gannet_gateway.documents.upload import Acceptance, Message, UploadStream
from gannet_gateway.ledger.ledger import Ledger
from gannet_gateway.names import CollectionName, OperationName, parse_collection, parse_document
from gannet_gateway.operations.wire import from_operation
from gannet_gateway.paging import page_size, read_token, write_token
from gannet_gateway.tenants.quotas import Quotas
from gannet_gateway.vectors.points import qdrant_collection
from gannet_gateway.vectors.retriever import Retriever
from gannet_gateway.vectors.visible import Snapshot
from gannet_service.errors import InvalidInput, NotFound, NotReady

TEXT_BYTES_MAX = 1 << 20
REVISION_MAX = 2**31 - 1
CHUNKS_MAX = 200


class DocumentServicer(documents_pb2_grpc.DocumentServiceServicer):
    """See documents.proto."""

    def __init__(
        self,
        ledger: Ledger,
        blobs: Blobs,
        ingestion: Ingestion,
        config: GatewayConfig,
        *,
        retriever: Retriever,
        quotas: Quotas,
    ) -> None:
        self._ledger = ledger
        self._retriever = retriever
        self._quotas = quotas
        self._blobs = blobs
        self._ingester = ingestion.ingester
        self._acceptor = ingestion.acceptor
        self._operations = ingestion.operations
        self._executor = ingestion.executor
        self._sweeper = ingestion.sweeper
        self._config = config
        self._draining = asyncio.Event()

    def drain(self) -> None:
        """Take no further documents."""
        self._draining.set()
        self._executor.drain()

    async def UploadDocuments(  # noqa: N802
        self, request_iterator: AsyncIterator[documents_pb2.UploadDocumentsRequest], context: Any
    ) -> AsyncIterator[documents_pb2.UploadDocumentsResponse]:
        del context
        requests = aiter(request_iterator)
        async with asyncio.timeout(self._config.deadline_default_s):
            first = await anext(requests, None)
        if first is None or not first.HasField("header"):
            raise InvalidInput("header: the first message of a stream must be the header", field="header")
        parent = parse_collection(first.header.parent, "header.parent")
        await self._ledger.collection_settings(parent)
        stream = UploadStream(
            Acceptance(
                receive=lambda: IncomingUpload(self._blobs, parent),
                accept=self._accept,
                ended=self._acceptor.ended,
                accepted_only=first.header.accepted_only,
            ),
            document_bytes_max=self._config.document_bytes_max,
            in_work_max=self._config.documents_in_work_max,
            draining=self._draining,
        )
        async for ack in stream.run(_messages(requests, parent)):
            yield wire.from_ack(ack)

    async def ImportDocuments(  # noqa: N802
        self, request: documents_pb2.ImportDocumentsRequest, context: Any
    ) -> operations_pb2.Operation:
        del context
        parent = parse_collection(request.parent, "parent")
        request_id = wire.check_request_id(request.request_id)
        uploads = wire.to_uploads(request, parent, document_bytes_max=self._config.document_bytes_max)
        await self._ledger.collection_settings(parent)
        if self._draining.is_set():
            raise NotReady("the server is shutting down", reason="DRAINING", retry_after_s=wire.DRAINING_RETRY_S)
        for upload in uploads:
            await self._admit(upload)
        name = await self._acceptor.accept_together(uploads, request_id)
        return from_operation(await self._operations.get(name.tenant, name.operation))

    async def _accept(self, upload: Upload, request_id: str) -> OperationName:
        await self._admit(upload)
        return await self._acceptor.accept(upload, request_id)

    async def _admit(self, upload: Upload) -> None:
        await access.check_replaceable(self._ledger, upload.name)
        await self._quotas.admit_document(upload.name.tenant, upload.content.size)

    async def GetDocument(self, request: documents_pb2.GetDocumentRequest, context: Any) -> documents_pb2.Document:  # noqa: N802
        del context
        name = parse_document(request.name, "name")
        document = await self._ledger.document(name, access.reads_as())
        reply = wire.from_document(document)
        if request.HasField("text"):
            start, end = request.text.start_byte, request.text.end_byte or document.text_bytes
            if not start <= end <= document.text_bytes:
                problem = f"text: bytes {start} to {end} are not inside the document's {document.text_bytes} bytes"
                raise InvalidInput(problem, field="text")
            try:
                reply.text = await self._blobs.read(name, document.text_key, start, min(end, start + TEXT_BYTES_MAX))
            except FileNotFoundError as error:  # replaced or deleted since the record was read
                raise NotFound(f"{name} revision {document.revision} was just replaced", field="name") from error
            reply.text_start_byte = start
        return reply

    async def ListDocuments(  # noqa: N802
        self, request: documents_pb2.ListDocumentsRequest, context: Any
    ) -> documents_pb2.ListDocumentsResponse:
        del context
        parent = parse_collection(request.parent, "parent")
        await self._ledger.collection_settings(parent)
        scope = f"{parent}/documents"
        after = read_token(scope, request.page_token)
        page = await self._ledger.list_documents(
            parent, after=after, limit=page_size(request.page_size), identities=access.reads_as()
        )
        return documents_pb2.ListDocumentsResponse(
            documents=[wire.from_document(document) for document in page.items],
            next_page_token=write_token(scope, page.next_after),
        )

    async def DeleteDocument(self, request: documents_pb2.DeleteDocumentRequest, context: Any) -> Empty:  # noqa: N802
        del context
        name = parse_document(request.name, "name")
        collection = await self._ledger.collection_settings(name.parent)
        await access.check_known(self._ledger, name)
        # What was accepted of a document before its deletion must not bring it back.
        await self._operations.cancel_document(name)
        await self._executor.cancelled()
        await self._ingester.delete(collection, name, request.etag)
        return Empty()

    async def PurgeDocuments(  # noqa: N802
        self, request: documents_pb2.PurgeDocumentsRequest, context: Any
    ) -> documents_pb2.PurgeDocumentsResponse:
        del context
        parent = parse_collection(request.parent, "parent")
        document_ids = wire.to_document_ids(request.document_ids)
        collection = await self._ledger.collection_settings(parent)
        known = [each for each in document_ids if not await access.is_hidden(self._ledger, parent.document(each))]
        for each in known:
            await self._operations.erase_document(parent.document(each))
        await self._executor.cancelled()
        purged = [each for each in known if await self._ingester.purge(collection, parent.document(each))]
        await self._sweeper.sweep()  # their uploads, too
        return documents_pb2.PurgeDocumentsResponse(purged_document_ids=purged)

    async def ListDocumentRevisions(  # noqa: N802
        self, request: documents_pb2.ListDocumentRevisionsRequest, context: Any
    ) -> documents_pb2.ListDocumentRevisionsResponse:
        del context
        name = parse_document(request.name, "name")
        scope = f"{name}/revisions"
        after = read_token(scope, request.page_token)
        if after and not after.isdecimal():
            raise InvalidInput("page_token: not one that this server gave", field="page_token")
        await access.check_known(self._ledger, name)
        page = await self._ledger.list_revisions(
            name, below=int(after or 0), limit=page_size(request.page_size), identities=access.reads_as()
        )
        if not page.items and not after:
            raise NotFound(f"{name} does not exist", field="name")
        return documents_pb2.ListDocumentRevisionsResponse(
            revisions=[wire.from_document(document) for document in page.items],
            next_page_token=write_token(scope, page.next_after),
        )

    async def RollbackDocument(  # noqa: N802
        self, request: documents_pb2.RollbackDocumentRequest, context: Any
    ) -> documents_pb2.Document:
        del context
        name = parse_document(request.name, "name")
        if not 1 <= request.revision <= REVISION_MAX:
            problem = f"revision: {request.revision}; the limits are 1 to {REVISION_MAX}"
            raise InvalidInput(problem, field="revision")
        collection = await self._ledger.collection_settings(name.parent)
        await access.check_known(self._ledger, name)
        identities = access.reads_as()
        if not (identities is None or (await self._ledger.revision(name, request.revision)).is_read_by(identities)):
            raise NotFound(f"{name} has no revision {request.revision}", field="revision")
        await self._ingester.rollback(collection, name, request.revision, request.etag)
        return wire.from_document(await self._ledger.document(name))

    async def ListChunks(  # noqa: N802
        self, request: documents_pb2.ListChunksRequest, context: Any
    ) -> documents_pb2.ListChunksResponse:
        del context
        name = parse_document(request.name, "name")
        scope = f"{name}/chunks/{request.generation}"
        place = wire.to_chunk_place(read_token(scope, request.page_token))
        collection = await self._ledger.collection_settings(name.parent)
        wanted, first = place or (request.generation or collection.generation, 0)
        generation = collection.as_of(wanted, "page_token" if place else "generation")
        document = await access.revision_at(self._ledger, name, generation)
        snapshot = Snapshot(
            collection=name.parent,
            generation=generation,
            qdrant_collection=qdrant_collection(collection.embedding_model, collection.embedding_model_digest),
            # As the caller, or as anybody who reads it for callers who read all.
            identities=document.readers,
        )
        limit = min(page_size(request.page_size), CHUNKS_MAX)
        chunks = await self._retriever.passages(snapshot, name.document, first, limit)
        more = first + limit < document.chunk_count
        return documents_pb2.ListChunksResponse(
            chunks=[wire.from_chunk(chunk) for chunk in chunks],
            generation=generation,
            next_page_token=write_token(scope, f"{generation}/{first + limit}" if more else None),
        )


async def _messages(
    requests: AsyncIterator[documents_pb2.UploadDocumentsRequest], parent: CollectionName
) -> AsyncIterator[Message]:
    async for request in requests:
        yield wire.to_message(request, parent)
