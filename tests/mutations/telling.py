"""Breaks of how webhooks are told: events with their jobs, signatures, where a post may go, what becomes of it."""

from mutation import GATEWAY, one

EVENTS = f"{GATEWAY}/ledger/events.py"
DELIVERIES = f"{GATEWAY}/ledger/deliveries.py"
ADDRESSES = f"{GATEWAY}/webhooks/addresses.py"
SENDER = f"{GATEWAY}/webhooks/sender.py"
DISPATCHER = f"{GATEWAY}/webhooks/dispatcher.py"

EVENT_TESTS = "tests/unit/gateway/webhooks/test_events.py"
DELIVERY_TESTS = "tests/unit/gateway/webhooks/test_deliveries.py"
DISPATCHER_TESTS = "tests/unit/gateway/webhooks/test_dispatcher.py"
SENDING_TESTS = "tests/unit/gateway/webhooks/test_sending.py"

TELLING = (
    one(
        "webhook: a publish tells what it ends",
        EVENT_TESTS,
        f"{GATEWAY}/ledger/journal.py",
        "                await operations_ended(connection, ended, now=now)\n",
        "                pass\n",
    ),
    one(
        "webhook: an import is told once, whoever ends its last documents",
        EVENT_TESTS,
        EVENTS,
        '            await connection.execute(_LOCK, {"operation": operation})\n',
        "            pass\n",
    ),
    one("webhook: an import is told when all of it has ended", EVENT_TESTS, EVENTS, 'if not row["open"]}', "}"),
    one("webhook: a disabled one hears nothing", EVENT_TESTS, EVENTS, ".in_(of), ~webhooks.c.disabled)", ".in_(of))"),
    one(
        "webhook: an error's message is not told",
        EVENT_TESTS,
        EVENTS,
        '{"code": job["error"]["code"], "reason": job["error"]["reason"]}',
        'job["error"]',
    ),
    one(
        "webhook: who lost its lease records nothing",
        DELIVERY_TESTS,
        DELIVERIES,
        "held = (deliveries.c.number == attempt.delivery, deliveries.c.holder == attempt.holder)",
        "held = (deliveries.c.number == attempt.delivery,)",
    ),
    one(
        "webhook: a claimed event is not claimed again within its lease",
        DELIVERY_TESTS,
        DELIVERIES,
        "due_at_s=now + self._lease_s",
        "due_at_s=now",
    ),
    one(
        "webhook: a receiver has few posts in work",
        DELIVERY_TESTS,
        DELIVERIES,
        "                in_work[receiver] += len(found)\n",
        "",
    ),
    one(
        "webhook: what waits is bounded",
        DELIVERY_TESTS,
        DELIVERIES,
        "                if count <= kept:",
        "                if state == pending or count <= kept:",
    ),
    one(
        "webhook: a database's error quotes no secret",
        EVENT_TESTS,
        f"{GATEWAY}/ledger/engine.py",
        '        "hide_parameters": True,\n',
        "",
    ),
    one("webhook: a secret is in no repr", DELIVERY_TESTS, DELIVERIES, "field(repr=False)", "field()"),
    one(
        "webhook: the address is checked at every attempt",
        f"{DISPATCHER_TESTS}::test_address_that_is_not_public_is_not_connected_to",
        ADDRESSES,
        "if self.allows(ipaddress.ip_address(address))]",
        "]",
    ),
    one(
        "webhook: an address inside an address is checked",
        SENDING_TESTS,
        ADDRESSES,
        "        if inner is not None:",
        "        if False:",
    ),
    one(
        "webhook: the connection goes to the address that was checked",
        SENDING_TESTS,
        SENDER,
        "self._post_to(url.copy_with(host=addresses[-1]), host",
        "self._post_to(url, host",
    ),
    one(
        "webhook: the certificate is the name's",
        SENDING_TESTS,
        SENDER,
        'extensions={"sni_hostname": host}',
        "extensions={}",
    ),
    one(
        "webhook: the signature is over time and id, too",
        SENDING_TESTS,
        f"{GATEWAY}/webhooks/signing.py",
        'f"{event}.{timestamp}.".encode() + body',
        "body",
    ),
    one(
        "webhook: a redirect takes no event",
        f"{DISPATCHER_TESTS}::test_event_that_is_not_taken_is_tried_again_with_its_id",
        SENDER,
        "< http.HTTPStatus.MULTIPLE_CHOICES",
        "< http.HTTPStatus.BAD_REQUEST",
    ),
    one(
        "webhook: a post has a time limit",
        f"{DISPATCHER_TESTS}::test_receiver_that_stalls_is_given_up_after_a_time",
        SENDER,
        "asyncio.timeout(self._timeout_s)",
        "asyncio.timeout(None)",
    ),
    one(
        "webhook: 410 ends it",
        f"{DISPATCHER_TESTS}::test_receiver_that_is_gone_is_asked_no_more",
        DISPATCHER,
        "if status_code == HTTPStatus.GONE:",
        "if False:",
    ),
    one(
        "webhook: an event is given up some time",
        f"{DISPATCHER_TESTS}::test_pauses_grow_until_the_event_is_given_up",
        DISPATCHER,
        "if self._deliveries.clock() + pause_s > attempt.queued_at_s + self._limits.retry_s:",
        "if attempt.number > 50:",
    ),
)
