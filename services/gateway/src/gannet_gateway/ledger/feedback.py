"""What people thought of answers and passages. Every method is one transaction."""

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace

from sqlalchemy import func, insert, select

from gannet_gateway.ledger.engine import Database
from gannet_gateway.ledger.ledger import in_collection, is_collection
from gannet_gateway.ledger.records import Page
from gannet_gateway.ledger.schema import collections, feedback
from gannet_gateway.names import CollectionName
from gannet_service.errors import NotFound, Overloaded


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """One judgement, of an answer or of a passage; `rating` is the name of a Rating."""

    id: str = ""
    owner: str
    answer_id: str = ""
    passage: str = ""
    rating: str
    comment: str
    query: str
    created_at_s: float = 0.0


class FeedbackBook:
    """See the module: `entries_max` a collection. `clock` gives Unix seconds."""

    def __init__(self, database: Database, *, entries_max: int, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._entries_max = entries_max
        self._clock = clock

    async def add(self, parent: CollectionName, entry: Feedback) -> Feedback:
        """Keep one entry.

        Raises:
            NotFound: the collection is gone.
            Overloaded: the collection has as many as are kept.
        """
        now = self._clock()
        # Microseconds first, so that ids sort by time.
        kept = replace(entry, id=f"{int(now * 1e6):016x}{uuid.uuid4().hex[:16]}", created_at_s=now)
        row = {field: getattr(kept, field) for field in Feedback.__dataclass_fields__}
        async with self._database.writing() as connection:
            # Locked, so that two who count at once do not both take the last place.
            query = select(collections.c.id).where(*is_collection(parent)).with_for_update()
            if (await connection.execute(query)).first() is None:
                raise NotFound(f"{parent} does not exist", field="parent")
            count = select(func.count()).select_from(feedback).where(*in_collection(feedback, parent))
            if (await connection.execute(count)).scalar_one() >= self._entries_max:
                raise Overloaded(f"{self._entries_max} entries are kept in {parent}", reason="FEEDBACK_MAX")
            await connection.execute(insert(feedback).values(tenant=parent.tenant, collection=parent.collection, **row))
        return kept

    async def list(self, parent: CollectionName, *, answer_id: str, before: str, limit: int) -> Page[Feedback]:
        """Entries older than the one with the id `before`, newest first; an `answer_id` keeps to one answer."""
        query = select(feedback).where(*in_collection(feedback, parent)).order_by(feedback.c.id.desc())
        if before:
            query = query.where(feedback.c.id < before)
        if answer_id:
            query = query.where(feedback.c.answer_id == answer_id)
        async with self._database.reading() as connection:
            rows = (await connection.execute(query.limit(limit + 1))).mappings().all()
        items = [Feedback(**{key: row[key] for key in Feedback.__dataclass_fields__}) for row in rows[:limit]]
        return Page(items=items, next_after=items[-1].id if len(rows) > limit else None)
