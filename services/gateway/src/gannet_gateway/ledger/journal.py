"""Who changes what: claims on documents and publish intents on collections, each with a lease that its holder renews.

A claim is the right to write one document. A publish turns claimed changes into the collection's next generation: it is recorded
before any passage is stamped, and from then on whoever finds it finishes it. A holder whose lease ran out may lose either to another
gateway, and learns of it at its next step here: every step is conditional on the holder. Every method is one transaction.
"""

import time
import uuid
from collections.abc import Callable, Collection, Sequence
from typing import Any

from sqlalchemy import ColumnElement, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from gannet_gateway.ledger.claiming import Claimed, Wanted, claim_all
from gannet_gateway.ledger.engine import Database
from gannet_gateway.ledger.events import ENDED, EndedJob, operations_ended
from gannet_gateway.ledger.grouping import Grouped
from gannet_gateway.ledger.job import JobState
from gannet_gateway.ledger.ledger import in_collection, in_document, is_collection, to_document, to_readers
from gannet_gateway.ledger.records import Change, Claim, Document, Publish, Purpose
from gannet_gateway.ledger.schema import (
    claims,
    collections,
    conversations,
    deliveries,
    feedback,
    jobs,
    prompts,
    publishes,
    revisions,
    sources,
    turns,
    webhooks,
)
from gannet_gateway.names import CollectionName, DocumentName
from gannet_gateway.vectors.points import GENERATION_NEVER
from gannet_service.errors import Conflict, GannetError, NotFound

ERASURE = 0
# Claims, or releases, of one transaction.
CLAIMS_MAX = 256
CLAIM_RACES_MAX = 3
_OF_COLLECTIONS = (
    publishes, claims, revisions, turns, conversations, feedback, prompts, sources, webhooks, deliveries,
)  # fmt: skip


class Journal:
    """See the module. `clock` gives Unix seconds; gateways that share a ledger must agree on it to a fraction of `lease_s`."""

    def __init__(self, database: Database, *, lease_s: float, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._lease_s = lease_s
        self._clock = clock
        self._claims = Grouped[Wanted, Claim](self._claim, batch_max=CLAIMS_MAX, undo=self._unclaim)
        self._releases = Grouped[str, None](self._release, batch_max=CLAIMS_MAX)

    # ---- claims ---------------------------------------------------------------------------------------------------

    async def claim(
        self, name: DocumentName, purpose: Purpose, *, create_only: bool = False, etag: str = "", job: str = ""
    ) -> Claim:
        """Claim a document, in one transaction with whatever else is claimed at the moment; the publish of the change ends `job`.

        Raises:
            AlreadyExists: it exists, and `create_only` was asked for.
            Claimed: another writer has it; see `take_over`.
            Conflict: its etag is another.
            NotFound: the collection is gone, or there is no document to delete.
        """
        wanted = Wanted(
            name=name, purpose=purpose, create_only=create_only, etag=etag, job=job, attempt=_token(), holder=_token()
        )
        return await self._claims.submit(wanted)

    async def _claim(self, wanted: list[Wanted]) -> list[Claim | GannetError]:
        for _ in range(CLAIM_RACES_MAX):
            try:
                async with self._database.writing() as connection:
                    return await claim_all(connection, wanted, lease_until_s=self._clock() + self._lease_s)
            except IntegrityError:  # another gateway claimed one of them between our look and our claim: look again
                continue
        return [Claimed(f"{each.name} is being written by another call", field="document_id") for each in wanted]

    async def _unclaim(self, unwanted: list[Claim]) -> None:
        await self._release([claim.holder for claim in unwanted])

    async def take_over(self, name: DocumentName, *, holder: str | None = None) -> Claim | None:
        """The claim of a document under a new holder: if its lease ran out, or if `holder` still has it. None if not.

        Whoever had it cannot publish any more, and what is staged under it can be removed. A claim that is part of a publish stays.
        """
        now, new = self._clock(), _token()
        due = claims.c.lease_until_s < now if holder is None else claims.c.holder == holder
        statement = (
            update(claims)
            .where(*in_document(claims, name), due, claims.c.publish_generation.is_(None))
            .values(holder=new, lease_until_s=now + self._lease_s)
        )
        async with self._database.writing() as connection:
            if (await connection.execute(statement)).rowcount == 0:
                return None
            row = (await connection.execute(select(claims).where(claims.c.holder == new))).mappings().one()
        return Claim(
            document=name,
            attempt=row["attempt"],
            holder=new,
            purpose=Purpose(row["purpose"]),
        )

    async def release(self, claim: Claim) -> None:
        """Give the document free; nothing is staged under the claim any more."""
        await self._releases.submit(claim.holder)

    async def _release(self, holders: list[str]) -> list[None]:
        async with self._database.writing() as connection:
            await connection.execute(
                delete(claims).where(claims.c.holder.in_(holders), claims.c.publish_generation.is_(None))
            )
        return [None] * len(holders)

    async def abandon(self, holders: Collection[str]) -> None:
        """Let the leases of these holders run out now: the next who looks takes over."""
        async with self._database.writing() as connection:
            for table in (claims, publishes):
                await connection.execute(update(table).where(table.c.holder.in_(holders)).values(lease_until_s=0.0))

    async def abandon_all(self) -> None:
        """Let every lease run out now: for the only gateway of a ledger at its start, whose predecessors are all gone."""
        async with self._database.writing() as connection:
            for table in (claims, publishes):
                await connection.execute(update(table).values(lease_until_s=0.0))
            await connection.execute(update(jobs).where(jobs.c.holder != "").values(due_at_s=0.0))

    async def renew(self, holders: Collection[str]) -> None:
        """Prolong the leases of these holders."""
        until_s = self._clock() + self._lease_s
        async with self._database.writing() as connection:
            for table in (claims, publishes):
                # A row that is locked is being published or taken over right now, and needs no renewal.
                free = select(table.c.holder).where(table.c.holder.in_(holders)).with_for_update(skip_locked=True)
                await connection.execute(update(table).where(table.c.holder.in_(free)).values(lease_until_s=until_s))

    async def expired_claims(self, collection: CollectionName | None = None) -> list[DocumentName]:
        """Documents whose claims nobody renewed, of one collection or of all."""
        query = select(claims.c.tenant, claims.c.collection, claims.c.document).where(
            claims.c.lease_until_s < self._clock(), claims.c.publish_generation.is_(None)
        )
        if collection is not None:
            query = query.where(*in_collection(claims, collection))
        async with self._database.reading() as connection:
            return [DocumentName(*row) for row in (await connection.execute(query)).all()]

    async def finish_purge(self, claim: Claim) -> None:
        """Forget every revision of a document whose passages and texts are gone; caches filled before are never read again."""
        name = claim.document
        async with self._database.writing() as connection:
            await connection.execute(delete(revisions).where(*in_document(revisions, name)))
            await connection.execute(
                update(collections).where(*is_collection(name.parent)).values(cache_epoch=collections.c.cache_epoch + 1)
            )
            await connection.execute(delete(claims).where(claims.c.holder == claim.holder))

    # ---- publishes ------------------------------------------------------------------------------------------------

    async def begin_publish(self, name: CollectionName, changes: Sequence[Change]) -> Publish:
        """Record the intent to make the next generation of these changes. What was lost to another gateway is left out of `accepted`.

        Raises:
            Claimed: another publisher is at it; see `take_over_publish`.
            Conflict: none of the claims is held any more.
            NotFound: the collection is gone.
        """
        now, holder = self._clock(), _token()
        async with self._database.writing() as connection:
            # Locked, so that no publish can end between this look and the intent.
            query = select(collections.c.generation).where(*is_collection(name)).with_for_update()
            current = (await connection.execute(query)).scalar_one_or_none()
            if current is None:
                raise NotFound(f"{name} does not exist", field="parent")
            generation = current + 1
            await _insert_publish(connection, name, generation, holder, now + self._lease_s)
            accepted = await _accept(connection, [change.claim.holder for change in changes], generation)
            if not accepted:
                raise Conflict(f"{name}: another gateway has taken these documents over", reason="CLAIM_LOST")
            ours = [change for change in changes if change.claim.holder in accepted]
            retired = update(revisions).where(
                *in_collection(revisions, name),
                revisions.c.document.in_([change.claim.document.document for change in ours]),
                revisions.c.gen_to == GENERATION_NEVER,
            )
            await connection.execute(retired.values(gen_to=generation, retired_at_s=now))
            rows = [_to_row(change.document, generation, now) for change in ours if change.document is not None]
            if rows:
                await connection.execute(insert(revisions), rows)
            return await _publish(connection, name, generation, holder, accepted)

    async def take_over_publish(self, name: CollectionName) -> Publish | None:
        """The collection's open publish under a new holder, if its lease ran out."""
        now, holder = self._clock(), _token()
        statement = (
            update(publishes)
            .where(
                *in_collection(publishes, name),
                publishes.c.lease_until_s < now,
                publishes.c.generation != ERASURE,
            )
            .values(holder=holder, lease_until_s=now + self._lease_s)
        )
        async with self._database.writing() as connection:
            if (await connection.execute(statement)).rowcount == 0:
                return None
            query = select(publishes.c.generation).where(publishes.c.holder == holder)
            generation = (await connection.execute(query)).scalar_one()
            return await _publish(connection, name, generation, holder, frozenset())

    async def expired_publishes(self) -> list[CollectionName]:
        """Collections whose open publish nobody renewed."""
        query = select(publishes.c.tenant, publishes.c.collection).where(
            publishes.c.lease_until_s < self._clock(), publishes.c.generation != ERASURE
        )
        async with self._database.reading() as connection:
            return [CollectionName(*row) for row in (await connection.execute(query)).all()]

    async def finish_publish(self, publish: Publish) -> None:
        """Show the stamped generation to readers and release its claims; nothing happens if another gateway did so before."""
        name, generation = publish.collection, publish.generation
        flip = update(collections).where(*is_collection(name), collections.c.generation == generation - 1)
        async with self._database.writing() as connection:
            if (await connection.execute(flip.values(generation=generation))).rowcount == 0:
                return
            now = self._clock()
            ended = await _end_jobs(connection, publish, now)
            await connection.execute(
                delete(claims).where(*in_collection(claims, name), claims.c.publish_generation == generation)
            )
            await connection.execute(
                delete(publishes).where(*in_collection(publishes, name), publishes.c.generation == generation)
            )
            if ended:
                await operations_ended(connection, ended, now=now)

    # ---- deletion of collections ------------------------------------------------------------------------------------

    async def begin_delete_collection(self, name: CollectionName) -> None:
        """Hide a collection from every reader; raises NotFound, Conflict while a document of it is being written."""
        async with self._database.writing() as connection:
            statement = update(collections).where(*is_collection(name)).values(deleting=True)
            if (await connection.execute(statement)).rowcount == 0:
                raise NotFound(f"{name} does not exist", field="name")
            # A writer that ended after the erasure would leave passages behind, for a later collection of that name to find.
            writing = select(claims.c.document).where(*in_collection(claims, name)).limit(1)
            if (await connection.execute(writing)).first() is not None:
                raise Conflict(f"a document of {name} is being written", field="name")

    async def collections_being_deleted(self) -> list[tuple[CollectionName, str, str]]:
        """Collections that are hidden and not yet erased, with their embedding model and its digest."""
        columns = (
            collections.c.tenant,
            collections.c.id,
            collections.c.embedding_model,
            collections.c.embedding_model_digest,
        )
        async with self._database.reading() as connection:
            rows = (await connection.execute(select(*columns).where(collections.c.deleting))).all()
        return [(CollectionName(tenant, collection), model, digest) for tenant, collection, model, digest in rows]

    async def begin_erase(self, name: CollectionName) -> str | None:
        """Become the one who erases a hidden collection: its holder, or None if another gateway is at it or has done it.

        Two at once would be one too many: the slower one could erase a new collection of the same name.
        """
        now, holder = self._clock(), _token()
        async with self._database.writing() as connection:
            hidden = select(collections.c.id).where(
                collections.c.tenant == name.tenant, collections.c.id == name.collection, collections.c.deleting
            )
            if (await connection.execute(hidden.with_for_update())).first() is None:
                return None
            expired = delete(publishes).where(*in_collection(publishes, name), publishes.c.lease_until_s < now)
            await connection.execute(expired)
            held = select(publishes.c.holder).where(*in_collection(publishes, name))
            if (await connection.execute(held)).first() is not None:
                return None
            await _insert_publish(connection, name, ERASURE, holder, now + self._lease_s)
        return holder

    async def finish_delete_collection(self, name: CollectionName) -> None:
        """Forget a hidden collection and all that the ledger knows of it."""
        async with self._database.writing() as connection:
            for table in _OF_COLLECTIONS:
                await connection.execute(delete(table).where(*in_collection(table, name)))
            await connection.execute(
                delete(collections).where(
                    collections.c.tenant == name.tenant, collections.c.id == name.collection, collections.c.deleting
                )
            )


async def _insert_publish(
    connection: AsyncConnection, name: CollectionName, generation: int, holder: str, lease_until_s: float
) -> None:
    row = {"tenant": name.tenant, "collection": name.collection, "generation": generation}
    try:
        await connection.execute(insert(publishes).values(**row, holder=holder, lease_until_s=lease_until_s))
    except IntegrityError as error:
        raise Claimed(f"{name} is being published by another call", field="parent") from error


async def _accept(connection: AsyncConnection, holders: Sequence[str], generation: int) -> frozenset[str]:
    """Make the claims that are still held part of the publish; a take-over waits for this transaction and then finds them taken."""
    held = (claims.c.holder.in_(holders), claims.c.publish_generation.is_(None))
    await connection.execute(update(claims).where(*held).values(publish_generation=generation))
    taken = select(claims.c.holder).where(claims.c.holder.in_(holders), claims.c.publish_generation == generation)
    return frozenset((await connection.execute(taken)).scalars())


async def _publish(
    connection: AsyncConnection, name: CollectionName, generation: int, holder: str, accepted: frozenset[str]
) -> Publish:
    async def documents(bound: ColumnElement[bool]) -> tuple[Document, ...]:
        query = select(revisions).where(*in_collection(revisions, name), bound).order_by(revisions.c.document)
        return tuple(to_document(row) for row in (await connection.execute(query)).mappings())

    return Publish(
        collection=name,
        generation=generation,
        holder=holder,
        staged=await documents(revisions.c.gen_from == generation),
        retired=await documents(revisions.c.gen_to == generation),
        accepted=accepted,
    )


async def _end_jobs(connection: AsyncConnection, publish: Publish, now: float) -> list[EndedJob]:
    """The jobs whose documents the publish shows have succeeded, whoever was at work on them."""
    name, generation = publish.collection, publish.generation
    in_publish = (*in_collection(claims, name), claims.c.publish_generation == generation, claims.c.job != "")
    shown = (
        *in_collection(revisions, name),
        revisions.c.document == jobs.c.document,
        revisions.c.gen_from == generation,
    )

    def of_revision(column: ColumnElement[int]) -> ColumnElement[int]:
        return select(column).where(*shown).scalar_subquery()

    chunks = func.coalesce(of_revision(revisions.c.chunk_count), 0)
    ended = await connection.execute(
        update(jobs)
        .where(jobs.c.id.in_(select(claims.c.job).where(*in_publish)), jobs.c.ended_at_s.is_(None))
        .values(
            state=JobState.SUCCEEDED.value,
            holder="",
            due_at_s=None,
            ended_at_s=now,
            updated_at_s=now,
            error=None,
            generation=generation,
            revision=func.coalesce(of_revision(revisions.c.revision), 0),
            chunks_total=chunks,
            chunks_done=chunks,
        )
        .returning(*ENDED)
    )
    return [EndedJob(**row) for row in ended.mappings()]


def _to_row(document: Document, generation: int, now: float) -> dict[str, Any]:
    name = document.name
    row: dict[str, Any] = {
        column.name: getattr(document, column.name)
        for column in revisions.columns
        if column.name not in ("tenant", "collection", "document", "retired_at_s")
    }
    row |= {"tenant": name.tenant, "collection": name.collection, "document": name.document}
    row |= {"metadata": dict(document.metadata), "readers": to_readers(document.readers)}
    row |= {"gen_from": generation, "gen_to": GENERATION_NEVER}
    return row | {"created_at_s": document.created_at_s or now, "updated_at_s": now, "collected": False}


def _token() -> str:
    return uuid.uuid4().hex
