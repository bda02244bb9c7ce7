import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.redis_server import RedisServer
from unit.gateway.conftest import Clock
from unit.gateway.fakes import COLLECTION, published

from gannet_gateway.auth import Tenants
from gannet_gateway.cache.breaker import Breaker
from gannet_gateway.cache.shared import SharedTier, connect
from gannet_gateway.ledger.accounts import Accounts
from gannet_gateway.ledger.engine import Database
from gannet_gateway.ledger.journal import Journal
from gannet_gateway.ledger.ledger import Ledger
from gannet_gateway.tenants.admission import Admission
from gannet_gateway.tenants.buckets import Buckets, LocalBuckets, Rate, SharedBuckets
from gannet_gateway.tenants.gate import Gate
from gannet_gateway.tenants.quotas import USAGE_S, Quotas
from gannet_gateway.tenants.records import Limits
from gannet_gateway.tenants.scopes import EVERY_SCOPE
from gannet_service.call import Principal
from gannet_service.errors import PermissionDenied, QuotaExceeded

SLOW = Rate(per_s=0.5, capacity=2.0)
SEARCH = "/gannet.gateway.v1.SearchService/Search"
BATCH = "/gannet.gateway.v1.SearchService/BatchSearch"
ANSWER = "/gannet.gateway.v1.AnswerService/StreamAnswer"
CALLER = Principal(tenant="acme", credential="k", scopes=EVERY_SCOPE)


@pytest.fixture
def local(clock: Clock) -> LocalBuckets:
    """Buckets of this process."""
    return LocalBuckets(clock=clock)


@pytest.fixture
def accounts(database: Database, ledger: Ledger, clock: Clock) -> Accounts:
    """Accounts of a ledger with the tenant "acme"."""
    return Accounts(database, clock=clock)


def quotas(accounts: Accounts, clock: Clock, buckets: Buckets, **defaults: Any) -> Quotas:
    """Quotas with these defaults, and a burst of two seconds' worth."""
    tenants = Tenants(accounts, cache_s=0)
    return Quotas(accounts, tenants, buckets, Limits(**defaults), burst_s=2.0, clock=clock)


async def test_bucket_gives_its_burst_and_then_its_rate(local: LocalBuckets, clock: Clock):
    """Whoever is refused is told the time after which it is there, to the second."""
    assert [await local.take("b", 1, SLOW) for _ in range(2)] == [0, 0]
    assert await local.take("b", 1, SLOW) == pytest.approx(2, abs=0.01)
    clock.now += 2
    assert await local.take("b", 1, SLOW) == 0
    assert await local.take("other", 1, SLOW) == 0


async def test_bucket_lends_what_is_more_than_it_holds(local: LocalBuckets, clock: Clock):
    """When it is full; the debt is paid before anybody else is let through, and nothing is refused that is forced."""
    assert await local.take("b", 10, SLOW) == 0
    assert await local.take("b", 0, SLOW) == pytest.approx(16, abs=0.01)
    assert await local.take("b", 1, SLOW, forced=True) == 0
    clock.now += 18.1
    assert await local.take("b", 0, SLOW) == 0


async def test_bucket_that_nobody_uses_is_no_fuller_than_full(local: LocalBuckets, clock: Clock):
    """A night without calls is no reserve for a day."""
    await local.take("b", 1, SLOW)
    clock.now += 10_000
    assert [await local.take("b", 1, SLOW) > 0 for _ in range(3)] == [False, False, True]


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of the test's own."""
    server = RedisServer(tmp_path)
    yield server
    server.kill()


def shared_tier(server: RedisServer) -> SharedTier:
    """A patient connection."""
    client = connect(server.url, server.password_file, timeout_s=5)
    return SharedTier(client, timeout_s=5, ttl_s=60, breaker=Breaker(failures_max=1, open_s=60))


async def test_buckets_in_redis_are_one_for_all_gateways(redis: RedisServer):
    """The same arithmetic as here, by one script."""
    tiers = [shared_tier(redis) for _ in range(2)]
    first, second = (SharedBuckets(tier.evaluate, LocalBuckets()) for tier in tiers)
    rate = Rate(per_s=0.01, capacity=3.0)
    taken = await asyncio.gather(*(buckets.take("b", 1, rate) for buckets in (first, second) * 5))
    assert sorted(wait_s > 0 for wait_s in taken) == [False] * 3 + [True] * 7
    assert max(taken) == pytest.approx(100, rel=0.1)
    assert await first.take("b", 50, rate, forced=True) == 0
    assert await second.take("b", 0, rate) == pytest.approx(5000, rel=0.1)
    for tier in tiers:
        await tier.close()


async def test_buckets_without_redis_are_the_processes(redis: RedisServer, local: LocalBuckets):
    """Limits hold in each gateway, and no call fails for it."""
    tier = shared_tier(redis)
    buckets = SharedBuckets(tier.evaluate, local)
    redis.kill()
    assert [await buckets.take("b", 1, SLOW) > 0 for _ in range(3)] == [False, False, True]
    await tier.close()


async def test_queries_beyond_the_rate_are_refused(accounts: Accounts, clock: Clock, local: LocalBuckets):
    """By the tenant's own limit, else the configuration's; 0 is no limit."""
    limited = quotas(accounts, clock, local, queries_per_s=0.5)
    await limited.admit_query(await accounts.tenant("acme"), tokens=False)
    with pytest.raises(QuotaExceeded) as caught:
        await limited.admit_query(await accounts.tenant("acme"), tokens=False)
    assert (caught.value.reason, caught.value.retry_after_s) == ("QUOTA_EXCEEDED", pytest.approx(2, abs=0.1))
    unlimited = await accounts.update_tenant("acme", limits=Limits(queries_per_s=0))
    for _ in range(5):
        await limited.admit_query(unlimited, tokens=False)


async def test_tenant_in_debt_for_tokens_gets_no_answer(accounts: Accounts, clock: Clock, local: LocalBuckets):
    """A search takes none; what an answer took is counted at its end."""
    limited = quotas(accounts, clock, local, tokens_per_s=100.0)
    tenant = await accounts.tenant("acme")
    await limited.admit_query(tenant, tokens=True)
    await limited.charge_tokens("acme", 700)
    await limited.admit_query(tenant, tokens=False)
    with pytest.raises(QuotaExceeded) as caught:
        await limited.admit_query(tenant, tokens=True)
    assert caught.value.retry_after_s == pytest.approx(5, abs=0.1)
    clock.now += 5
    await limited.admit_query(tenant, tokens=True)


@pytest.mark.parametrize("limits, refused_at", [({"documents_max": 3}, 2), ({"bytes_max": 20}, 2), ({}, None)])
async def test_documents_beyond_the_room_are_refused(
    limits: dict[str, int],
    refused_at: int | None,
    *,
    accounts: Accounts,
    clock: Clock,
    local: LocalBuckets,
    journal: Journal,
):
    """Counting what is stored and what came since; without a time, for waiting does not help."""
    await published(journal, COLLECTION.document("a.md"))  # 3 bytes
    limited = quotas(accounts, clock, local, **limits)
    refused: list[tuple[int, float | None]] = []
    for number in range(4):
        try:
            await limited.admit_document("acme", 8)
        except QuotaExceeded as error:
            refused.append((number, error.retry_after_s))
    assert refused[:1] == ([] if refused_at is None else [(refused_at, None)])
    clock.now += USAGE_S  # nothing came of those uploads
    await limited.admit_document("acme", 8)


async def test_documents_take_tokens_by_their_size(accounts: Accounts, clock: Clock, local: LocalBuckets):
    """Four bytes are one."""
    limited = quotas(accounts, clock, local, tokens_per_s=100.0)
    await limited.admit_document("acme", 400)
    await limited.admit_document("acme", 400)
    with pytest.raises(QuotaExceeded, match="100 tokens a second"):
        await limited.admit_document("acme", 400)


async def test_admission_holds_a_place_until_it_is_left(accounts: Accounts, clock: Clock, local: LocalBuckets):
    """Searches and answers in gates of their own; other calls in none."""
    searches, answers = Gate(in_work_max=1, waiting_max=1), Gate(in_work_max=1, waiting_max=1)
    tenants = Tenants(accounts, cache_s=60)
    admission = Admission(tenants, quotas(accounts, clock, local), searches=searches, answers=answers)
    leave = await admission.admit(SEARCH, CALLER)
    assert await admission.admit(ANSWER, CALLER) is not None
    assert (searches.in_work, answers.in_work) == (1, 1)
    assert await admission.admit("/gannet.gateway.v1.DocumentService/GetDocument", CALLER) is None
    assert leave is not None
    leave()
    assert (searches.in_work, answers.in_work) == (0, 1)


async def test_admission_refuses_before_it_counts(accounts: Accounts, clock: Clock, local: LocalBuckets):
    """A call without its scope costs its tenant nothing, and takes no place."""
    gate = Gate(in_work_max=1, waiting_max=1)
    limited = quotas(accounts, clock, local, queries_per_s=0.5)
    admission = Admission(Tenants(accounts, cache_s=60), limited, searches=gate, answers=gate)
    for _ in range(3):
        with pytest.raises(PermissionDenied):
            await admission.admit(SEARCH, Principal(tenant="acme", credential="k"))
    await admission.admit(SEARCH, CALLER)
    with pytest.raises(QuotaExceeded):
        await admission.admit(SEARCH, CALLER)
    assert gate.in_work == 1


async def test_batch_is_paid_by_the_calls_after_it(accounts: Accounts, clock: Clock, local: LocalBuckets):
    """It is let in as one query, and owes the others; the tenant's next turn comes after all of them."""
    gate = Gate(in_work_max=1, waiting_max=8)
    limited = quotas(accounts, clock, local, queries_per_s=1.0)
    admission = Admission(Tenants(accounts, cache_s=60), limited, searches=gate, answers=gate)
    leave = await admission.admit(BATCH, CALLER)
    assert leave is not None
    await admission.charge_searches(CALLER, 5)
    with pytest.raises(QuotaExceeded) as caught:
        await admission.admit(SEARCH, CALLER)
    assert caught.value.retry_after_s == pytest.approx(5, abs=0.01)  # of a burst of 2, 6 were taken
    began: list[str] = []

    async def call(tenant: str) -> None:
        await gate.enter(tenant)
        began.append(tenant)
        gate.leave()

    calls = [asyncio.ensure_future(call(tenant)) for tenant in ["acme", *["other"] * 4]]
    await asyncio.sleep(0)
    leave()
    await asyncio.gather(*calls)
    assert began == ["other"] * 4 + ["acme"]
