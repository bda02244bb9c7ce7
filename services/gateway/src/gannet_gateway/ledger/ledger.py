"""Reads and writes of the ledger. Every method is one transaction; what returned is durable."""

import contextlib
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import RowMapping, Table, delete, func, insert, literal, select, text, update
from sqlalchemy.exc import IntegrityError

from gannet_gateway.ledger.engine import Database
from gannet_gateway.ledger.records import Collection, Document, Intent, Page
from gannet_gateway.ledger.schema import api_keys, collections, documents, intents, tenants
from gannet_gateway.names import CollectionName, DocumentName
from gannet_service.errors import AlreadyExists, Conflict, NotFound


class Ledger:
    """See the module. `clock` gives Unix seconds."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    async def close(self) -> None:
        """Close every connection."""
        await self._database.close()

    async def probe(self) -> None:
        """Raises if the database does not answer."""
        async with self._database.reading() as connection:
            await connection.execute(text("SELECT 1"))

    # ---- tenants and keys ---------------------------------------------------------------------------------------

    async def add_tenant(self, tenant: str) -> None:
        """Make sure that the tenant exists."""
        with contextlib.suppress(IntegrityError):  # it is there
            async with self._database.writing() as connection:
                await connection.execute(insert(tenants).values(id=tenant, created_at_s=self._clock()))

    async def add_api_key(self, tenant: str, digest: str, label: str) -> None:
        """Make sure that the key of an existing tenant exists; a revoked key stays revoked."""
        row = {"digest": digest, "tenant": tenant, "label": label, "created_at_s": self._clock()}
        with contextlib.suppress(IntegrityError):  # it is there
            async with self._database.writing() as connection:
                await connection.execute(insert(api_keys).values(row))

    async def tenant_of_key(self, digest: str) -> str | None:
        """The tenant of a key that is known and not revoked."""
        query = select(api_keys.c.tenant).where(api_keys.c.digest == digest, api_keys.c.revoked_at_s.is_(None))
        async with self._database.reading() as connection:
            return (await connection.execute(query)).scalar_one_or_none()

    # ---- collections --------------------------------------------------------------------------------------------

    async def create_collection(self, collection: Collection) -> Collection:
        """Store a new collection; raises AlreadyExists."""
        row: dict[str, Any] = {
            column.name: getattr(collection, column.name)
            for column in collections.columns
            if column.name not in ("tenant", "id", "deleting", "created_at_s")
        }
        name = collection.name
        row |= {"tenant": name.tenant, "id": name.collection, "deleting": False, "created_at_s": self._clock()}
        async with self._database.writing() as connection:
            try:
                await connection.execute(insert(collections).values(row))
            except IntegrityError as error:
                raise AlreadyExists(f"{name} exists already", field="collection_id") from error
        return await self.collection(name)

    async def collection(self, name: CollectionName) -> Collection:
        """One collection with its number of documents; raises NotFound."""
        count = (
            select(func.count())
            .select_from(documents)
            .where(documents.c.tenant == name.tenant, documents.c.collection == name.collection)
            .scalar_subquery()
        )
        return await self._collection(name, count)

    async def collection_settings(self, name: CollectionName) -> Collection:
        """One collection without counting its documents: what every search reads. Raises NotFound."""
        return await self._collection(name, literal(0))

    async def _collection(self, name: CollectionName, count: Any) -> Collection:
        query = select(collections, count.label("document_count")).where(
            *_is(collections, name), ~collections.c.deleting
        )
        async with self._database.reading() as connection:
            row = (await connection.execute(query)).mappings().first()
        if row is None:
            raise NotFound(f"{name} does not exist", field="parent")
        return _to_collection(row)

    async def list_collections(self, tenant: str, *, after: str, limit: int) -> Page[Collection]:
        """Collections of a tenant whose id is greater than `after`."""
        count = (
            select(func.count())
            .select_from(documents)
            .where(documents.c.tenant == collections.c.tenant, documents.c.collection == collections.c.id)
            .scalar_subquery()
        )
        query = (
            select(collections, count.label("document_count"))
            .where(collections.c.tenant == tenant, collections.c.id > after, ~collections.c.deleting)
            .order_by(collections.c.id)
            .limit(limit + 1)
        )
        async with self._database.reading() as connection:
            rows = (await connection.execute(query)).mappings().all()
        items = [_to_collection(row) for row in rows[:limit]]
        return Page(items=items, next_after=items[-1].name.collection if len(rows) > limit else None)

    async def begin_delete_collection(self, name: CollectionName) -> None:
        """Hide a collection from every reader; raises NotFound, Conflict while a document of it is being written."""
        async with self._database.writing() as connection:
            statement = (
                update(collections).where(*_is(collections, name), ~collections.c.deleting).values(deleting=True)
            )
            if (await connection.execute(statement)).rowcount == 0:
                raise NotFound(f"{name} does not exist", field="name")
            # A writer that ended after the erasure would leave passages behind, for a later collection of that name to find.
            writing = select(intents.c.document).where(
                intents.c.tenant == name.tenant, intents.c.collection == name.collection
            )
            if (await connection.execute(writing.limit(1))).first() is not None:
                raise Conflict(f"a document of {name} is being written", field="name")

    async def finish_delete_collection(self, name: CollectionName) -> None:
        """Forget a hidden collection, its documents and its intents."""
        async with self._database.writing() as connection:
            for table in (intents, documents):
                await connection.execute(
                    delete(table).where(table.c.tenant == name.tenant, table.c.collection == name.collection)
                )
            await connection.execute(delete(collections).where(*_is(collections, name)))

    async def collections_being_deleted(self) -> list[tuple[CollectionName, str, str]]:
        """Collections whose deletion a crash interrupted, with their embedding model and its digest."""
        columns = (
            collections.c.tenant,
            collections.c.id,
            collections.c.embedding_model,
            collections.c.embedding_model_digest,
        )
        async with self._database.reading() as connection:
            rows = (await connection.execute(select(*columns).where(collections.c.deleting))).all()
        return [(CollectionName(tenant, collection), model, digest) for tenant, collection, model, digest in rows]

    # ---- documents ----------------------------------------------------------------------------------------------

    async def document(self, name: DocumentName) -> Document:
        """A document's live revision; raises NotFound."""
        found = await self.find_document(name)
        if found is None:
            raise NotFound(f"{name} does not exist", field="name")
        return found

    async def find_document(self, name: DocumentName) -> Document | None:
        """A document's live revision, or None."""
        query = (
            select(documents)
            .join(
                collections, (collections.c.tenant == documents.c.tenant) & (collections.c.id == documents.c.collection)
            )
            .where(*_is(documents, name), ~collections.c.deleting)
        )
        async with self._database.reading() as connection:
            row = (await connection.execute(query)).mappings().first()
        return None if row is None else _to_document(row)

    async def list_documents(self, name: CollectionName, *, after: str, limit: int) -> Page[Document]:
        """Documents of a collection whose id is greater than `after`, in the order of their ids."""
        query = (
            select(documents)
            .where(documents.c.tenant == name.tenant, documents.c.collection == name.collection, documents.c.id > after)
            .order_by(documents.c.id)
            .limit(limit + 1)
        )
        async with self._database.reading() as connection:
            rows = (await connection.execute(query)).mappings().all()
        items = [_to_document(row) for row in rows[:limit]]
        return Page(items=items, next_after=items[-1].name.document if len(rows) > limit else None)

    async def begin_write(self, name: DocumentName, *, create_only: bool = False) -> int:
        """Claim a document for writing and return the revision to write.

        Raises:
            AlreadyExists: it exists, and `create_only` was asked for.
            Conflict: somebody else is writing it.
            NotFound: the collection is gone.
        """
        async with self._database.writing() as connection:
            query = select(collections.c.id).where(*_is(collections, name.parent), ~collections.c.deleting)
            if (await connection.execute(query)).first() is None:
                raise NotFound(f"{name.parent} does not exist", field="parent")
            query = select(documents.c.revision).where(*_is(documents, name))
            revision = ((await connection.execute(query)).scalar_one_or_none() or 0) + 1
            if create_only and revision > 1:
                raise AlreadyExists(f"{name} exists already", field="document_id")
            try:
                await connection.execute(
                    insert(intents).values(**_intent_key(name), revision=revision, started_at_s=self._clock())
                )
            except IntegrityError as error:
                raise Conflict(f"{name} is being written by another call", field="document_id") from error
            return revision

    async def commit_write(self, document: Document) -> None:
        """Make a revision the live one. Its intent stays until the replaced revision is swept: see `end_intent`."""
        name = document.name
        now = self._clock()
        row: dict[str, Any] = {
            column.name: getattr(document, column.name)
            for column in documents.columns
            if column.name not in ("tenant", "collection", "id", "created_at_s", "updated_at_s")
        }
        row["metadata"] = dict(document.metadata)
        async with self._database.writing() as connection:
            statement = update(documents).where(*_is(documents, name)).values(**row, updated_at_s=now)
            if (await connection.execute(statement)).rowcount == 0:
                key = {"tenant": name.tenant, "collection": name.collection, "id": name.document}
                await connection.execute(insert(documents).values(**key, **row, created_at_s=now, updated_at_s=now))

    async def begin_delete(self, name: DocumentName, etag: str) -> Document:
        """Claim a document for deletion and forget it; raises NotFound, Conflict (etag, or somebody writes it)."""
        document = await self.document(name)
        if etag and etag != document.etag:
            raise Conflict(f"{name} has etag {document.etag!r}", field="etag", reason="ETAG_MISMATCH")
        async with self._database.writing() as connection:
            try:
                await connection.execute(
                    insert(intents).values(**_intent_key(name), revision=0, started_at_s=self._clock())
                )
            except IntegrityError as error:
                raise Conflict(f"{name} is being written by another call", field="name") from error
            statement = delete(documents).where(*_is(documents, name), documents.c.revision == document.revision)
            if (await connection.execute(statement)).rowcount == 0:
                raise Conflict(f"{name} was changed by another call", field="name")
        return document

    async def end_intent(self, name: DocumentName) -> None:
        """Nothing is left to do for the write that was begun."""
        async with self._database.writing() as connection:
            await connection.execute(delete(intents).where(*_intent_is(name)))

    async def open_intents(self) -> list[Intent]:
        """Writes that a crash interrupted."""
        async with self._database.reading() as connection:
            rows = (await connection.execute(select(intents))).mappings().all()
        return [
            Intent(document=DocumentName(row["tenant"], row["collection"], row["document"]), revision=row["revision"])
            for row in rows
        ]


def _is(table: Table, name: CollectionName | DocumentName) -> tuple[Any, ...]:
    if isinstance(name, DocumentName):
        return (table.c.tenant == name.tenant, table.c.collection == name.collection, table.c.id == name.document)
    return (table.c.tenant == name.tenant, table.c.id == name.collection)


def _intent_key(name: DocumentName) -> dict[str, str]:
    return {"tenant": name.tenant, "collection": name.collection, "document": name.document}


def _intent_is(name: DocumentName) -> tuple[Any, ...]:
    return tuple(intents.c[column] == value for column, value in _intent_key(name).items())


def _to_collection(row: RowMapping) -> Collection:
    fields = {key: row[key] for key in Collection.__dataclass_fields__ if key != "name"}
    return Collection(name=CollectionName(row["tenant"], row["id"]), **fields)


def _to_document(row: RowMapping) -> Document:
    fields = {key: row[key] for key in Document.__dataclass_fields__ if key != "name"}
    return Document(name=DocumentName(row["tenant"], row["collection"], row["id"]), **fields)
