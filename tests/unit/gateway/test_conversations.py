"""Conversations, feedback and prompts in the ledger, on both engines."""

import asyncio

import pytest
from unit.gateway.fakes import COLLECTION, collection_record

from gannet_gateway.ledger.conversations import Bounds, Conversations, Turn
from gannet_gateway.ledger.engine import Database
from gannet_gateway.ledger.feedback import Feedback, FeedbackBook
from gannet_gateway.ledger.journal import Journal
from gannet_gateway.ledger.ledger import Ledger
from gannet_gateway.ledger.prompts import Prompts
from gannet_gateway.names import CollectionName, PromptName
from gannet_service.errors import NotFound, Overloaded

ANN, BOB = "user:ann", "user:bob"
STRANGER = CollectionName("other", "docs")


def turn(question: str = "why?", answer: str = "because") -> Turn:
    """A turn as an answer appends it."""
    return Turn(answer_id="a" * 32, question=question, answer=answer, finish_reason="FINISH_REASON_STOP", generation=3)


@pytest.fixture
def conversations(ledger: Ledger, database: Database) -> Conversations:
    """Three conversations a user, of three turns and 100 bytes."""
    return Conversations(database, Bounds(conversations_max=3, turns_max=3, bytes_max=100))


async def test_conversation_keeps_its_turns_in_order(conversations: Conversations):
    """Ordinals from 1; the newest ones come back oldest first; pages join without a gap."""
    name = (await conversations.create(COLLECTION, ANN, "čaj")).name
    ordinals = [await conversations.append(name, ANN, turn(f"q{place}")) for place in range(3)]
    assert ordinals == [1, 2, 3]
    assert [kept.question for kept in await conversations.recent(name, limit=2)] == ["q1", "q2"]
    first = await conversations.turns(name, after=0, limit=2)
    rest = await conversations.turns(name, after=int(first.next_after or 0), limit=2)
    assert [kept.question for kept in (*first.items, *rest.items)] == ["q0", "q1", "q2"]
    assert (rest.next_after, first.items[0].answer, first.items[0].generation) == (None, "because", 3)
    kept = await conversations.get(name, ANN)
    assert (kept.title, kept.turn_count, kept.text_bytes) == ("čaj", 3, 27)


async def test_conversation_of_another_user_or_tenant_does_not_exist(ledger: Ledger, conversations: Conversations):
    """Neither read nor written nor deleted nor listed."""
    await ledger.add_tenant(STRANGER.tenant)
    await ledger.create_collection(collection_record(STRANGER))
    name = (await conversations.create(COLLECTION, ANN, "")).name
    foreign = type(name)(STRANGER.tenant, STRANGER.collection, name.conversation)
    for whose, owner in ((name, BOB), (name, ""), (foreign, ANN)):
        for attempt in (
            conversations.get(whose, owner),
            conversations.append(whose, owner, turn()),
            conversations.delete(whose, owner),
        ):
            with pytest.raises(NotFound):
                await attempt
    assert (await conversations.list(COLLECTION, BOB, after="", limit=9)).items == []
    assert (await conversations.list(STRANGER, ANN, after="", limit=9)).items == []
    assert [kept.name for kept in (await conversations.list(COLLECTION, ANN, after="", limit=9)).items] == [name]


async def test_conversations_are_bounded_in_number_turns_and_bytes(conversations: Conversations):
    """Each bound says which it is; another user has room of his own, and a deleted one makes room."""
    names = [(await conversations.create(COLLECTION, ANN, "")).name for _ in range(3)]
    with pytest.raises(Overloaded, match="3 conversations") as caught:
        await conversations.create(COLLECTION, ANN, "")
    assert (caught.value.reason, caught.value.retry_after_s) == ("CONVERSATIONS_MAX", None)
    await conversations.create(COLLECTION, BOB, "")
    for _ in range(3):
        await conversations.append(names[0], ANN, turn())
    with pytest.raises(Overloaded, match="3 turns"):
        await conversations.append(names[0], ANN, turn())
    with pytest.raises(Overloaded, match="100 bytes"):
        await conversations.append(names[1], ANN, turn("č" * 50))
    assert (await conversations.get(names[1], ANN)).turn_count == 0
    await conversations.delete(names[0], ANN)
    await conversations.create(COLLECTION, ANN, "")


async def test_turns_that_end_together_follow_each_other(conversations: Conversations):
    """Concurrent answers in one conversation get different ordinals, and none is lost."""
    name = (await conversations.create(COLLECTION, ANN, "")).name
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(conversations.append(name, ANN, turn(f"q{place}"))) for place in range(3)]
    assert sorted(task.result() for task in tasks) == [1, 2, 3]
    assert {kept.question for kept in await conversations.recent(name, limit=9)} == {"q0", "q1", "q2"}


async def test_conversation_creators_at_once_do_not_pass_the_bound(conversations: Conversations):
    """Counting and creating are one step."""
    attempts = [conversations.create(COLLECTION, ANN, "") for _ in range(6)]
    results = await asyncio.gather(*attempts, return_exceptions=True)
    assert sum(isinstance(result, Overloaded) for result in results) == 3
    assert len((await conversations.list(COLLECTION, ANN, after="", limit=9)).items) == 3


async def test_feedback_is_listed_newest_first(ledger: Ledger, database: Database):
    """In pages; an answer's own; bounded."""
    book = FeedbackBook(database, entries_max=3)
    for place in range(3):
        entry = Feedback(owner=ANN, answer_id=f"{place:032x}", rating="RATING_UP", comment=f"c{place}", query="q")
        await book.add(COLLECTION, entry)
    first = await book.list(COLLECTION, answer_id="", before="", limit=2)
    rest = await book.list(COLLECTION, answer_id="", before=first.next_after or "", limit=2)
    assert [entry.comment for entry in (*first.items, *rest.items)] == ["c2", "c1", "c0"]
    (one,) = (await book.list(COLLECTION, answer_id=f"{1:032x}", before="", limit=9)).items
    assert (one.comment, one.rating, one.query) == ("c1", "RATING_UP", "q")
    with pytest.raises(Overloaded) as caught:
        await book.add(COLLECTION, one)
    assert caught.value.reason == "FEEDBACK_MAX"
    with pytest.raises(NotFound):
        await book.add(STRANGER, one)


async def test_prompt_versions_count_up_and_never_change(ledger: Ledger, database: Database):
    """The newest where no version is named; each is found by its number; deletion takes all."""
    prompts = Prompts(database, versions_max=3)
    name = PromptName(COLLECTION.tenant, COLLECTION.collection, "strict")
    made = [await prompts.create(name, system=f"s{place}", user="u") for place in range(2)]
    assert [prompt.version for prompt in made] == [1, 2]
    assert [await prompts.find(name, version) for version in (1, 2, None, 3)] == [*made, made[1], None]
    other = await prompts.create(PromptName(COLLECTION.tenant, COLLECTION.collection, "brief"), system="s", user="u")
    assert (await prompts.list(COLLECTION, after="", limit=1)).next_after == "brief"
    assert (await prompts.list(COLLECTION, after="", limit=9)).items == [other, made[1]]
    with pytest.raises(Overloaded) as caught:
        await prompts.create(name, system="s", user="u")
    assert caught.value.reason == "PROMPTS_MAX"
    await prompts.delete(name)
    assert await prompts.find(name, None) is None
    with pytest.raises(NotFound):
        await prompts.delete(name)


async def test_collection_that_is_deleted_takes_all_of_it_along(
    ledger: Ledger, database: Database, journal: Journal, conversations: Conversations
):
    """A new collection of the same name has no conversations, no feedback and no prompts."""
    name = (await conversations.create(COLLECTION, ANN, "")).name
    await conversations.append(name, ANN, turn())
    book, prompts = FeedbackBook(database, entries_max=3), Prompts(database, versions_max=3)
    await book.add(COLLECTION, Feedback(owner=ANN, answer_id="a" * 32, rating="RATING_UP", comment="", query=""))
    await prompts.create(PromptName(COLLECTION.tenant, COLLECTION.collection, "p"), system="s", user="u")
    await journal.begin_delete_collection(COLLECTION)
    await journal.begin_erase(COLLECTION)
    await journal.finish_delete_collection(COLLECTION)
    await ledger.create_collection(collection_record())
    assert (await conversations.list(COLLECTION, ANN, after="", limit=9)).items == []
    assert await conversations.recent(name, limit=9) == ()
    assert (await book.list(COLLECTION, answer_id="", before="", limit=9)).items == []
    assert (await prompts.list(COLLECTION, after="", limit=9)).items == []
