"""Deliveries in the ledger, on both engines: claims, leases, pauses, ends."""

import asyncio
from collections import Counter

import pytest
from unit.gateway.webhooks.conftest import LEASE_S, SECRET, Board

from gannet_gateway.ledger.deliveries import ERROR_CHARACTERS_MAX, QUEUE_FULL, Attempt
from gannet_gateway.ledger.events import DeliveryState
from gannet_gateway.names import DeliveryName
from gannet_service.errors import Conflict, NotFound


async def claimed(board: Board, *, limit: int = 100, of_receiver_max: int = 100) -> list[Attempt]:
    """What a gateway with nothing in work begins."""
    return await board.deliveries.claim({}, limit=limit, of_receiver_max=of_receiver_max)


async def test_claims_at_the_same_moment_share_no_event(board: Board):
    """Whichever gateway asks."""
    name = await board.hook("a")
    ids = await board.write(name, 8)
    gateways = [board.gateway() for _ in range(4)]
    found = await asyncio.gather(*(gateway.claim({}, limit=2, of_receiver_max=2) for gateway in gateways))
    assert sorted(attempt.name.event for batch in found for attempt in batch) == ids
    assert await claimed(board) == []


async def test_attempt_whose_gateway_is_gone_is_anothers(board: Board):
    """Once its lease has run out; what the first one says afterwards changes nothing."""
    name = await board.hook("a")
    await board.write(name)
    (lost,) = await claimed(board)
    assert (lost.number, lost.url, lost.body, lost.secret) == (1, "https://a.example/", '{"data":"ž"}', SECRET)
    board.clock.now += LEASE_S / 2
    assert await claimed(board) == []
    board.clock.now += LEASE_S
    (taken,) = await claimed(board)
    assert (taken.number, taken.name) == (2, lost.name)
    late = [
        await board.deliveries.delivered(lost, 200),
        await board.deliveries.retry(lost, 0, "no", pause_s=0),
        await board.deliveries.fail(lost, 0, "no"),
        await board.deliveries.gone(lost, 410, "no"),
    ]
    assert late == [False] * 4
    assert await board.states(name) == ["PENDING"]
    assert await board.deliveries.delivered(taken, 204)
    (delivery,) = await board.all(name)
    assert (delivery.state, delivery.status_code, delivery.error) == (DeliveryState.DELIVERED, 204, "")


async def test_receiver_with_much_waiting_does_not_keep_anothers_waiting(board: Board):
    """Of each receiver a few at a time, whatever webhook they are for; those in work count."""
    first, second = await board.hook("a"), await board.hook("b", receiver="https://a.example")
    other = await board.hook("c")
    await board.write(first, 6)
    await board.write(second, 6)
    await board.write(other, 2)
    begun = await claimed(board, of_receiver_max=3)
    assert Counter(attempt.receiver for attempt in begun) == {"https://a.example": 3, "https://c.example": 2}
    busy = {"https://a.example": 2}
    assert len(await board.deliveries.claim(busy, limit=9, of_receiver_max=3)) == 1
    assert await board.deliveries.claim({"https://a.example": 3}, limit=9, of_receiver_max=3) == []
    assert len(await claimed(board, limit=2)) == 2


async def test_failed_attempt_is_due_again_after_its_pause(board: Board):
    """With why it failed, cut to a length."""
    name = await board.hook("a")
    await board.write(name)
    (attempt,) = await claimed(board)
    assert await board.deliveries.retry(attempt, 503, "x" * 1000, pause_s=10)
    (delivery,) = await board.all(name)
    assert (delivery.state, delivery.status_code, delivery.error) == (
        DeliveryState.PENDING,
        503,
        "x" * ERROR_CHARACTERS_MAX,
    )
    board.clock.now += 9
    assert await claimed(board) == []
    board.clock.now += 2
    assert [each.number for each in await claimed(board)] == [2]


async def test_receiver_that_is_gone_disables_its_webhook(board: Board):
    """What waits is given up, what is in work comes to nothing; enabled again, it starts with what comes."""
    name, other = await board.hook("a"), await board.hook("b")
    await board.write(name, 3)
    await board.write(other)
    first, second = [each for each in await claimed(board, of_receiver_max=2) if each.name.webhook == name]
    assert await board.deliveries.gone(first, 410, "status 410")
    assert not await board.deliveries.delivered(second, 200)
    found = await board.all(name)
    assert [(each.state.value, each.error) for each in found] == [("FAILED", "status 410")] * 3
    assert [each.status_code for each in found] == [410, 0, 0]
    assert await board.states(other) == ["PENDING"]
    webhook = await board.webhooks.get(name)
    assert (webhook.disabled, webhook.disabled_reason) == (True, "status 410")
    with pytest.raises(Conflict) as caught:
        await board.deliveries.redeliver(first.name)
    assert caught.value.reason == "WEBHOOK_DISABLED"
    enabled = await board.webhooks.change(name, disabled=False)
    assert (enabled.disabled, enabled.disabled_reason) == (False, "")
    assert (await board.deliveries.redeliver(first.name)).state is DeliveryState.PENDING


async def test_receiver_that_was_left_does_not_disable_the_webhook(board: Board):
    """The url was changed while the old one was being asked; the event goes to the new one."""
    name = await board.hook("a")
    await board.write(name)
    (attempt,) = await claimed(board)
    await board.webhooks.change(name, place=("https://b.example/", "https://b.example"))
    assert not await board.deliveries.gone(attempt, 410, "status 410")
    board.clock.now += LEASE_S + 1
    assert [each.url for each in await claimed(board)] == ["https://b.example/"]


async def test_webhook_that_its_owner_disables_gives_up_what_waits(board: Board):
    """As if its receiver had asked."""
    name = await board.hook("a")
    await board.write(name, 2)
    await board.webhooks.change(name, disabled=True)
    assert await board.states(name) == ["FAILED"] * 2
    assert await claimed(board) == []


async def test_ended_event_is_delivered_again_when_asked(board: Board):
    """With its id, and all its time before it; one that waits is refused, one that there is not is not found."""
    name = await board.hook("a")
    (event,) = await board.write(name)
    (attempt,) = await claimed(board)
    with pytest.raises(Conflict) as caught:
        await board.deliveries.redeliver(attempt.name)
    assert caught.value.reason == "DELIVERY_PENDING"
    await board.deliveries.fail(attempt, 500, "status 500")
    queued = await board.deliveries.redeliver(attempt.name)
    assert (queued.attempt, queued.error, queued.status_code, queued.ended_at_s) == (0, "", 0, None)
    (again,) = await claimed(board)
    assert (again.name.event, again.number) == (event, 1)
    assert again.queued_at_s > attempt.queued_at_s
    with pytest.raises(NotFound):
        await board.deliveries.redeliver(DeliveryName(name, "f" * 32))


async def test_deliveries_are_listed_newest_first_in_pages(board: Board):
    """All, or those of one state."""
    name = await board.hook("a")
    ids = await board.write(name, 5)
    (attempt, *_) = await claimed(board, limit=1)
    await board.deliveries.fail(attempt, 500, "status 500")
    first = await board.deliveries.page(name, state=None, before=0, limit=3)
    assert [each.name.event for each in first.items] == ids[:1:-1]
    assert first.next_after is not None
    rest = await board.deliveries.page(name, state=None, before=int(first.next_after), limit=3)
    assert ([each.name.event for each in rest.items], rest.next_after) == (ids[1::-1], None)
    failed = await board.deliveries.page(name, state=DeliveryState.FAILED, before=0, limit=3)
    assert [each.name.event for each in failed.items] == ids[:1]


async def test_sweep_keeps_what_is_new_and_bounds_what_waits(board: Board):
    """The oldest beyond a bound are given up with the reason, and ended ones are dropped by number and by age."""
    name, other = await board.hook("a"), await board.hook("b")
    gateway = board.gateway(kept_s=100, pending_max=3, ended_max=2)
    ids = await board.write(name, 8)
    await board.write(other, 3)
    for attempt in await claimed(board, limit=3):
        assert attempt.name.webhook == name
        await board.deliveries.delivered(attempt, 200)
    assert await gateway.sweep() == (6, 2)
    found = await board.all(name)
    assert [(each.name.event, each.state.value) for each in found] == [
        (ids[1], "DELIVERED"),
        (ids[2], "DELIVERED"),
        (ids[3], "FAILED"),
        (ids[4], "FAILED"),
        *((event, "PENDING") for event in ids[5:]),
    ]
    assert found[2].error == QUEUE_FULL
    assert await board.states(other) == ["PENDING"] * 3
    board.clock.now += 101
    assert await gateway.sweep() == (6, 0)
    assert await board.states(name) == ["PENDING"] * 3


async def test_attempt_that_is_logged_does_not_tell_the_secret(board: Board):
    """Nor does any other text made of it."""
    await board.write(await board.hook("a"))
    (attempt,) = await claimed(board)
    assert attempt.secret == SECRET
    assert SECRET not in f"{attempt} {attempt!r}"
