import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from fakes.postgres import PostgresServer
from sqlalchemy import Connection, create_engine
from unit.gateway.fakes import COLLECTION, change, collection_record, published

from gannet_gateway.ledger import engine, schema
from gannet_gateway.ledger.journal import Journal
from gannet_gateway.ledger.ledger import Ledger
from gannet_gateway.ledger.records import Purpose
from gannet_gateway.names import CollectionName
from gannet_service.errors import AlreadyExists, Conflict, DependencyUnavailable, GannetError, NotFound

NAME = COLLECTION.document("a.md")


async def test_migrations_give_the_schema_of_the_metadata(database: engine.Database):
    """A change of schema.py without a migration fails here."""

    def differences(connection: Connection) -> list[Any]:
        return compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), schema.metadata)

    async with database.reading() as connection:
        assert await connection.run_sync(differences) == []


async def test_ledger_opened_again_keeps_everything(ledger: Ledger, journal: Journal, tmp_path: Path, ledger_url: str):
    """Migrating a migrated ledger changes nothing; a committed document is there."""
    await published(journal, NAME)
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


async def test_tenant_added_twice_is_one(ledger: Ledger):
    """Every start of a gateway adds it."""
    await ledger.add_tenant("acme")
    await ledger.probe()


async def test_collection_created_is_returned_with_its_count(ledger: Ledger, journal: Journal):
    """Settings as given; documents counted where asked for."""
    created = await ledger.create_collection(
        collection_record(CollectionName("acme", "two"), language="hr", rerank=False)
    )
    assert (created.language, created.rerank, created.document_count, created.generation) == ("hr", False, 0, 1)
    await published(journal, NAME)
    assert (await ledger.collection(COLLECTION)).document_count == 1
    assert (await ledger.collection_settings(COLLECTION)).document_count == 0


async def test_collection_created_twice_is_refused(ledger: Ledger):
    """And the first one is unchanged."""
    with pytest.raises(AlreadyExists, match="tenants/acme/collections/docs exists already"):
        await ledger.create_collection(collection_record(language="hr"))
    assert (await ledger.collection(COLLECTION)).language == "en"


async def test_lists_page_through_everything_once(ledger: Ledger, journal: Journal):
    """Each page continues after the last id; the last page says that it is the last; tenants are apart."""
    await ledger.add_tenant("other")
    await ledger.create_collection(collection_record(CollectionName("other", "aaa")))
    names = [COLLECTION.document(document_id) for document_id in ("z", "a/b", "ž", "a")]
    for name in names:
        await published(journal, name)
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


async def test_document_written_is_read_back_whole(ledger: Ledger, journal: Journal):
    """Metadata of every type, times of creation and change, and an etag that changes."""
    await published(journal, NAME)
    first = await ledger.document(NAME)
    await published(journal, NAME)
    second = await ledger.document(NAME)
    assert first.metadata == {"n": 1.5, "tags": ["x", "č"], "ok": True}
    assert (first.revision, second.revision) == (1, 2)
    assert second.created_at_s == first.created_at_s <= first.updated_at_s < second.updated_at_s
    assert first.etag != second.etag


async def test_document_unknown_is_not_found(ledger: Ledger):
    """Also in a collection that does not exist."""
    for name in (NAME, CollectionName("acme", "none").document("a")):
        assert await ledger.find_document(name) is None
        with pytest.raises(NotFound, match=f"{name} does not exist"):
            await ledger.document(name)


async def test_documents_looked_up_together_are_each_its_own(ledger: Ledger, journal: Journal):
    """One read for many: what is missing is None in its place, and the same id in another collection is another document."""
    other = CollectionName("acme", "other")
    await ledger.create_collection(collection_record(other))
    names = [
        COLLECTION.document("a"),
        other.document("b"),
        COLLECTION.document("b"),
        COLLECTION.document("c"),
        other.document("c"),
    ]
    written = [names[0], names[2], names[4]]
    for name in written:
        await published(journal, name)
    found = await asyncio.gather(*(ledger.find_document(name) for name in [*names, *reversed(names)]))
    wanted = [name if name in written else None for name in names]
    assert [document and document.name for document in found] == [*wanted, *reversed(wanted)]


async def test_revisions_are_listed_newest_first(ledger: Ledger, journal: Journal):
    """In pages, each revision once; what an open publish holds is not among them."""
    for _ in range(3):
        await published(journal, NAME)
    await journal.begin_publish(COLLECTION, [change(await journal.claim(NAME, Purpose.WRITE))])
    first = await ledger.list_revisions(NAME, below=0, limit=2)
    rest = await ledger.list_revisions(NAME, below=int(first.next_after or 0), limit=2)
    assert [item.revision for item in (*first.items, *rest.items)] == [3, 2, 1]
    assert rest.next_after is None
    assert (await ledger.revision(NAME, 2)).gen_to == 4
    with pytest.raises(NotFound):
        await ledger.revision(NAME, 4)


@pytest.mark.parametrize("generation, reason", [(1, "GENERATION_GONE"), (2, None), (4, None), (5, "INVALID_INPUT")])
def test_collection_as_of_a_generation_that_is_kept_is_it(generation: int, reason: str | None):
    """Below the floor it is gone, above the newest it is not there yet; each says so by its name."""
    record = collection_record(generation=4, gen_floor=2)
    if reason is None:
        assert record.as_of(generation, "as_of") == generation
        return
    with pytest.raises(GannetError) as caught:
        record.as_of(generation, "as_of")
    assert (caught.value.reason, caught.value.field) == (reason, "as_of")


async def test_migration_of_the_first_ledger_keeps_its_documents(tmp_path: Path):
    """They are visible at every generation, and can be replaced."""
    connection = sqlite3.connect(tmp_path / "ledger.db")
    config = Config()
    config.set_main_option("script_location", str(Path(engine.__file__).parent / "migrations"))
    old = create_engine(f"sqlite:///{tmp_path / 'ledger.db'}")
    with old.begin() as first:
        config.attributes["connection"] = first
        command.upgrade(config, "0001")
    old.dispose()
    with connection:
        connection.execute("INSERT INTO tenants VALUES ('acme', 0)")
        connection.execute(
            "INSERT INTO collections VALUES ('acme', 'docs', 200, 0, 'en', 1, 'm', ?, 2, 1, 0, 0)", ("d" * 64,)
        )
        connection.execute(
            "INSERT INTO documents VALUES ('acme', 'docs', 'a.md', 3, 'A', 'text/plain', '{}', 3, 1, '', 'f', 5, 6)"
        )
    connection.close()
    opened = await engine.open_database(tmp_path)
    ledger = Ledger(opened)
    kept = await ledger.document(NAME)
    assert (kept.revision, kept.attempt, kept.created_at_s, kept.gen_from) == (3, "", 5.0, 1)
    await published(Journal(opened, lease_s=30), NAME)
    assert (await ledger.document(NAME)).revision == 4
    assert (await ledger.collection(COLLECTION)).document_count == 1
    await opened.close()


async def test_collection_update_is_one_decision(ledger: Ledger):
    """Of two writers who read the same state one is told that it is another now; no etag means any state."""
    seen = (await ledger.collection(COLLECTION)).etag
    await ledger.update_collection(COLLECTION, {"cache_results": False}, seen)
    with pytest.raises(Conflict):
        await ledger.update_collection(COLLECTION, {"cache_results": True}, seen)
    assert (await ledger.collection(COLLECTION)).cache_results is False
    await ledger.update_collection(COLLECTION, {"cache_results": None, "rerank": False}, "")
    changed = await ledger.collection_settings(COLLECTION)
    assert (changed.cache_results, changed.rerank) == (None, False)
    await ledger.update_collection(COLLECTION, {"generators": ("upstream", "extractive")}, changed.etag)
    chained = await ledger.collection_settings(COLLECTION)
    assert (chained.generators, chained.etag == changed.etag) == (("upstream", "extractive"), False)
    with pytest.raises(NotFound):
        await ledger.update_collection(CollectionName("acme", "none"), {"rerank": True}, "")
