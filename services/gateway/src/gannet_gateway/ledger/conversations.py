"""Conversations and their turns. Every method is one transaction and finds only what belongs to `owner`."""

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import ColumnElement, RowMapping, delete, func, insert, select, update

from gannet_gateway.config import GatewayConfig
from gannet_gateway.ledger.engine import Database
from gannet_gateway.ledger.ledger import in_collection, is_collection
from gannet_gateway.ledger.records import Page
from gannet_gateway.ledger.schema import collections, conversations, turns
from gannet_gateway.names import CollectionName, ConversationName
from gannet_service.errors import NotFound, Overloaded


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How much is kept: conversations of one owner in a collection, turns and bytes of questions and answers of a conversation."""

    conversations_max: int
    turns_max: int
    bytes_max: int

    @staticmethod
    def of(config: GatewayConfig) -> "Bounds":
        """The configured ones."""
        return Bounds(
            conversations_max=config.conversations_max,
            turns_max=config.conversation_turns_max,
            bytes_max=config.conversation_bytes_max,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """A conversation without its turns."""

    name: ConversationName
    title: str
    turn_count: int
    text_bytes: int
    created_at_s: float
    updated_at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A question and its answer; `finish_reason` is the name of a FinishReason."""

    ordinal: int = 0
    answer_id: str
    question: str
    answer: str
    finish_reason: str
    generation: int
    created_at_s: float = 0.0


class Conversations:
    """See the module. `clock` gives Unix seconds."""

    def __init__(self, database: Database, bounds: Bounds, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._bounds = bounds
        self._clock = clock

    async def create(self, parent: CollectionName, owner: str, title: str) -> Conversation:
        """Begin a conversation.

        Raises:
            NotFound: the collection is gone.
            Overloaded: the owner has as many as are kept.
        """
        now = self._clock()
        name = ConversationName(parent.tenant, parent.collection, uuid.uuid4().hex)
        async with self._database.writing() as connection:
            # Locked, so that two who count at once do not both take the last place.
            query = select(collections.c.id).where(*is_collection(parent)).with_for_update()
            if (await connection.execute(query)).first() is None:
                raise NotFound(f"{parent} does not exist", field="parent")
            owned = select(func.count()).select_from(conversations).where(*_owned(parent, owner))
            if (await connection.execute(owned)).scalar_one() >= self._bounds.conversations_max:
                problem = f"{self._bounds.conversations_max} conversations are kept in {parent}; delete one first"
                raise Overloaded(problem, reason="CONVERSATIONS_MAX")
            row = {"tenant": name.tenant, "collection": name.collection, "id": name.conversation, "owner": owner}
            row |= {"title": title, "turn_count": 0, "text_bytes": 0, "created_at_s": now, "updated_at_s": now}
            await connection.execute(insert(conversations).values(row))
        return Conversation(name=name, title=title, turn_count=0, text_bytes=0, created_at_s=now, updated_at_s=now)

    async def get(self, name: ConversationName, owner: str) -> Conversation:
        """One conversation; raises NotFound, also for another owner's."""
        query = select(conversations).where(*_is(name, owner))
        async with self._database.reading() as connection:
            row = (await connection.execute(query)).mappings().first()
        if row is None:
            raise NotFound(f"{name} does not exist", field="name")
        return _conversation(row)

    async def list(self, parent: CollectionName, owner: str, *, after: str, limit: int) -> Page[Conversation]:
        """The owner's conversations whose id is greater than `after`."""
        query = (
            select(conversations)
            .where(*_owned(parent, owner), conversations.c.id > after)
            .order_by(conversations.c.id)
            .limit(limit + 1)
        )
        async with self._database.reading() as connection:
            rows = (await connection.execute(query)).mappings().all()
        items = [_conversation(row) for row in rows[:limit]]
        return Page(items=items, next_after=items[-1].name.conversation if len(rows) > limit else None)

    async def delete(self, name: ConversationName, owner: str) -> None:
        """Remove a conversation with its turns; raises NotFound."""
        async with self._database.writing() as connection:
            found = select(conversations.c.id).where(*_is(name, owner)).with_for_update()
            if (await connection.execute(found)).first() is None:
                raise NotFound(f"{name} does not exist", field="name")
            await connection.execute(delete(turns).where(*_turns_of(name)))
            await connection.execute(delete(conversations).where(*_is(name, owner)))

    async def append(self, name: ConversationName, owner: str, turn: Turn) -> int:
        """Add a turn at the end and give its ordinal; turns that end at the same time follow each other.

        Raises:
            NotFound: the conversation was deleted meanwhile.
            Overloaded: it has as many turns, or as many bytes, as are kept.
        """
        size, now = len(turn.question.encode()) + len(turn.answer.encode()), self._clock()
        async with self._database.writing() as connection:
            query = select(conversations).where(*_is(name, owner)).with_for_update()
            row = (await connection.execute(query)).mappings().first()
            if row is None:
                raise NotFound(f"{name} does not exist", field="conversation")
            self.check_room(_conversation(row), size)
            ordinal = row["turn_count"] + 1
            values = {"tenant": name.tenant, "collection": name.collection, "conversation": name.conversation}
            values |= {"ordinal": ordinal, "answer_id": turn.answer_id, "question": turn.question}
            values |= {"answer": turn.answer, "finish_reason": turn.finish_reason, "generation": turn.generation}
            await connection.execute(insert(turns).values(**values, created_at_s=now))
            counted = {"turn_count": ordinal, "text_bytes": row["text_bytes"] + size, "updated_at_s": now}
            await connection.execute(update(conversations).where(*_is(name, owner)).values(counted))
        return ordinal

    def check_room(self, conversation: Conversation, size_bytes: int) -> None:
        """Raise Overloaded where no further turn of `size_bytes` fits."""
        bounds = self._bounds
        if conversation.turn_count >= bounds.turns_max:
            problem = f"{conversation.name} has {bounds.turns_max} turns, the most that are kept; begin another"
            raise Overloaded(problem, reason="CONVERSATION_FULL")
        if conversation.text_bytes + size_bytes > bounds.bytes_max:
            problem = f"{conversation.name} has {bounds.bytes_max} bytes, the most that are kept; begin another"
            raise Overloaded(problem, reason="CONVERSATION_FULL")

    async def turns(self, name: ConversationName, *, after: int, limit: int) -> Page[Turn]:
        """Turns whose ordinal is greater than `after`, oldest first; whoever asks has looked up the conversation before."""
        query = select(turns).where(*_turns_of(name), turns.c.ordinal > after).order_by(turns.c.ordinal)
        async with self._database.reading() as connection:
            rows = (await connection.execute(query.limit(limit + 1))).mappings().all()
        items = [_turn(row) for row in rows[:limit]]
        return Page(items=items, next_after=str(items[-1].ordinal) if len(rows) > limit else None)

    async def recent(self, name: ConversationName, *, limit: int) -> tuple[Turn, ...]:
        """The last `limit` turns, oldest first."""
        query = select(turns).where(*_turns_of(name)).order_by(turns.c.ordinal.desc()).limit(limit)
        async with self._database.reading() as connection:
            rows = (await connection.execute(query)).mappings().all()
        return tuple(_turn(row) for row in reversed(rows))


def _owned(parent: CollectionName, owner: str) -> tuple[ColumnElement[bool], ...]:
    return (*in_collection(conversations, parent), conversations.c.owner == owner)


def _is(name: ConversationName, owner: str) -> tuple[ColumnElement[bool], ...]:
    return (*_owned(name.parent, owner), conversations.c.id == name.conversation)


def _turns_of(name: ConversationName) -> tuple[ColumnElement[bool], ...]:
    return (*in_collection(turns, name.parent), turns.c.conversation == name.conversation)


def _conversation(row: RowMapping) -> Conversation:
    fields = {key: row[key] for key in Conversation.__dataclass_fields__ if key != "name"}
    return Conversation(name=ConversationName(row["tenant"], row["collection"], row["id"]), **fields)


def _turn(row: RowMapping) -> Turn:
    return Turn(**{key: row[key] for key in Turn.__dataclass_fields__})
