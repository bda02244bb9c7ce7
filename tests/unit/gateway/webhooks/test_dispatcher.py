"""Delivery to real receivers on loopback, from a real ledger, on both engines."""

import asyncio
import base64
import hashlib
import hmac
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from ipaddress import ip_network
from typing import Any

import pytest
from fakes.receiver import Post, Receiver
from unit.gateway.conftest import Clock
from unit.gateway.fakes import COLLECTION
from unit.gateway.webhooks.conftest import LEASE_S, Board

from gannet_gateway.ledger.deliveries import Deliveries
from gannet_gateway.ledger.engine import Database, open_database
from gannet_gateway.ledger.job import Ending, JobState, NewJob
from gannet_gateway.ledger.jobs import Jobs
from gannet_gateway.ledger.webhooks import Webhooks
from gannet_gateway.webhooks.addresses import Addresses
from gannet_gateway.webhooks.build import open_transport
from gannet_gateway.webhooks.dispatcher import DeliveryLimits, Dispatcher
from gannet_gateway.webhooks.sender import Sender
from gannet_service.errors import DependencyUnavailable

RETRY_S, PAUSE_S = 100.0, 10.0
LOOPBACK = "127.0.0.0/8"

MakeGateway = Callable[..., Dispatcher]


@pytest.fixture
async def make_gateway(board: Board) -> AsyncIterator[MakeGateway]:
    """Makes dispatchers, as many gateways have one each."""
    made: list[tuple[Dispatcher, Any, Addresses]] = []

    def make(
        *, networks: tuple[str, ...] = (LOOPBACK,), timeout_s: float = 30.0, deliveries: Any = None, **limits: Any
    ) -> Dispatcher:
        addresses = Addresses([ip_network(network) for network in networks])
        transport = open_transport(16)
        defaults = {"in_work_max": 16, "of_receiver_max": 4, "poll_s": 0.01, "retry_s": RETRY_S}
        values = {**defaults, "pause_initial_s": PAUSE_S, "pause_max_s": 40.0, **limits}
        sender = Sender(addresses, transport, timeout_s=timeout_s, clock=board.clock)
        dispatcher = Dispatcher(deliveries or board.gateway(), sender, DeliveryLimits(**values))
        made.append((dispatcher, transport, addresses))
        return dispatcher

    yield make
    for dispatcher, transport, addresses in made:
        for task in dispatcher._running:
            task.cancel()
        await dispatcher.close()
        await transport.aclose()
        addresses.close()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """Takes everything."""
    async with Receiver.open() as opened:
        yield opened


async def deliver(dispatcher: Dispatcher) -> int:
    """Post what is due, once, and wait for what becomes of it."""
    count = await dispatcher.claim_due()
    await dispatcher.idle()
    return count


def verified(post: Post) -> str:
    """The id of a post whose signature is right, as a receiver without any library checks it."""
    signed = f"{post.headers['webhook-id']}.{post.headers['webhook-timestamp']}.".encode() + post.body
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    version, _, signature = post.headers["webhook-signature"].partition(",")
    assert (version, signature) == ("v1", expected)
    return post.headers["webhook-id"]


async def test_event_is_posted_signed_and_once(board: Board, make_gateway: MakeGateway, receiver: Receiver):
    """JSON as it was written, with the time of the attempt; a reply of 2xx ends it."""
    name = await board.hook("a", receiver.url)
    (event,) = await board.write(name)
    gateway = make_gateway()
    assert await deliver(gateway) == 1
    (post,) = receiver.posts
    assert verified(post) == event
    assert abs(int(post.headers["webhook-timestamp"]) - board.clock.now) < 2
    assert (post.path, post.headers["content-type"]) == ("/events", "application/json")
    assert post.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert json.loads(post.body) == {"data": "ž"}
    assert await board.states(name) == ["DELIVERED"]
    board.clock.now += LEASE_S * 2
    assert await deliver(gateway) == 0


@pytest.mark.parametrize(
    "behaviour, status_code, error",
    [
        (500, 500, "status 500"),
        (404, 404, "status 404"),
        (302, 302, "status 302"),
        ("cut", 0, "RemoteProtocolError: Server disconnected without sending a response."),
    ],
)
async def test_event_that_is_not_taken_is_tried_again_with_its_id(
    *, behaviour: Any, status_code: int, error: str, board: Board, make_gateway: MakeGateway, receiver: Receiver
):
    """After a pause, with the reason on record; a redirect is not followed, and no cookie is sent back."""
    name = await board.hook("a", receiver.url)
    (event,) = await board.write(name)
    receiver.script.append(behaviour)
    gateway = make_gateway()
    await deliver(gateway)
    (delivery,) = await board.all(name)
    assert (delivery.state.value, delivery.status_code, delivery.error) == ("PENDING", status_code, error)
    assert await deliver(gateway) == 0
    board.clock.now += PAUSE_S
    assert await deliver(gateway) == 1
    assert [verified(post) for post in receiver.posts] == [event, event]
    assert [post.path for post in receiver.posts] == ["/events"] * 2
    assert "cookie" not in receiver.posts[1].headers
    assert receiver.connections == 2
    assert await board.states(name) == ["DELIVERED"]


async def test_receiver_that_cannot_be_reached_is_tried_again(board: Board, make_gateway: MakeGateway):
    """Nobody listens there."""
    async with Receiver.open() as closed:
        url = closed.url
    name = await board.hook("a", url)
    await board.write(name)
    await deliver(make_gateway())
    (delivery,) = await board.all(name)
    assert (delivery.state.value, delivery.status_code) == ("PENDING", 0)
    assert delivery.error.startswith("ConnectError: ")


async def test_stalled_receiver_holds_up_no_other(board: Board, make_gateway: MakeGateway, receiver: Receiver):
    """It has few attempts in work, and none of them keeps another receiver's events waiting."""
    async with Receiver.open() as stalled:
        stalled.script.extend(["stall"] * 100)
        slow, quick = await board.hook("a", stalled.url), await board.hook("b", receiver.url)
        await board.write(slow, 20)
        await board.write(quick, 10)
        gateway = make_gateway(of_receiver_max=2, in_work_max=3)
        running = asyncio.create_task(gateway.run())
        await receiver.received(10)
        assert len(await stalled.received(2)) == 2
        running.cancel()
        await asyncio.wait([running])


async def test_receiver_that_stalls_is_given_up_after_a_time(
    board: Board, make_gateway: MakeGateway, receiver: Receiver
):
    """The reason says how long."""
    receiver.script.append("stall")
    name = await board.hook("a", receiver.url)
    await board.write(name)
    await deliver(make_gateway(timeout_s=0.2))
    (delivery,) = await board.all(name)
    assert (delivery.state.value, delivery.error) == ("PENDING", "no reply within 0.2 s")


async def test_body_of_a_reply_is_not_read(board: Board, make_gateway: MakeGateway, receiver: Receiver):
    """One that never ends takes the event all the same."""
    receiver.script.append("endless")
    name = await board.hook("a", receiver.url)
    await board.write(name)
    await deliver(make_gateway())
    assert await board.states(name) == ["DELIVERED"]


async def test_pauses_grow_until_the_event_is_given_up(board: Board, make_gateway: MakeGateway, receiver: Receiver):
    """Within the time that it is tried for; it stays to be looked at, and is posted again when asked."""
    receiver.script.extend([500] * 100)
    name = await board.hook("a", receiver.url)
    (event,) = await board.write(name)
    started_s = board.clock.now
    gateway = make_gateway()
    pauses: list[float] = []
    while await board.states(name) == ["PENDING"]:
        (delivery,) = await board.all(name)
        assert delivery.due_at_s is not None
        pauses.append(delivery.due_at_s - board.clock.now)
        board.clock.now = max(board.clock.now, delivery.due_at_s)
        assert await deliver(gateway) == 1
    bounds = [(PAUSE_S / 2, PAUSE_S), (PAUSE_S, 2 * PAUSE_S), (2 * PAUSE_S, 4 * PAUSE_S)]
    assert [low - 1 <= pause <= high for pause, (low, high) in zip(pauses[1:], bounds, strict=False)] == [True] * 3
    assert board.clock.now - started_s <= RETRY_S
    (delivery,) = await board.all(name)
    assert (delivery.state.value, delivery.error, delivery.due_at_s) == ("FAILED", "status 500", None)
    assert delivery.attempt == len(pauses) == len(receiver.posts)
    receiver.script.clear()
    await board.deliveries.redeliver(delivery.name)
    await deliver(gateway)
    assert verified(receiver.posts[-1]) == event
    assert await board.states(name) == ["DELIVERED"]


async def test_receiver_that_is_gone_is_asked_no_more(board: Board, make_gateway: MakeGateway, receiver: Receiver):
    """410 disables the webhook and gives up what waits for it."""
    receiver.script.append(410)
    name = await board.hook("a", receiver.url)
    await board.write(name, 3)
    gateway = make_gateway(of_receiver_max=1)
    await deliver(gateway)
    assert await board.states(name) == ["FAILED"] * 3
    assert (await board.webhooks.get(name)).disabled_reason == "status 410"
    board.clock.now += LEASE_S * 2
    assert await deliver(gateway) == 0
    assert len(receiver.posts) == 1


async def test_gateways_side_by_side_post_every_event_once(board: Board, make_gateway: MakeGateway, receiver: Receiver):
    """In normal operation: each is claimed by one of them."""
    name = await board.hook("a", receiver.url)
    ids = await board.write(name, 40)
    gateways = [asyncio.create_task(make_gateway().run()) for _ in range(2)]
    await receiver.received(40)
    async with asyncio.timeout(60):
        while set(await board.states(name)) != {"DELIVERED"}:  # noqa: ASYNC110 - the ledger knows
            await asyncio.sleep(0.01)
    for gateway in gateways:
        gateway.cancel()
    await asyncio.wait(gateways)
    assert Counter(verified(post) for post in receiver.posts) == Counter(ids)


async def test_post_whose_gateway_died_is_made_again(board: Board, make_gateway: MakeGateway, receiver: Receiver):
    """When its lease has run out, by another gateway, with the same id."""
    name = await board.hook("a", receiver.url)
    (event,) = await board.write(name)
    receiver.script.append("stall")
    dead = make_gateway()
    await dead.claim_due()
    await receiver.received(1)
    for task in dead._running:
        task.cancel()
    await dead.idle()
    alive = make_gateway()
    assert await deliver(alive) == 0
    board.clock.now += LEASE_S + 1
    assert await deliver(alive) == 1
    assert [verified(post) for post in receiver.posts] == [event, event]
    assert await board.states(name) == ["DELIVERED"]


async def test_outcome_that_cannot_be_recorded_is_found_out_again(
    board: Board, make_gateway: MakeGateway, receiver: Receiver
):
    """The ledger was away when the receiver had answered: at least once means twice then, and no more."""

    class Away(Deliveries):
        async def delivered(self, *_arguments: Any) -> bool:
            raise DependencyUnavailable("ledger: gone")

    name = await board.hook("a", receiver.url)
    await board.write(name)
    await deliver(make_gateway(deliveries=Away(board.database, lease_s=LEASE_S, kept_s=1, clock=board.clock)))
    assert await board.states(name) == ["PENDING"]
    board.clock.now += LEASE_S + 1
    await deliver(make_gateway())
    assert await board.states(name) == ["DELIVERED"]
    assert len(receiver.posts) == 2


async def test_event_survives_a_crash_between_its_job_and_its_delivery(
    board: Board,
    make_gateway: MakeGateway,
    receiver: Receiver,
    *,
    database: Database,
    clock: Clock,
    ledger_url: str,
    tmp_path: Any,
):
    """The job ended, then the gateway was gone; the next one that opens the ledger delivers."""
    name = await board.hook("a", receiver.url)
    jobs = Jobs(database, lease_s=30, queued_max=9, request_ids_s=9, clock=clock)
    operation = "b" * 32
    await jobs.accept(
        NewJob(document=COLLECTION.document("a.md"), operation=operation, blob="u", blob_bytes=1, fields={})
    )
    (job,) = await jobs.claim("g1", limit=1, bytes_max=10)
    await jobs.end(Ending(job=job, state=JobState.SUCCEEDED))
    await database.close()
    reopened = await open_database(tmp_path, ledger_url)
    deliveries = Deliveries(reopened, lease_s=LEASE_S, kept_s=1000, clock=clock)
    await deliver(make_gateway(deliveries=deliveries))
    page = await deliveries.page(name, state=None, before=0, limit=10)
    assert (await Webhooks(reopened).get(name)).disabled is False
    await reopened.close()
    (post,) = receiver.posts
    assert verified(post) == page.items[0].name.event
    assert json.loads(post.body)["data"]["operation"] == f"tenants/acme/operations/{operation}"
    assert [delivery.state.value for delivery in page.items] == ["DELIVERED"]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"])
async def test_address_that_is_not_public_is_not_connected_to(
    host: str, board: Board, make_gateway: MakeGateway, receiver: Receiver
):
    """Whatever its name: what it resolves to at the attempt is checked."""
    name = await board.hook("a", f"http://{host}:{receiver.port}/")
    await board.write(name)
    await deliver(make_gateway(networks=("10.0.0.0/8",)))
    (delivery,) = await board.all(name)
    assert (delivery.state.value, delivery.error) == ("PENDING", "the host's address is not public")
    assert receiver.connections == 0


async def test_name_that_does_not_resolve_is_tried_again(board: Board, make_gateway: MakeGateway):
    """It may be a mistake that its owner mends."""
    name = await board.hook("a", f"http://{'x' * 70}.invalid/")
    await board.write(name)
    await deliver(make_gateway())
    (delivery,) = await board.all(name)
    assert (delivery.state.value, delivery.error) == ("PENDING", "the host's name does not resolve")


async def test_bug_in_one_delivery_does_not_end_the_others(board: Board, make_gateway: MakeGateway, receiver: Receiver):
    """What cannot be posted at all is logged, and its lease runs out."""
    broken = await board.hook("a", "nonsense", receiver="x")
    name = await board.hook("b", receiver.url)
    await board.write(broken)
    await board.write(name)
    await deliver(make_gateway())
    assert (await board.states(broken), await board.states(name)) == (["PENDING"], ["DELIVERED"])
