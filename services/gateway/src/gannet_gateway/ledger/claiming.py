"""Claims on documents, many in one transaction."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import and_, delete, func, insert, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from gannet_gateway.ledger.ledger import to_document
from gannet_gateway.ledger.records import Claim, Document, Purpose
from gannet_gateway.ledger.schema import claims, collections, revisions
from gannet_gateway.names import CollectionName, DocumentName
from gannet_gateway.vectors.points import GENERATION_NEVER
from gannet_service.errors import AlreadyExists, Conflict, GannetError, NotFound


class Claimed(Conflict):
    """Another writer holds the document, or another publisher the collection."""

    default_reason = "CLAIMED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A claim that somebody asks for; `job` is ended by the publish that shows the change."""

    name: DocumentName
    purpose: Purpose
    create_only: bool
    etag: str
    job: str
    attempt: str
    holder: str


async def claim_all(
    connection: AsyncConnection, wanted: Sequence[Wanted], *, lease_until_s: float
) -> list[Claim | GannetError]:
    """What becomes of each, in order; raises IntegrityError when another gateway claimed one of them at the same moment."""
    there = await _there(connection, {each.name.parent for each in wanted})
    taken = await _taken(connection, [each.name for each in wanted])
    results: dict[str, Claim | GannetError] = {}  # by holder
    free: list[Wanted] = []
    for each in wanted:
        if each.name.parent not in there:
            results[each.holder] = NotFound(f"{each.name.parent} does not exist", field="parent")
        elif each.name in taken:
            results[each.holder] = Claimed(f"{each.name} is being written by another call", field="document_id")
        else:
            taken.add(each.name)
            free.append(each)
    if free:
        # First the claims, then a look at the documents: what is seen under a claim stays.
        await connection.execute(insert(claims), [_row(each, lease_until_s) for each in free])
        newest = await _newest(connection, [each.name for each in free])
        decided = {each.holder: _decide(each, newest.get(each.name)) for each in free}
        refused = [holder for holder, result in decided.items() if isinstance(result, GannetError)]
        if refused:
            await connection.execute(delete(claims).where(claims.c.holder.in_(refused)))
        results |= decided
    return [results[each.holder] for each in wanted]


async def _there(connection: AsyncConnection, names: set[CollectionName]) -> set[CollectionName]:
    # Locked, so that a collection cannot begin to be deleted before the claim is there to stop it.
    keys = [(name.tenant, name.collection) for name in sorted(names)]
    query = (
        select(collections.c.tenant, collections.c.id)
        .where(tuple_(collections.c.tenant, collections.c.id).in_(keys), ~collections.c.deleting)
        .with_for_update(read=True)
    )
    return {CollectionName(*row) for row in (await connection.execute(query)).all()}


async def _taken(connection: AsyncConnection, names: Sequence[DocumentName]) -> set[DocumentName]:
    columns = (claims.c.tenant, claims.c.collection, claims.c.document)
    query = select(*columns).where(tuple_(*columns).in_([_key(name) for name in names]))
    return {DocumentName(*row) for row in (await connection.execute(query)).all()}


async def _newest(connection: AsyncConnection, names: Sequence[DocumentName]) -> dict[DocumentName, Document]:
    key = (revisions.c.tenant, revisions.c.collection, revisions.c.document)
    last = (
        select(*key, func.max(revisions.c.revision).label("revision"))
        .where(tuple_(*key).in_([_key(name) for name in names]))
        .group_by(*key)
        .subquery()
    )
    same = [last.c[column.name] == column for column in (*key, revisions.c.revision)]
    rows = (await connection.execute(select(revisions).join(last, and_(*same)))).mappings()
    return {document.name: document for document in map(to_document, rows)}


def _decide(wanted: Wanted, newest: Document | None) -> Claim | GannetError:
    name, live = wanted.name, newest if newest is not None and newest.gen_to == GENERATION_NEVER else None
    if wanted.create_only and live is not None:
        return AlreadyExists(f"{name} exists already", field="document_id")
    if (live is None and wanted.purpose is Purpose.DELETE) or (newest is None and wanted.purpose is Purpose.PURGE):
        return NotFound(f"{name} does not exist", field="name")
    if wanted.etag and (live is None or wanted.etag != live.etag):
        has = f"has etag {live.etag!r}" if live else "does not exist"
        return Conflict(f"{name} {has}", field="etag", reason="ETAG_MISMATCH")
    return Claim(
        document=name,
        revision=newest.revision + 1 if newest else 1,
        attempt=wanted.attempt,
        holder=wanted.holder,
        purpose=wanted.purpose,
        live=live,
    )


def _key(name: DocumentName) -> tuple[str, str, str]:
    return name.tenant, name.collection, name.document


def _row(wanted: Wanted, lease_until_s: float) -> dict[str, object]:
    tenant, collection, document = _key(wanted.name)
    return {
        "tenant": tenant,
        "collection": collection,
        "document": document,
        "attempt": wanted.attempt,
        "purpose": wanted.purpose.value,
        "holder": wanted.holder,
        "lease_until_s": lease_until_s,
        "job": wanted.job,
    }
