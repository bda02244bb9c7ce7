import asyncio
from typing import Any

import pytest
from unit.gateway.conftest import Clock
from unit.gateway.fakes import COLLECTION, change, published

from gannet_gateway.ledger.claiming import Claimed
from gannet_gateway.ledger.engine import Database
from gannet_gateway.ledger.journal import Journal
from gannet_gateway.ledger.ledger import Ledger
from gannet_gateway.ledger.records import Purpose
from gannet_gateway.ledger.retention import Retention
from gannet_gateway.names import CollectionName
from gannet_service.errors import AlreadyExists, Conflict, NotFound

NAME, OTHER = COLLECTION.document("a.md"), COLLECTION.document("b.md")
WRITE, DELETE, PURGE = Purpose.WRITE, Purpose.DELETE, Purpose.PURGE


async def test_claim_of_a_document_is_held_by_one(journal: Journal):
    """A second writer and a deletion are refused; after the release they are not. Revisions count up from 1."""
    await published(journal, NAME)
    claim = await journal.claim(NAME, WRITE)
    assert (claim.revision, claim.live and claim.live.revision) == (2, 1)
    for purpose in Purpose:
        with pytest.raises(Claimed, match="being written by another call"):
            await journal.claim(NAME, purpose)
    await journal.release(claim)
    again = await journal.claim(NAME, WRITE)
    assert (again.revision, again.attempt != claim.attempt) == (2, True)


async def test_claims_at_the_same_time_let_one_through(journal: Journal):
    """Whoever loses is told, and nobody waits for ever."""
    results = await asyncio.gather(*(journal.claim(NAME, WRITE) for _ in range(8)), return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["Claim"] + ["Claimed"] * 7


@pytest.mark.parametrize(
    "purpose, options, error",
    [
        (WRITE, {"create_only": True}, AlreadyExists),
        (WRITE, {"etag": "1-other"}, Conflict),
        (DELETE, {"etag": "1-other"}, Conflict),
    ],
)
async def test_claim_on_a_condition_that_does_not_hold_leaves_none(
    purpose: Purpose, options: dict[str, object], error: type[Exception], journal: Journal
):
    """The claim decides, so that two creators at once cannot both win."""
    await published(journal, NAME)
    with pytest.raises(error):
        await journal.claim(NAME, purpose, **options)
    assert (await journal.claim(NAME, purpose)).live is not None


@pytest.mark.parametrize("purpose", [DELETE, PURGE])
async def test_claim_of_what_is_not_there_is_not_found(purpose: Purpose, journal: Journal):
    """Nor is a collection that does not exist; no claim is left."""
    with pytest.raises(NotFound):
        await journal.claim(NAME, purpose)
    with pytest.raises(NotFound):
        await journal.claim(CollectionName("acme", "none").document("a"), WRITE)
    await journal.claim(NAME, WRITE)


async def test_claim_whose_lease_ran_out_is_taken_over_once(journal: Journal, clock: Clock):
    """Renewed it stays; expired, one of those who look gets it, and its first holder cannot publish any more."""
    claim = await journal.claim(NAME, WRITE)
    clock.now += 20
    await journal.renew([claim.holder])
    clock.now += 20
    assert await journal.expired_claims() == []
    assert await journal.take_over(NAME) is None
    clock.now += 20
    assert await journal.expired_claims() == await journal.expired_claims(COLLECTION) == [NAME]
    found = await asyncio.gather(*(journal.take_over(NAME) for _ in range(4)))
    (taken,) = [each for each in found if each is not None]
    assert (taken.attempt, taken.holder != claim.holder) == (claim.attempt, True)
    with pytest.raises(Conflict) as caught:
        await journal.begin_publish(COLLECTION, [change(claim)])
    assert caught.value.reason == "CLAIM_LOST"
    await journal.release(claim)
    with pytest.raises(Claimed):
        await journal.claim(NAME, WRITE)
    await journal.release(taken)
    await journal.claim(NAME, WRITE)


async def test_publish_shows_all_its_changes_at_once(journal: Journal, ledger: Ledger):
    """Before the flip readers see the old state, after it the new one; the claims are free."""
    await published(journal, NAME)
    changes = [change(await journal.claim(NAME, DELETE)), change(await journal.claim(OTHER, WRITE))]
    publish = await journal.begin_publish(COLLECTION, changes)
    assert publish.generation == 3
    assert [document.name for document in publish.staged] == [OTHER]
    assert [document.name for document in publish.retired] == [NAME]
    assert (await ledger.document(NAME)).revision == 1
    assert await ledger.find_document(OTHER) is None
    assert (await ledger.collection(COLLECTION)).generation == 2
    await journal.finish_publish(publish)
    assert await ledger.find_document(NAME) is None
    assert (await ledger.document(OTHER)).gen_from == 3
    assert (await ledger.collection(COLLECTION)).document_count == 1
    assert (await journal.claim(NAME, WRITE)).revision == 2


async def test_publish_of_a_collection_has_one_publisher(journal: Journal):
    """Eight at once: one intent. The others wait for its end."""
    claims = [await journal.claim(COLLECTION.document(str(number)), WRITE) for number in range(8)]
    tries = [journal.begin_publish(COLLECTION, [change(claim)]) for claim in claims]
    results = await asyncio.gather(*tries, return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["Claimed"] * 7 + ["Publish"]


async def test_publish_leaves_out_what_was_taken_over(journal: Journal, clock: Clock):
    """One lost claim does not hold up the others of its publish."""
    lost = await journal.claim(NAME, WRITE)
    clock.now += 31
    assert await journal.take_over(NAME) is not None
    kept = await journal.claim(OTHER, WRITE)
    publish = await journal.begin_publish(COLLECTION, [change(lost), change(kept)])
    assert publish.accepted == {kept.holder}
    assert [document.name for document in publish.staged] == [OTHER]


async def test_publish_is_never_taken_back(journal: Journal, clock: Clock, ledger: Ledger):
    """Its claims stay with it; when its lease runs out another takes it over, whole, and finishing it twice is once."""
    claim = await journal.claim(NAME, WRITE)
    publish = await journal.begin_publish(COLLECTION, [change(claim)])
    assert await journal.take_over(NAME, holder=claim.holder) is None
    assert await journal.take_over_publish(COLLECTION) is None
    clock.now += 31
    assert await journal.expired_claims() == []
    assert await journal.take_over(NAME) is None
    assert await journal.expired_publishes() == [COLLECTION]
    taken = await journal.take_over_publish(COLLECTION)
    assert taken is not None
    assert (taken.generation, taken.staged) == (publish.generation, publish.staged)
    assert await journal.take_over_publish(COLLECTION) is None
    await journal.finish_publish(taken)
    await published(journal, OTHER)
    await journal.finish_publish(publish)
    assert (await ledger.collection(COLLECTION)).generation == publish.generation + 1


async def test_abandoned_leases_end_at_once(journal: Journal):
    """What a writer could not undo need not wait; nor what a dead predecessor held."""
    first, second = await journal.claim(NAME, WRITE), await journal.claim(OTHER, WRITE)
    await journal.abandon([first.holder])
    assert await journal.expired_claims() == [NAME]
    await journal.begin_publish(COLLECTION, [change(second)])
    await journal.abandon_all()
    assert await journal.expired_publishes() == [COLLECTION]


async def test_collection_being_deleted_is_hidden_from_everyone(journal: Journal, ledger: Ledger):
    """Its documents too; a restart finds it and finishes; then the name is free."""
    await published(journal, NAME)
    await journal.begin_delete_collection(COLLECTION)
    for read in (ledger.collection, ledger.collection_settings, journal.begin_delete_collection):
        with pytest.raises(NotFound):
            await read(COLLECTION)
    assert await ledger.find_document(NAME) is None
    assert (await ledger.list_revisions(NAME, below=0, limit=9)).items == []
    assert (await ledger.list_collections("acme", after="", limit=9)).items == []
    with pytest.raises(NotFound):
        await journal.claim(NAME, WRITE)
    assert await journal.collections_being_deleted() == [(COLLECTION, "m", "d" * 64)]
    assert await journal.begin_erase(COLLECTION)
    await journal.finish_delete_collection(COLLECTION)
    assert await journal.collections_being_deleted() == []
    with pytest.raises(NotFound):
        await ledger.collection(COLLECTION)


async def test_collection_is_erased_by_one(journal: Journal, clock: Clock):
    """A second eraser could meet a new collection of the same name; a dead one is replaced."""
    assert await journal.begin_erase(COLLECTION) is None
    await journal.begin_delete_collection(COLLECTION)
    assert await journal.begin_erase(COLLECTION)
    assert await journal.begin_erase(COLLECTION) is None
    clock.now += 31
    assert await journal.begin_erase(COLLECTION)
    assert await journal.take_over_publish(COLLECTION) is None
    assert await journal.expired_publishes() == []


async def test_collection_with_a_writer_is_not_deleted(journal: Journal):
    """A writer that ended after the erasure would leave passages of a collection that is gone."""
    claim = await journal.claim(NAME, WRITE)
    with pytest.raises(Conflict, match="being written"):
        await journal.begin_delete_collection(COLLECTION)
    assert await journal.collections_being_deleted() == []
    await journal.release(claim)
    await journal.begin_delete_collection(COLLECTION)


async def test_floor_rises_over_what_ended_long_enough_ago(
    journal: Journal, ledger: Ledger, retention: Retention, clock: Clock
):
    """Not over what the open publish ends, and not again before what is below it was collected."""
    await published(journal, NAME)
    await published(journal, NAME)
    await retention.raise_floors(retention_s=60)
    assert (await ledger.collection(COLLECTION)).gen_floor == 1
    clock.now += 61
    await retention.raise_floors(retention_s=60)
    assert (await ledger.collection(COLLECTION)).gen_floor == 3
    await published(journal, NAME)
    await retention.raise_floors(retention_s=0)
    assert (await ledger.collection(COLLECTION)).gen_floor == 3
    assert await retention.floors_to_collect(delay_s=60) == []
    clock.now += 61
    (floor,) = await retention.floors_to_collect(delay_s=60)
    assert (floor.collection, floor.generation) == (COLLECTION, 3)
    await retention.mark_collected(floor)
    assert await retention.floors_to_collect(delay_s=0) == []
    await journal.begin_publish(COLLECTION, [change(await journal.claim(NAME, WRITE))])
    await retention.raise_floors(retention_s=0)
    assert (await ledger.collection(COLLECTION)).gen_floor == 3


async def test_pruned_is_what_is_collected_and_not_kept(journal: Journal, ledger: Ledger, retention: Retention):
    """Of a living document the newest earlier revisions are kept, of a deleted one nothing."""
    for _ in range(4):
        await published(journal, NAME)
    await published(journal, OTHER)
    await published(journal, OTHER, purpose=DELETE)
    assert await retention.to_prune(COLLECTION, kept=0) == []
    await retention.raise_floors(retention_s=0)
    (floor,) = await retention.floors_to_collect(delay_s=0)
    await retention.mark_collected(floor)
    old = await retention.to_prune(COLLECTION, kept=2)
    assert [(document.name, document.revision) for document in old] == [(NAME, 1), (OTHER, 1)]
    await retention.prune(COLLECTION, old)
    assert await retention.to_prune(COLLECTION, kept=2) == []
    assert [item.revision for item in (await ledger.list_revisions(NAME, below=0, limit=9)).items] == [4, 3, 2]
    assert (await ledger.list_revisions(OTHER, below=0, limit=9)).items == []


async def test_purge_forgets_every_revision_and_raises_the_epoch(journal: Journal, ledger: Ledger):
    """No cache key made before is made again; the claim is gone."""
    await published(journal, NAME)
    await published(journal, NAME)
    await journal.finish_purge(await journal.claim(NAME, PURGE))
    assert await ledger.find_document(NAME) is None
    assert (await ledger.collection_settings(COLLECTION)).cache_epoch == 1
    assert (await journal.claim(NAME, WRITE)).revision == 1


async def test_journal_claims_of_one_moment_share_a_transaction(journal: Journal, database: Database):
    """A transaction costs milliseconds, whatever is in it."""
    begun = 0
    real = database.writing

    def counted() -> Any:
        nonlocal begun
        begun += 1
        return real()

    database.writing = counted  # pyright: ignore[reportAttributeAccessIssue]
    claims = await asyncio.gather(
        *(journal.claim(COLLECTION.document(f"d{number}"), Purpose.WRITE) for number in range(20))
    )
    assert len({claim.holder for claim in claims}) == 20
    assert begun == 1
