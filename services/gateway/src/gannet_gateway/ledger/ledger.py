"""Reads and writes of the ledger. Every method is one transaction; what returned is durable."""

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnElement, RowMapping, Table, func, insert, literal, or_, select, text, tuple_, update
from sqlalchemy.exc import IntegrityError

from gannet_gateway.ledger.engine import Database
from gannet_gateway.ledger.grouping import Grouped
from gannet_gateway.ledger.records import Collection, Document, Page
from gannet_gateway.ledger.schema import api_keys, collections, revisions, tenants
from gannet_gateway.names import CollectionName, DocumentName
from gannet_service.errors import AlreadyExists, Conflict, InvalidInput, NotFound

# A query is analysed in each of them.
LANGUAGES_MAX = 8

# Documents looked up in one read.
FOUND_MAX = 256
# What a collection's owner may change: None leaves it to the server.
Setting = float | tuple[str, ...] | None


class Ledger:
    """See the module. `clock` gives Unix seconds."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock
        self._finds = Grouped[DocumentName, Document | None](self._find_documents, batch_max=FOUND_MAX)

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
        """Make sure that the key of an existing tenant exists, with the scopes of a key from before there were any.

        A revoked key stays revoked.
        """
        row = {"digest": digest, "tenant": tenant, "label": label, "created_at_s": self._clock()}
        with contextlib.suppress(IntegrityError):  # it is there
            async with self._database.writing() as connection:
                await connection.execute(insert(api_keys).values(row))

    # ---- collections --------------------------------------------------------------------------------------------

    async def create_collection(self, collection: Collection) -> Collection:
        """Store a new collection; raises AlreadyExists."""
        row: dict[str, Any] = {
            column.name: getattr(collection, column.name)
            for column in collections.columns
            if column.name not in ("tenant", "id", "deleting", "created_at_s", "floor_raised_at_s")
        }
        name, now = collection.name, self._clock()
        row |= {"tenant": name.tenant, "id": name.collection, "deleting": False}
        row |= {"created_at_s": now, "floor_raised_at_s": now}
        async with self._database.writing() as connection:
            try:
                await connection.execute(insert(collections).values(row))
            except IntegrityError as error:
                raise AlreadyExists(f"{name} exists already", field="collection_id") from error
        return await self.collection(name)

    async def update_collection(self, name: CollectionName, settings: Mapping[str, Setting], etag: str) -> None:
        """Change settings of a collection by their columns' names.

        Raises:
            NotFound: there is none.
            Conflict: its etag is another; an empty `etag` is any.
        """
        async with self._database.writing() as connection:
            query = select(collections, literal(0).label("document_count")).where(*is_collection(name))
            row = (await connection.execute(query)).mappings().first()
            if row is None:
                raise NotFound(f"{name} does not exist", field="collection.name")
            current = _to_collection(row).etag
            if etag not in ("", current):
                raise Conflict(f"{name} has etag {current!r}", field="collection.etag", reason="ETAG_MISMATCH")
            await connection.execute(update(collections).where(*is_collection(name)).values(**settings))

    async def add_language(self, name: CollectionName, language: str) -> Collection:
        """The collection, with `language` among those of its documents from now on.

        Raises:
            NotFound: there is none.
            InvalidInput: it has LANGUAGES_MAX others.
        """
        async with self._database.writing() as connection:
            query = (
                select(collections, literal(0).label("document_count")).where(*is_collection(name)).with_for_update()
            )
            row = (await connection.execute(query)).mappings().first()
            if row is None:
                raise NotFound(f"{name} does not exist", field="parent")
            found = _to_collection(row)
            if language in found.languages:
                return found
            if len(found.languages) >= LANGUAGES_MAX:
                problem = f"language: {language!r}; documents of {name} are in {', '.join(found.languages)}, and there is room for no other"
                raise InvalidInput(problem, field="language")
            named = (*found.document_languages, language)
            await connection.execute(update(collections).where(*is_collection(name)).values(document_languages=named))
        return replace(found, document_languages=named)

    async def collection(self, name: CollectionName) -> Collection:
        """One collection with its number of documents; raises NotFound."""
        return await self._collection(name, _DOCUMENT_COUNT)

    async def collection_settings(self, name: CollectionName) -> Collection:
        """One collection without counting its documents: what every search reads. Raises NotFound."""
        return await self._collection(name, literal(0))

    async def _collection(self, name: CollectionName, count: Any) -> Collection:
        query = select(collections, count.label("document_count")).where(*is_collection(name))
        async with self._database.reading() as connection:
            row = (await connection.execute(query)).mappings().first()
        if row is None:
            raise NotFound(f"{name} does not exist", field="parent")
        return _to_collection(row)

    async def list_collections(self, tenant: str, *, after: str, limit: int) -> Page[Collection]:
        """Collections of a tenant whose id is greater than `after`."""
        query = (
            select(collections, _DOCUMENT_COUNT.label("document_count"))
            .where(collections.c.tenant == tenant, collections.c.id > after, ~collections.c.deleting)
            .order_by(collections.c.id)
            .limit(limit + 1)
        )
        async with self._database.reading() as connection:
            rows = (await connection.execute(query)).mappings().all()
        items = [_to_collection(row) for row in rows[:limit]]
        return Page(items=items, next_after=items[-1].name.collection if len(rows) > limit else None)

    async def embedding_models(self) -> list[tuple[str, str]]:
        """The models, by name and digest, that some collection's vectors are made with."""
        query = select(collections.c.embedding_model, collections.c.embedding_model_digest).distinct()
        async with self._database.reading() as connection:
            return [(model, digest) for model, digest in (await connection.execute(query)).all()]

    # ---- documents ----------------------------------------------------------------------------------------------

    async def document(self, name: DocumentName, identities: Sequence[str] | None = None) -> Document:
        """A document's live revision; raises NotFound, also where `identities` are given and may not read it."""
        found = await self.find_document(name)
        if found is None or not (identities is None or found.is_read_by(identities)):
            raise NotFound(f"{name} does not exist", field="name")
        return found

    async def find_document(self, name: DocumentName) -> Document | None:
        """A document's live revision, or None."""
        return await self._finds.submit(name)

    async def _find_documents(self, names: list[DocumentName]) -> list[Document | None]:
        key = tuple_(revisions.c.tenant, revisions.c.collection, revisions.c.document)
        wanted = key.in_([(name.tenant, name.collection, name.document) for name in names])
        query = select(revisions).select_from(_WITH_COLLECTION).where(wanted, *_VISIBLE)
        async with self._database.reading() as connection:
            found = map(to_document, (await connection.execute(query)).mappings().all())
        live = {document.name: document for document in found}
        return [live.get(name) for name in names]

    async def list_documents(
        self, name: CollectionName, *, after: str, limit: int, identities: Sequence[str] | None = None
    ) -> Page[Document]:
        """Documents of a collection whose id is greater than `after`, in the order of their ids; with `identities` those they read."""
        query = (
            select(revisions)
            .select_from(_WITH_COLLECTION)
            .where(*in_collection(revisions, name), *_VISIBLE, *_read_by(identities), revisions.c.document > after)
            .order_by(revisions.c.document)
            .limit(limit + 1)
        )
        async with self._database.reading() as connection:
            rows = (await connection.execute(query)).mappings().all()
        items = [to_document(row) for row in rows[:limit]]
        return Page(items=items, next_after=items[-1].name.document if len(rows) > limit else None)

    async def revision(self, name: DocumentName, revision: int) -> Document:
        """One published revision of a document, live or not; raises NotFound."""
        query = (
            select(revisions)
            .select_from(_WITH_COLLECTION)
            .where(*in_document(revisions, name), *_PUBLISHED, revisions.c.revision == revision)
        )
        async with self._database.reading() as connection:
            row = (await connection.execute(query)).mappings().first()
        if row is None:
            raise NotFound(f"{name} has no revision {revision}", field="revision")
        return to_document(row)

    async def list_revisions(
        self, name: DocumentName, *, below: int, limit: int, identities: Sequence[str] | None = None
    ) -> Page[Document]:
        """Published revisions of a document, newest first; `below` = 0 begins at the newest; with `identities` those they read."""
        conditions = (*in_document(revisions, name), *_PUBLISHED, *_read_by(identities))
        query = (
            select(revisions)
            .select_from(_WITH_COLLECTION)
            .where(*conditions, *([revisions.c.revision < below] if below else []))
            .order_by(revisions.c.revision.desc())
            .limit(limit + 1)
        )
        async with self._database.reading() as connection:
            rows = (await connection.execute(query)).mappings().all()
        items = [to_document(row) for row in rows[:limit]]
        return Page(items=items, next_after=str(items[-1].revision) if len(rows) > limit else None)


_DOCUMENT_COUNT = (
    select(func.count())
    .select_from(revisions)
    .where(
        revisions.c.tenant == collections.c.tenant,
        revisions.c.collection == collections.c.id,
        revisions.c.gen_from <= collections.c.generation,
        collections.c.generation < revisions.c.gen_to,
    )
    .scalar_subquery()
)
# What readers see: one statement, so that generation and revisions are of one moment.
_WITH_COLLECTION = revisions.join(
    collections, (collections.c.tenant == revisions.c.tenant) & (collections.c.id == revisions.c.collection)
)
_PUBLISHED = (revisions.c.gen_from <= collections.c.generation, ~collections.c.deleting)
_VISIBLE = (*_PUBLISHED, collections.c.generation < revisions.c.gen_to)


def in_collection(table: Table, name: CollectionName) -> tuple[ColumnElement[bool], ...]:
    """The rows of a table that belong to a collection."""
    return (table.c.tenant == name.tenant, table.c.collection == name.collection)


def in_document(table: Table, name: DocumentName) -> tuple[ColumnElement[bool], ...]:
    """The rows of a table that belong to a document."""
    return (*in_collection(table, name.parent), table.c.document == name.document)


def is_collection(name: CollectionName) -> tuple[ColumnElement[bool], ...]:
    """The row of a collection that is not being deleted."""
    return (collections.c.tenant == name.tenant, collections.c.id == name.collection, ~collections.c.deleting)


def _to_collection(row: RowMapping) -> Collection:
    fields = {key: row[key] for key in Collection.__dataclass_fields__ if key != "name"}
    fields |= {key: tuple(row[key]) for key in ("generators", "document_languages")}
    return Collection(name=CollectionName(row["tenant"], row["id"]), **fields)


def to_document(row: RowMapping) -> Document:
    """The record in a row of `revisions`."""
    fields = {key: row[key] for key in Document.__dataclass_fields__ if key not in ("name", "readers")}
    name = DocumentName(row["tenant"], row["collection"], row["document"])
    return Document(name=name, readers=tuple(row["readers"].split()), **fields)


def to_readers(readers: Sequence[str]) -> str:
    """Readers as `revisions` holds them: each between line ends, so that none is found inside another."""
    return "".join(["\n", *(f"{reader}\n" for reader in readers)]) if readers else ""


def _read_by(identities: Sequence[str] | None) -> list[ColumnElement[bool]]:
    """Revisions that a caller may know of; None means whoever their readers are.

    LIKE ignores case on SQLite; replacing does on neither engine.
    """
    if identities is None:
        return []
    column = revisions.c.readers
    return [or_(column == "", *(func.replace(column, f"\n{each}\n", "") != column for each in identities))]
