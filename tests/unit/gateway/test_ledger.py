import asyncio
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from fakes.postgres import PostgresServer
from sqlalchemy import Connection
from unit.gateway.fakes import COLLECTION, collection_record

from gannet_gateway.ledger import engine, schema
from gannet_gateway.ledger.ledger import Ledger
from gannet_gateway.ledger.records import Document, Intent
from gannet_gateway.names import CollectionName, DocumentName
from gannet_service.errors import AlreadyExists, Conflict, DependencyUnavailable, NotFound

NAME = COLLECTION.document("a.md")


def document(name: DocumentName = NAME, revision: int = 1, **fields: Any) -> Document:
    """A document as it is committed."""
    defaults = {
        "title": "A",
        "mime_type": "text/plain",
        "metadata": {"n": 1.5, "tags": ["x", "č"], "ok": True},
        "text_bytes": 3,
        "chunk_count": 1,
        "content_sha256": "0" * 64,
        "fingerprint": "f" * 64,
        "created_at_s": 0.0,
        "updated_at_s": 0.0,
    }
    return Document(name=name, revision=revision, **{**defaults, **fields})


async def write(ledger: Ledger, name: DocumentName = NAME) -> int:
    """One write from claim to release."""
    revision = await ledger.begin_write(name)
    await ledger.commit_write(document(name, revision))
    await ledger.end_intent(name)
    return revision


async def test_migrations_give_the_schema_of_the_metadata(database: engine.Database):
    """A change of schema.py without a migration fails here."""

    def differences(connection: Connection) -> list[Any]:
        return compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), schema.metadata)

    async with database.reading() as connection:
        assert await connection.run_sync(differences) == []


async def test_ledger_opened_again_keeps_everything(ledger: Ledger, tmp_path: Path, ledger_url: str):
    """Migrating a migrated ledger changes nothing; a committed document is there."""
    await write(ledger)
    again = Ledger(await engine.open_database(tmp_path, ledger_url))
    assert (await again.document(NAME)).revision == 1
    await again.close()


async def test_ledger_connection_is_durable_and_checked(tmp_path: Path):
    """WAL with synchronous=FULL: what was committed survives a power cut; foreign keys are enforced."""
    opened = await engine.open_database(tmp_path)
    async with opened.reading() as connection:
        found = [
            (await connection.exec_driver_sql(f"PRAGMA {name}")).scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        ]
    assert found == ["wal", 2, 1, engine.BUSY_TIMEOUT_MS]
    await opened.close()


async def test_database_that_does_not_answer_is_unavailable(tmp_path: Path):
    """Named as the ledger, so that a caller may try again and an operator knows where to look."""
    with pytest.raises(DependencyUnavailable, match="ledger: ") as caught:
        await engine.open_database(tmp_path, f"postgresql://nobody@/none?host={tmp_path}")
    assert caught.value.reason == "LEDGER_UNAVAILABLE"


async def test_databases_opened_together_migrate_once(postgres: PostgresServer, tmp_path: Path):
    """Gateways that start side by side over one empty database all come up."""
    url = postgres.database()
    opened = await asyncio.gather(*(engine.open_database(tmp_path, url) for _ in range(4)))
    for each in opened:
        await Ledger(each).probe()
        await each.close()


def test_lock_of_a_folder_in_use_is_refused(tmp_path: Path):
    """SQLite means one gateway."""
    held = engine.lock(tmp_path)
    assert held
    with pytest.raises(engine.LedgerLocked, match=str(tmp_path)):
        engine.lock(tmp_path)


async def test_api_key_is_known_until_it_is_unknown(ledger: Ledger):
    """By its digest; adding it again is no error, and a key stays with its first tenant."""
    await ledger.add_tenant("other")
    await ledger.add_api_key("acme", "d1", "first")
    await ledger.add_api_key("other", "d1", "again")
    assert [await ledger.tenant_of_key(digest) for digest in ("d1", "d2")] == ["acme", None]


async def test_tenant_added_twice_is_one(ledger: Ledger):
    """Every start of a gateway adds it."""
    await ledger.add_tenant("acme")
    await ledger.probe()


async def test_collection_created_is_returned_with_its_count(ledger: Ledger):
    """Settings as given; documents counted where asked for."""
    created = await ledger.create_collection(
        collection_record(CollectionName("acme", "two"), language="hr", rerank=False)
    )
    assert (created.language, created.rerank, created.document_count, created.generation) == ("hr", False, 0, 1)
    await write(ledger)
    assert (await ledger.collection(COLLECTION)).document_count == 1
    assert (await ledger.collection_settings(COLLECTION)).document_count == 0


async def test_collection_created_twice_is_refused(ledger: Ledger):
    """And the first one is unchanged."""
    with pytest.raises(AlreadyExists, match="tenants/acme/collections/docs exists already"):
        await ledger.create_collection(collection_record(language="hr"))
    assert (await ledger.collection(COLLECTION)).language == "en"


async def test_lists_page_through_everything_once(ledger: Ledger):
    """Each page continues after the last id; the last page says that it is the last; tenants are apart."""
    await ledger.add_tenant("other")
    await ledger.create_collection(collection_record(CollectionName("other", "aaa")))
    names = [COLLECTION.document(document_id) for document_id in ("z", "a/b", "ž", "a")]
    for name in names:
        await write(ledger, name)
    seen: list[str] = []
    after: str | None = ""
    while after is not None:
        page = await ledger.list_documents(COLLECTION, after=after, limit=3)
        seen += [item.name.document for item in page.items]
        after = page.next_after
    assert seen == sorted(name.document for name in names)
    page = await ledger.list_collections("acme", after="", limit=1)
    assert ([item.name.collection for item in page.items], page.next_after) == (["docs"], None)
    assert page.items[0].document_count == 4
    assert (await ledger.list_collections("acme", after="docs", limit=1)).items == []


async def test_document_written_is_read_back_whole(ledger: Ledger):
    """Metadata of every type, times of creation and change, and an etag that changes."""
    await write(ledger)
    first = await ledger.document(NAME)
    await write(ledger)
    second = await ledger.document(NAME)
    assert first.metadata == {"n": 1.5, "tags": ["x", "č"], "ok": True}
    assert (first.revision, second.revision) == (1, 2)
    assert second.created_at_s == first.created_at_s < first.updated_at_s + 1 <= second.updated_at_s
    assert first.etag != second.etag


async def test_document_unknown_is_not_found(ledger: Ledger):
    """Also in a collection that does not exist."""
    for name in (NAME, CollectionName("acme", "none").document("a")):
        assert await ledger.find_document(name) is None
        with pytest.raises(NotFound, match=f"{name} does not exist"):
            await ledger.document(name)
    with pytest.raises(NotFound):
        await ledger.begin_write(CollectionName("acme", "none").document("a"))


async def test_document_being_written_is_claimed(ledger: Ledger):
    """A second writer and a deletion are refused; after the release they are not."""
    await write(ledger)
    assert await ledger.begin_write(NAME) == 2
    with pytest.raises(Conflict, match="being written by another call"):
        await ledger.begin_write(NAME)
    with pytest.raises(Conflict, match="being written by another call"):
        await ledger.begin_delete(NAME, "")
    assert await ledger.open_intents() == [Intent(document=NAME, revision=2)]
    assert (await ledger.document(NAME)).revision == 1
    await ledger.end_intent(NAME)
    assert await ledger.open_intents() == []
    assert await ledger.begin_write(NAME) == 2


async def test_claims_at_the_same_time_let_one_through(ledger: Ledger):
    """Whoever loses is told, and nobody waits for ever."""
    results = await asyncio.gather(*(ledger.begin_write(NAME) for _ in range(8)), return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["Conflict"] * 7 + ["int"]


async def test_create_only_of_an_existing_document_is_refused(ledger: Ledger):
    """The claim decides, so that two creators at once cannot both win."""
    await write(ledger)
    with pytest.raises(AlreadyExists):
        await ledger.begin_write(NAME, create_only=True)
    assert await ledger.open_intents() == []
    assert await ledger.begin_write(COLLECTION.document("new"), create_only=True) == 1


async def test_delete_with_another_etag_is_refused(ledger: Ledger):
    """And the document is still there; with its own etag it goes."""
    await write(ledger)
    with pytest.raises(Conflict) as caught:
        await ledger.begin_delete(NAME, "1-other")
    assert (caught.value.field, caught.value.reason) == ("etag", "ETAG_MISMATCH")
    await ledger.begin_delete(NAME, (await ledger.document(NAME)).etag)
    assert await ledger.find_document(NAME) is None
    assert await ledger.open_intents() == [Intent(document=NAME, revision=0)]


async def test_delete_of_an_unknown_document_is_not_found(ledger: Ledger):
    """Without leaving a claim."""
    with pytest.raises(NotFound):
        await ledger.begin_delete(NAME, "")
    assert await ledger.open_intents() == []


async def test_collection_being_deleted_is_hidden_from_everyone(ledger: Ledger):
    """Its documents too; a restart finds it and finishes; then the name is free."""
    await write(ledger)
    await ledger.begin_delete_collection(COLLECTION)
    for read in (ledger.collection, ledger.collection_settings, ledger.begin_delete_collection):
        with pytest.raises(NotFound):
            await read(COLLECTION)
    assert await ledger.find_document(NAME) is None
    assert (await ledger.list_collections("acme", after="", limit=9)).items == []
    with pytest.raises(NotFound):
        await ledger.begin_write(NAME)
    assert await ledger.collections_being_deleted() == [(COLLECTION, "m", "d" * 64)]
    with pytest.raises(AlreadyExists):
        await ledger.create_collection(collection_record())
    await ledger.finish_delete_collection(COLLECTION)
    assert await ledger.collections_being_deleted() == []
    assert (await ledger.create_collection(collection_record())).document_count == 0


async def test_collection_with_a_writer_is_not_deleted(ledger: Ledger):
    """A writer that ended after the erasure would leave passages of a collection that is gone."""
    await ledger.begin_write(NAME)
    with pytest.raises(Conflict, match="being written"):
        await ledger.begin_delete_collection(COLLECTION)
    assert await ledger.collections_being_deleted() == []
    await ledger.end_intent(NAME)
    await ledger.begin_delete_collection(COLLECTION)
