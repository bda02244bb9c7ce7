"""Webhooks through a real gateway: the service, the delivery, the command line; `kill -9` included."""

import asyncio
import base64
import hashlib
import hmac
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes.receiver import Post, Receiver
from integration.conftest import StartService
from integration.gateway.conftest import KEY, OTHER_KEY, Stack

from gannet_client import (
    AlreadyExists,
    DocumentInput,
    GannetClient,
    InvalidInput,
    NotFound,
    PermissionDenied,
)
from gannet_client.webhooks import Delivery, DeliveryState

WAIT_S = 60
SETTINGS = {
    "webhook_networks": '["127.0.0.0/8"]',
    "webhook_poll_s": 0.05,
    "webhook_pause_initial_s": 0.05,
    "webhook_timeout_s": 5,
    "lease_s": 1,
}


@pytest.fixture(scope="module")
def posting(start_gateway: Callable[..., Stack], tmp_path_factory: pytest.TempPathFactory) -> tuple[Stack, Path]:
    """A gateway that may post to loopback, and a directory that its sources may read."""
    root = tmp_path_factory.mktemp("opened")
    (root / "a.md").write_text("# Gannets\n\nThe gannet is a seabird.")
    return start_gateway(source_roots=json.dumps([str(root)]), source_poll_s=0.05, **SETTINGS), root


async def upload(client: GannetClient, collection: str, document_id: str, text: bytes = b"Gannets dive.") -> None:
    """One document, whatever becomes of it."""
    async for _ in client.upload(collection, [DocumentInput(document_id=document_id, content=text)]):
        pass


async def ended(client: GannetClient, collection: str, webhook_id: str) -> list[Delivery]:
    """A webhook's deliveries once none waits."""
    async with asyncio.timeout(WAIT_S):
        while True:
            found = [delivery async for delivery in client.webhooks.deliveries(collection, webhook_id)]
            if all(delivery.state is not DeliveryState.PENDING for delivery in found):
                return found
            await asyncio.sleep(0.05)


def verified(post: Post, secret: str) -> dict[str, Any]:
    """The event of a post whose signature is right."""
    signed = f"{post.headers['webhook-id']}.{post.headers['webhook-timestamp']}.".encode() + post.body
    key = base64.b64decode(secret.removeprefix("whsec_"))
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert post.headers["webhook-signature"] == f"v1,{expected}"
    return json.loads(post.body)


async def test_upload_and_run_of_a_source_are_told(posting: tuple[Stack, Path]):
    """A receiver that fails at first hears of each all the same, and the list says how it went."""
    stack, folder = posting
    async with Receiver.open() as receiver, GannetClient(stack.gateway.address, api_key=KEY) as client:
        await client.create_collection("docs")
        made = await client.webhooks.create("docs", "hook", receiver.url)
        receiver.script.append(500)
        await upload(client, "docs", "a.md")
        posts = await receiver.received(2)
        assert posts[0].body == posts[1].body
        event = verified(posts[1], made.secret)
        assert (event["type"], event["data"]["document"]) == (
            "operation.succeeded",
            "tenants/first/collections/docs/documents/a.md",
        )
        (delivery,) = await ended(client, "docs", "hook")
        assert (delivery.state, delivery.attempts, delivery.status_code) == (DeliveryState.DELIVERED, 2, 204)
        assert (delivery.event_id, delivery.body) == (posts[1].headers["webhook-id"], posts[1].body.decode())
        await upload(client, "docs", "b.csv", b"\xff\xfe\x00")
        assert verified((await receiver.received(3))[2], made.secret)["type"] == "operation.failed"
        await client.sources.create("docs", "wiki", directory=str(folder))
        run = verified((await receiver.received(4))[3], made.secret)
        assert (run["type"], run["data"]["indexed_count"]) == ("source_run.succeeded", 1)
        again = await client.webhooks.redeliver("docs", "hook", delivery.event_id)
        assert again.state is DeliveryState.PENDING
        assert verified((await receiver.received(5))[4], made.secret) == event
        assert [each.event_type for each in await ended(client, "docs", "hook")] == [
            "source_run.succeeded",
            "operation.failed",
            "operation.succeeded",
        ]
        assert not any(made.secret in line for line in stack.gateway.lines)


async def test_webhook_is_its_tenants_alone_and_tells_no_secret(posting: tuple[Stack, Path]):
    """Others find nothing; ids, addresses and secrets that cannot be are refused."""
    stack, _ = posting
    address = stack.gateway.address
    async with GannetClient(address, api_key=KEY) as client, GannetClient(address, api_key=OTHER_KEY) as other:
        await client.create_collection("mine")
        secret = f"whsec_{base64.b64encode(bytes(32)).decode()}"
        made = await client.webhooks.create("mine", "hook", "https://a.example/x", secret=secret)
        assert made.secret == secret
        assert secret not in repr(made)
        assert await client.webhooks.get("mine", "hook") == made.webhook
        with pytest.raises(AlreadyExists):
            await client.webhooks.create("mine", "hook", "https://a.example/x")
        for bad in (
            {"url": "ftp://a.example"},
            {"url": "http://10.0.0.1/"},
            {"url": "https://a.example", "secret": "x"},
        ):
            with pytest.raises(InvalidInput) as caught:
                await client.webhooks.create("mine", "bad", **bad)
            assert "whsec_AAA" not in caught.value.message
        with pytest.raises(PermissionDenied):
            await other.webhooks.get("tenants/first/collections/mine", "hook")
        with pytest.raises(NotFound):
            await other.webhooks.get("mine", "hook")
        with pytest.raises(NotFound):
            await client.webhooks.redeliver("mine", "hook", "f" * 32)
        moved = await client.webhooks.update("mine", "hook", url="https://b.example/", disabled=True)
        assert (moved.url, moved.disabled) == ("https://b.example/", True)
        assert (await client.webhooks.update("mine", "hook", disabled=False)).disabled_reason == ""
        with pytest.raises(InvalidInput):
            await client.webhooks.update("mine", "hook")
        await client.webhooks.delete("mine", "hook")
        assert [webhook async for webhook in client.webhooks.list("mine")] == []


async def test_event_whose_gateway_is_killed_is_delivered_by_the_next(
    start_gateway: Callable[..., Stack], start_service: StartService, tmp_path: Path
):
    """It had ended its job and was posting; over the same stores the same event is posted again, and taken."""
    edge = start_service("gannet_edge", {"GANNET_EDGE_DATA_DIR": tmp_path / "vectors"})
    settings = {**SETTINGS, "data_dir": tmp_path / "data", "qdrant_url": f"http://{edge.address}"}
    stack = await asyncio.to_thread(start_gateway, **settings)
    async with Receiver.open() as receiver:
        receiver.script.append("stall")
        async with GannetClient(stack.gateway.address, api_key=KEY) as client:
            await client.create_collection("docs")
            made = await client.webhooks.create("docs", "hook", receiver.url)
            await upload(client, "docs", "a.md")
            await receiver.received(1)
        stack.gateway.kill()
        stack = await asyncio.to_thread(start_gateway, **settings)
        first, second, *_ = await receiver.received(2)
        assert verified(first, made.secret) == verified(second, made.secret)
        assert first.headers["webhook-id"] == second.headers["webhook-id"]
        async with GannetClient(stack.gateway.address, api_key=KEY) as client:
            (delivery,) = await ended(client, "docs", "hook")
            assert (delivery.state, delivery.attempts) == (DeliveryState.DELIVERED, 2)


async def test_webhooks_command_line_adds_lists_switches_and_removes(posting: tuple[Stack, Path], tmp_path: Path):
    """Each prints what there is, as JSON on demand; a receiver that is gone shows."""
    stack, _ = posting
    command = [sys.executable, "-c", "from gannet_client.cli.main import run; run()"]
    command += ["--target", stack.gateway.address, "--api-key", KEY]

    async def gannet(*arguments: str, as_json: bool = True) -> str:
        whole = [*command, *(["--json"] if as_json else []), *arguments]
        run = await asyncio.to_thread(subprocess.run, whole, capture_output=True, text=True, timeout=WAIT_S, check=True)
        return run.stdout

    async with Receiver.open() as receiver:
        receiver.script.extend([410, 204])
        (tmp_path / "secret").write_text(f"whsec_{base64.b64encode(bytes(24)).decode()}\n")
        await gannet("collections", "create", "cli")
        added = json.loads(
            await gannet("webhooks", "add", "h", receiver.url, "-c", "cli", "--secret-file", str(tmp_path / "secret"))
        )
        assert added["secret"] == (tmp_path / "secret").read_text().strip()
        async with GannetClient(stack.gateway.address, api_key=KEY) as client:
            await upload(client, "cli", "a.md")
            await ended(client, "cli", "h")
        listed = json.loads(await gannet("webhooks", "list", "-c", "cli"))
        assert (listed["disabled"], listed["disabled_reason"]) == (True, "status 410")
        assert "secret" not in listed
        failed = json.loads(await gannet("webhooks", "deliveries", "h", "-c", "cli", "--state", "failed"))
        assert (failed["state"], failed["error"]) == ("FAILED", "status 410")
        assert "status 410" in await gannet("webhooks", "deliveries", "h", "-c", "cli", as_json=False)
        assert json.loads(await gannet("webhooks", "enable", "h", "-c", "cli"))["disabled"] is False
        event_id = failed["name"].rpartition("/")[2]
        assert json.loads(await gannet("webhooks", "redeliver", "h", event_id, "-c", "cli"))["attempts"] <= 1
        assert len(await receiver.received(2)) == 2
        assert "enabled" in await gannet("webhooks", "list", "-c", "cli", as_json=False)
        assert json.loads(await gannet("webhooks", "disable", "h", "-c", "cli"))["disabled"] is True
        assert await gannet("webhooks", "remove", "h", "-c", "cli") == ""
        assert await gannet("webhooks", "list", "-c", "cli") == ""
        secret = await gannet("webhooks", "add", "h", receiver.url, "-c", "cli", as_json=False)
        assert secret.startswith("whsec_")
        assert len(secret.split()) == 1
