"""Events on their way to webhooks: claimed under leases, tried again after pauses, kept for a while when they have ended.

Every step of an attempt is conditional on its holder, as in `jobs`: who lost its lease changes nothing any more.
"""

import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import ColumnElement, RowMapping, and_, delete, func, select, update

from gannet_gateway.ledger.engine import Database
from gannet_gateway.ledger.events import DeliveryState
from gannet_gateway.ledger.records import Page
from gannet_gateway.ledger.schema import deliveries, webhooks
from gannet_gateway.ledger.webhooks import disable, named, of_webhook
from gannet_gateway.names import DeliveryName, WebhookName
from gannet_service.errors import Conflict, NotFound

# Of one webhook: events that wait, and ended ones of each state that are kept, the newest.
PENDING_MAX = 10_000
ENDED_MAX = 1_000
ERROR_CHARACTERS_MAX = 300
QUEUE_FULL = f"more than {PENDING_MAX} events waited for this webhook"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """The right to post one event once. `number` counts from 1 since the event was queued."""

    delivery: int
    name: DeliveryName
    holder: str
    number: int
    queued_at_s: float
    url: str
    receiver: str
    body: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What has become of an event at a webhook; see webhooks.proto."""

    number: int
    name: DeliveryName
    event_type: str
    body: str
    state: DeliveryState
    attempt: int
    status_code: int
    error: str
    created_at_s: float
    due_at_s: float | None
    ended_at_s: float | None


class Deliveries:
    """See the module.

    Args:
        database: the ledger's.
        lease_s: how long an attempt is left to its gateway; longer than one takes.
        kept_s: how long what has ended is kept.
        pending_max: events that wait for one webhook; the oldest beyond it are given up.
        ended_max: ended ones of each state that are kept of one webhook, the newest.
        clock: Unix seconds; gateways that share a ledger must agree on it to a fraction of `lease_s`.
    """

    def __init__(
        self,
        database: Database,
        *,
        lease_s: float,
        kept_s: float,
        pending_max: int = PENDING_MAX,
        ended_max: int = ENDED_MAX,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._lease_s = lease_s
        self._kept_s = kept_s
        self._pending_max = pending_max
        self._ended_max = ended_max
        self.clock = clock

    # ---- attempts -------------------------------------------------------------------------------------------------

    async def claim(self, busy: Mapping[str, int], *, limit: int, of_receiver_max: int) -> list[Attempt]:
        """Begin up to `limit` attempts at what is due, webhooks that have waited for longest first.

        `busy` has the attempts in work at each receiver; with the new ones they are at most `of_receiver_max`.
        """
        now = self.clock()
        due = await self._due(now, [receiver for receiver, count in busy.items() if count >= of_receiver_max], limit)
        if not due:
            return []
        in_work, holder = Counter(busy), uuid.uuid4().hex
        numbers: list[int] = []
        async with self._database.writing() as connection:
            for webhook, receiver in due:
                query = (
                    select(deliveries.c.number)
                    .where(*of_webhook(webhook), deliveries.c.due_at_s <= now)
                    .order_by(deliveries.c.due_at_s, deliveries.c.number)
                    .limit(min(limit - len(numbers), of_receiver_max - in_work[receiver]))
                    .with_for_update(skip_locked=True)
                )
                found = (await connection.execute(query)).scalars().all()
                in_work[receiver] += len(found)
                numbers += found
            await connection.execute(
                update(deliveries)
                .where(deliveries.c.number.in_(numbers))
                .values(holder=holder, attempt=deliveries.c.attempt + 1, due_at_s=now + self._lease_s)
            )
            begun = (
                select(deliveries, webhooks.c.url, webhooks.c.receiver, webhooks.c.secret)
                .join(webhooks, _WEBHOOK)
                .where(deliveries.c.number.in_(numbers))
                .order_by(deliveries.c.number)
            )
            return [_attempt(row) for row in (await connection.execute(begun)).mappings()]

    async def _due(self, now: float, full: Sequence[str], limit: int) -> list[tuple[WebhookName, str]]:
        """Webhooks with something due, and their receivers, but for those in `full`; those that have waited for longest first.

        One look into an index for each webhook that there is, however much waits: a receiver that hangs has thousands waiting.
        """
        # The bound is in here, too, or the look would begin at all that have ended, whose time is null.
        waits = (_WEBHOOK, deliveries.c.due_at_s <= now)
        first_due = select(func.min(deliveries.c.due_at_s)).where(*waits).correlate(webhooks).scalar_subquery()
        of = (webhooks.c.tenant, webhooks.c.collection, webhooks.c.id, webhooks.c.receiver)
        waiting = select(*of, first_due.label("due_at_s")).where(webhooks.c.receiver.not_in(full)).subquery()
        query = select(waiting).where(waiting.c.due_at_s <= now).order_by(waiting.c.due_at_s).limit(limit)
        async with self._database.reading() as connection:
            rows = (await connection.execute(query)).all()
        return [
            (WebhookName(tenant, collection, webhook), receiver) for tenant, collection, webhook, receiver, _ in rows
        ]

    async def delivered(self, attempt: Attempt, status_code: int) -> bool:
        """The receiver took it; False if it is another gateway's by now."""
        values = {"state": DeliveryState.DELIVERED.value, "error": "", "ended_at_s": self.clock()}
        return await self._record(attempt, {**values, "due_at_s": None, "status_code": status_code})

    async def retry(self, attempt: Attempt, status_code: int, error: str, *, pause_s: float) -> bool:
        """The receiver did not take it: try again after a pause; False if it is another gateway's by now."""
        values = {"error": error[:ERROR_CHARACTERS_MAX], "due_at_s": self.clock() + pause_s}
        return await self._record(attempt, {**values, "status_code": status_code})

    async def fail(self, attempt: Attempt, status_code: int, error: str) -> bool:
        """The receiver did not take it, and is not asked again; False if it is another gateway's by now."""
        values = {"state": DeliveryState.FAILED.value, "error": error[:ERROR_CHARACTERS_MAX]}
        values |= {"due_at_s": None, "ended_at_s": self.clock()}
        return await self._record(attempt, {**values, "status_code": status_code})

    async def gone(self, attempt: Attempt, status_code: int, error: str) -> bool:
        """The receiver wants no more: disable its webhook, and give up what waits for it.

        False, and nothing is done, if the attempt is another gateway's by now, or the webhook leads elsewhere.
        """
        ours = (deliveries.c.number == attempt.delivery, deliveries.c.holder == attempt.holder)
        async with self._database.writing() as connection:
            # The webhook is locked first, as by all who change one.
            url = select(webhooks.c.url).where(*named(attempt.name.webhook)).with_for_update()
            if (await connection.execute(url)).scalar_one_or_none() != attempt.url:
                return False
            answered = update(deliveries).where(*ours).values(status_code=status_code)
            if (await connection.execute(answered)).rowcount == 0:
                return False
            await disable(connection, attempt.name.webhook, error[:ERROR_CHARACTERS_MAX], self.clock())
        return True

    async def _record(self, attempt: Attempt, values: Mapping[str, object]) -> bool:
        held = (deliveries.c.number == attempt.delivery, deliveries.c.holder == attempt.holder)
        async with self._database.writing() as connection:
            changed = await connection.execute(update(deliveries).where(*held).values(**values, holder=""))
            return changed.rowcount == 1

    # ---- what callers see -------------------------------------------------------------------------------------------

    async def get(self, name: DeliveryName) -> Delivery:
        """One delivery; raises NotFound."""
        async with self._database.reading() as connection:
            row = (await connection.execute(select(deliveries).where(*_named(name)))).mappings().first()
        if row is None:
            raise NotFound(f"{name} does not exist", field="name")
        return _delivery(row)

    async def page(
        self, webhook: WebhookName, *, state: DeliveryState | None, before: int, limit: int
    ) -> Page[Delivery]:
        """A webhook's deliveries, of one state or of all, newest first; `before` = 0 begins at the newest."""
        query = select(deliveries).where(*of_webhook(webhook))
        if state is not None:
            query = query.where(deliveries.c.state == state.value)
        if before:
            query = query.where(deliveries.c.number < before)
        async with self._database.reading() as connection:
            rows = (await connection.execute(query.order_by(deliveries.c.number.desc()).limit(limit + 1))).mappings()
            found = [_delivery(row) for row in rows]
        return Page(items=found[:limit], next_after=str(found[limit - 1].number) if len(found) > limit else None)

    async def redeliver(self, name: DeliveryName) -> Delivery:
        """Queue an ended event again, with all its time before it.

        Raises:
            NotFound: there is no such delivery, or no such webhook any more.
            Conflict: it has not ended, or its webhook is disabled.
        """
        now = self.clock()
        async with self._database.writing() as connection:
            # Locked as by those who write events: it is not disabled meanwhile.
            webhook = select(webhooks.c.disabled).where(*named(name.webhook))
            disabled = (await connection.execute(webhook.with_for_update(read=True))).scalar_one_or_none()
            state = (await connection.execute(select(deliveries.c.state).where(*_named(name)))).scalar_one_or_none()
            if disabled is None or state is None:
                raise NotFound(f"{name} does not exist", field="name")
            if disabled:
                raise Conflict(f"{name.webhook} is disabled", field="name", reason="WEBHOOK_DISABLED")
            ended = update(deliveries).where(*_named(name), deliveries.c.ended_at_s.is_not(None))
            values = {"state": DeliveryState.PENDING.value, "attempt": 0, "due_at_s": now, "queued_at_s": now}
            queued = await connection.execute(ended.values(**values, ended_at_s=None, error="", status_code=0))
            if queued.rowcount == 0:
                raise Conflict(f"{name} has not ended", field="name", reason="DELIVERY_PENDING")
        return await self.get(name)

    # ---- upkeep ---------------------------------------------------------------------------------------------------

    async def sweep(self) -> tuple[int, int]:
        """Give up what is too many, drop what has ended long ago: how many wait, and how many were given up."""
        now = self.clock()
        of = (deliveries.c.tenant, deliveries.c.collection, deliveries.c.webhook)
        pending = DeliveryState.PENDING.value
        counts = select(*of, deliveries.c.state, func.count().label("count")).group_by(*of, deliveries.c.state)
        async with self._database.reading() as connection:
            rows = (await connection.execute(counts)).all()
        waiting = sum(count for *_, state, count in rows if state == pending)
        given_up = 0
        async with self._database.writing() as connection:
            await connection.execute(delete(deliveries).where(deliveries.c.ended_at_s <= now - self._kept_s))
            for tenant, collection, webhook, state, count in rows:
                kept = self._pending_max if state == pending else self._ended_max
                if count <= kept:
                    continue
                here = (*of_webhook(WebhookName(tenant, collection, webhook)), deliveries.c.state == state)
                newest = select(deliveries.c.number).where(*here).order_by(deliveries.c.number.desc())
                last = (await connection.execute(newest.offset(kept).limit(1))).scalar_one_or_none()
                over = (*here, deliveries.c.number <= (last or 0))
                if state != pending:
                    await connection.execute(delete(deliveries).where(*over))
                    continue
                failed = {"state": DeliveryState.FAILED.value, "error": QUEUE_FULL, "holder": "", "due_at_s": None}
                changed = await connection.execute(update(deliveries).where(*over).values(**failed, ended_at_s=now))
                given_up += changed.rowcount
        return waiting - given_up, given_up


_WEBHOOK = and_(
    deliveries.c.tenant == webhooks.c.tenant,
    deliveries.c.collection == webhooks.c.collection,
    deliveries.c.webhook == webhooks.c.id,
)


def _named(name: DeliveryName) -> tuple[ColumnElement[bool], ...]:
    return (*of_webhook(name.webhook), deliveries.c.event == name.event)


def _name(row: RowMapping) -> DeliveryName:
    return DeliveryName(WebhookName(row["tenant"], row["collection"], row["webhook"]), row["event"])


def _attempt(row: RowMapping) -> Attempt:
    return Attempt(
        delivery=row["number"],
        name=_name(row),
        holder=row["holder"],
        number=row["attempt"],
        queued_at_s=row["queued_at_s"],
        url=row["url"],
        receiver=row["receiver"],
        body=row["body"],
        secret=row["secret"],
    )


def _delivery(row: RowMapping) -> Delivery:
    fields = {name: row[name] for name in Delivery.__dataclass_fields__ if name not in ("name", "state")}
    return Delivery(name=_name(row), state=DeliveryState(row["state"]), **fields)
