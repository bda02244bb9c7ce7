"""Tenants and their API keys in the ledger. Every method is one transaction."""

import time
from collections.abc import Callable, Collection
from dataclasses import asdict
from typing import Any

from sqlalchemy import RowMapping, delete, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from gannet_gateway.ledger.engine import Database
from gannet_gateway.ledger.records import Page
from gannet_gateway.ledger.schema import api_keys, collections, revisions, tenants
from gannet_gateway.tenants.records import KEY_ID_CHARACTERS, ApiKey, Limits, Tenant, Usage
from gannet_gateway.vectors.points import GENERATION_NEVER
from gannet_service.errors import AlreadyExists, Conflict, NotFound

LAST_USED_RESOLUTION_S = 3600.0


class Accounts:
    """See the module. `clock` gives Unix seconds."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    # ---- tenants --------------------------------------------------------------------------------------------------

    async def create_tenant(self, tenant: Tenant) -> Tenant:
        """Store a new tenant; raises AlreadyExists."""
        row = {"id": tenant.id, "created_at_s": self._clock(), "disabled": tenant.disabled, **asdict(tenant.limits)}
        async with self._database.writing() as connection:
            try:
                await connection.execute(insert(tenants).values(row))
            except IntegrityError as error:
                raise AlreadyExists(f"tenants/{tenant.id} exists already", field="tenant_id") from error
        return await self.tenant(tenant.id)

    async def tenant(self, tenant: str) -> Tenant:
        """A tenant; raises NotFound."""
        async with self._database.reading() as connection:
            row = (await connection.execute(select(tenants).where(tenants.c.id == tenant))).mappings().first()
        if row is None:
            raise NotFound(f"tenants/{tenant} does not exist", field="name")
        return _to_tenant(row)

    async def list_tenants(self, *, after: str, limit: int) -> Page[Tenant]:
        """Tenants whose id is greater than `after`."""
        query = select(tenants).where(tenants.c.id > after).order_by(tenants.c.id).limit(limit + 1)
        async with self._database.reading() as connection:
            rows = (await connection.execute(query)).mappings().all()
        items = [_to_tenant(row) for row in rows[:limit]]
        return Page(items=items, next_after=items[-1].id if len(rows) > limit else None)

    async def update_tenant(self, tenant: str, *, disabled: bool | None = None, limits: Limits | None = None) -> Tenant:
        """Change what is given; raises NotFound."""
        values: dict[str, Any] = {} if limits is None else asdict(limits)
        if disabled is not None:
            values["disabled"] = disabled
        if values:
            async with self._database.writing() as connection:
                await connection.execute(update(tenants).where(tenants.c.id == tenant).values(values))
        return await self.tenant(tenant)

    async def delete_tenant(self, tenant: str) -> None:
        """Forget a tenant and its keys; raises NotFound, Conflict where it has collections."""
        async with self._database.writing() as connection:
            # Locked, so that no collection can be made between this look and the deletion.
            row = select(tenants.c.id).where(tenants.c.id == tenant).with_for_update()
            if (await connection.execute(row)).first() is None:
                raise NotFound(f"tenants/{tenant} does not exist", field="name")
            held = select(collections.c.id).where(collections.c.tenant == tenant).limit(1)
            if (await connection.execute(held)).first() is not None:
                problem = f"tenants/{tenant} has collections; delete them first"
                raise Conflict(problem, field="name", reason="TENANT_NOT_EMPTY")
            await connection.execute(delete(api_keys).where(api_keys.c.tenant == tenant))
            await connection.execute(delete(tenants).where(tenants.c.id == tenant))

    async def usage(self, tenant: str) -> Usage:
        """What the tenant's live documents take."""
        query = select(func.count(), func.coalesce(func.sum(revisions.c.text_bytes), 0)).where(
            revisions.c.tenant == tenant, revisions.c.gen_to == GENERATION_NEVER
        )
        async with self._database.reading() as connection:
            documents, text_bytes = (await connection.execute(query)).one()
        return Usage(documents=documents, text_bytes=int(text_bytes))

    # ---- keys -----------------------------------------------------------------------------------------------------

    async def add_key(self, key: ApiKey) -> ApiKey:
        """Store a key of an existing tenant; one of that digest is given these scopes and identities and otherwise stays as it is.

        Raises:
            NotFound: no such tenant.
            AlreadyExists: another tenant has a key of that digest.
        """
        granted = {"scopes": list(key.scopes), "identities": list(key.identities)}
        now_s = self._clock()
        row = {
            "tenant": key.tenant,
            "digest": key.digest,
            "label": key.label,
            "expires_at_s": key.expires_at_s,
            **granted,
        }
        async with self._database.writing() as connection:
            if (await connection.execute(select(tenants.c.id).where(tenants.c.id == key.tenant))).first() is None:
                raise NotFound(f"tenants/{key.tenant} does not exist", field="parent")
            same = (api_keys.c.digest == key.digest, api_keys.c.tenant == key.tenant)
            changed = await connection.execute(update(api_keys).where(*same).values(granted))
            if changed.rowcount == 0:
                try:
                    await connection.execute(insert(api_keys).values(**row, created_at_s=now_s))
                except IntegrityError as error:
                    raise AlreadyExists("the key belongs to another tenant", field="api_key") from error
            found = (await connection.execute(select(api_keys).where(*same))).mappings().one()
        return _to_key(found)

    async def find_key(self, digest: str) -> ApiKey | None:
        """The key of this digest, valid or not."""
        async with self._database.reading() as connection:
            row = (await connection.execute(select(api_keys).where(api_keys.c.digest == digest))).mappings().first()
        return None if row is None else _to_key(row)

    async def list_keys(self, tenant: str, *, after: str, limit: int) -> Page[ApiKey]:
        """Keys of a tenant whose digest is greater than `after`, those that are no longer valid too."""
        query = (
            select(api_keys)
            .where(api_keys.c.tenant == tenant, api_keys.c.digest > after)
            .order_by(api_keys.c.digest)
            .limit(limit + 1)
        )
        async with self._database.reading() as connection:
            rows = (await connection.execute(query)).mappings().all()
        items = [_to_key(row) for row in rows[:limit]]
        return Page(items=items, next_after=items[-1].digest if len(rows) > limit else None)

    async def revoke_key(self, tenant: str, key_id: str) -> ApiKey:
        """Let nobody in with this key from now on; raises NotFound. A key stays revoked since it was first."""
        this = (api_keys.c.tenant == tenant, func.substr(api_keys.c.digest, 1, KEY_ID_CHARACTERS) == key_id)
        async with self._database.writing() as connection:
            due = update(api_keys).where(*this, api_keys.c.revoked_at_s.is_(None))
            await connection.execute(due.values(revoked_at_s=self._clock()))
            row = (await connection.execute(select(api_keys).where(*this))).mappings().first()
        if row is None:
            raise NotFound(f"tenants/{tenant}/apiKeys/{key_id} does not exist", field="name")
        return _to_key(row)

    async def record_use(self, digests: Collection[str]) -> None:
        """These keys were used just now; written at most once an hour for each."""
        now_s = self._clock()
        stale = or_(api_keys.c.last_used_at_s.is_(None), api_keys.c.last_used_at_s <= now_s - LAST_USED_RESOLUTION_S)
        async with self._database.writing() as connection:
            due = update(api_keys).where(api_keys.c.digest.in_(digests), stale)
            await connection.execute(due.values(last_used_at_s=now_s))


def _to_tenant(row: RowMapping) -> Tenant:
    limits = Limits(**{name: row[name] for name in Limits.__dataclass_fields__})
    return Tenant(id=row["id"], disabled=row["disabled"], limits=limits, created_at_s=row["created_at_s"])


def _to_key(row: RowMapping) -> ApiKey:
    return ApiKey(
        tenant=row["tenant"],
        digest=row["digest"],
        label=row["label"],
        scopes=tuple(row["scopes"]),
        identities=tuple(row["identities"]),
        created_at_s=row["created_at_s"],
        expires_at_s=row["expires_at_s"],
        revoked_at_s=row["revoked_at_s"],
        last_used_at_s=row["last_used_at_s"],
    )
