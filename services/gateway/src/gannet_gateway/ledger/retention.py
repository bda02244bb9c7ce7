"""Which generations stay readable, and what may be thrown away after them. Every method is one transaction."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import delete, func, or_, select, tuple_, update

from gannet_gateway.ledger.engine import Database
from gannet_gateway.ledger.ledger import in_collection, is_collection, to_document
from gannet_gateway.ledger.records import Document
from gannet_gateway.ledger.schema import collections, revisions
from gannet_gateway.names import CollectionName
from gannet_gateway.vectors.points import GENERATION_NEVER

PRUNED_MAX = 500

_BELOW_FLOOR = select(revisions.c.revision).where(
    revisions.c.tenant == collections.c.tenant,
    revisions.c.collection == collections.c.id,
    revisions.c.gen_to <= collections.c.gen_floor,
    ~revisions.c.collected,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """A collection's oldest readable generation: passages with `gen_to` <= `generation` are seen by nobody."""

    collection: CollectionName
    embedding_model: str
    embedding_model_digest: str
    generation: int


class Retention:
    """See the module. `clock` gives Unix seconds."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    async def raise_floors(self, *, retention_s: float) -> None:
        """Give up the generations that ended more than `retention_s` ago, in every collection that has passages to collect there.

        A floor rises again only after what is below it was collected: the delay of `floors_to_collect` begins with every rise.
        """
        now = self._clock()
        ended = (
            select(revisions.c.tenant, revisions.c.collection, func.max(revisions.c.gen_to))
            .where(~revisions.c.collected, revisions.c.retired_at_s <= now - retention_s)
            .group_by(revisions.c.tenant, revisions.c.collection)
        )
        async with self._database.writing() as connection:
            for tenant, collection, generation in (await connection.execute(ended)).all():
                name = CollectionName(tenant, collection)
                due = (
                    *is_collection(name),
                    collections.c.gen_floor < generation,
                    # Not above what readers see: the open publish's revisions are retired already.
                    collections.c.generation >= generation,
                    ~_BELOW_FLOOR.exists(),
                )
                await connection.execute(
                    update(collections).where(*due).values(gen_floor=generation, floor_raised_at_s=now)
                )

    async def floors_to_collect(self, *, delay_s: float) -> list[Floor]:
        """Floors raised at least `delay_s` ago, by which every reader of what is below has ended, with passages below."""
        columns = (
            collections.c.tenant,
            collections.c.id,
            collections.c.embedding_model,
            collections.c.embedding_model_digest,
            collections.c.gen_floor,
        )
        query = select(*columns).where(
            ~collections.c.deleting, collections.c.floor_raised_at_s <= self._clock() - delay_s, _BELOW_FLOOR.exists()
        )
        async with self._database.reading() as connection:
            rows = (await connection.execute(query)).all()
        return [
            Floor(
                collection=CollectionName(tenant, collection),
                embedding_model=model,
                embedding_model_digest=digest,
                generation=generation,
            )
            for tenant, collection, model, digest, generation in rows
        ]

    async def mark_collected(self, floor: Floor) -> None:
        """The passages below the floor are gone."""
        below = (*in_collection(revisions, floor.collection), revisions.c.gen_to <= floor.generation)
        async with self._database.writing() as connection:
            await connection.execute(update(revisions).where(*below, ~revisions.c.collected).values(collected=True))

    async def to_prune(self, name: CollectionName, *, kept: int) -> list[Document]:
        """Collected revisions of which nothing is to be kept: all of a deleted document's, and all but the `kept` newest of another's."""
        has_collected = select(revisions.c.document).where(*in_collection(revisions, name), revisions.c.collected)
        document = revisions.c.document
        ranked = (
            select(
                revisions,
                func.row_number().over(partition_by=document, order_by=revisions.c.revision.desc()).label("place"),
                func.max(revisions.c.gen_to).over(partition_by=document).label("last"),
            )
            .where(*in_collection(revisions, name), revisions.c.document.in_(has_collected))
            .subquery()
        )
        # The live revision has the first place.
        old = or_(ranked.c.place > kept + 1, ranked.c.last < GENERATION_NEVER)
        query = select(ranked).where(ranked.c.collected, old).limit(PRUNED_MAX)
        async with self._database.reading() as connection:
            return [to_document(row) for row in (await connection.execute(query)).mappings()]

    async def prune(self, name: CollectionName, documents: Sequence[Document]) -> None:
        """Forget revisions whose texts are gone."""
        keys = [(document.name.document, document.revision) for document in documents]
        chosen = tuple_(revisions.c.document, revisions.c.revision).in_(keys)
        async with self._database.writing() as connection:
            await connection.execute(delete(revisions).where(*in_collection(revisions, name), chosen))
