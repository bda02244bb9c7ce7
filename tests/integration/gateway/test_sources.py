"""Sources through a real gateway: the service, the runner in the background, the command line."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from integration.gateway.conftest import KEY, OTHER_KEY, Stack
from integration.gateway.stack import Client

from gannet_client import AlreadyExists, GannetClient, InvalidInput, NotFound, PermissionDenied
from gannet_client.sources import Source

WAIT_S = 60


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the operator has opened, with a document."""
    root = tmp_path_factory.mktemp("opened")
    (root / "a.md").write_text("# Gannets\n\nThe gannet is a seabird.")
    return root


@pytest.fixture(scope="module")
def sourcing(start_gateway: Callable[..., Stack], folder: Path) -> Stack:
    """A gateway that looks for due sources all the time."""
    return start_gateway(source_roots=json.dumps([str(folder)]), source_poll_s=0.05)


async def ran(client: GannetClient, source_id: str, runs_after: Source | None = None) -> Source:
    """The source once a run newer than that of `runs_after` has ended."""
    before = runs_after and runs_after.last_run
    async with asyncio.timeout(WAIT_S):
        while True:
            found = await client.sources.get("docs", source_id)
            if found.last_run is not None and found.last_run != before:
                return found
            await asyncio.sleep(0.05)


async def test_source_is_ingested_and_run_again_when_asked(sourcing: Stack, folder: Path):
    """Its documents are searchable, a change is found by the next run, and removing the source leaves them."""
    async with GannetClient(sourcing.gateway.address, api_key=KEY) as client:
        await client.create_collection("docs")
        made = await client.sources.create("docs", "wiki", directory=str(folder), cron="0 4 * * *", mirror=True)
        assert (made.source_id, made.cron, made.mirror, made.last_run) == ("wiki", "0 4 * * *", True, None)
        first = await ran(client, "wiki")
        assert first.last_run is not None
        assert (first.last_run.indexed, first.last_run.error, first.next_run_time is None) == (1, "", False)
        result = await client.search("docs", "seabird")
        assert result.passages[0].metadata["source"] == "wiki"
        (folder / "b.txt").write_text("Puffins nest in burrows.")
        (folder / "a.md").unlink()
        await client.sources.run("docs", "wiki")
        second = await ran(client, "wiki", first)
        assert second.last_run is not None
        assert (second.last_run.indexed, second.last_run.deleted) == (1, 1)
        with pytest.raises(AlreadyExists):
            await client.sources.create("docs", "wiki", directory=str(folder))
        await client.sources.delete("docs", "wiki")
        with pytest.raises(NotFound):
            await client.sources.get("docs", "wiki")
        assert [document.document_id async for document in client.list_documents("docs")] == ["wiki/b.txt"]


async def test_source_of_what_is_not_opened_is_refused(
    sourcing: Stack, folder: Path, connect: Callable[[Stack, str], Client]
):
    """Nothing but what the operator has named, and nothing of another tenant's."""
    await connect(sourcing, OTHER_KEY).create("mine")
    async with GannetClient(sourcing.gateway.address, api_key=OTHER_KEY) as client:
        for place in ({"directory": "/etc"}, {"directory": f"{folder}/.."}, {"url": "http://127.0.0.1:80/"}):
            with pytest.raises(PermissionDenied) as caught:
                await client.sources.create("mine", "s", **place)
            assert caught.value.reason == "SOURCE_NOT_ALLOWED"
        for bad in (
            {},
            {"directory": "x"},
            {"directory": str(folder), "cron": "x"},
            {"directory": str(folder), "include": [""]},
        ):
            with pytest.raises(InvalidInput):
                await client.sources.create("mine", "s", **bad)
        assert [source async for source in client.sources.list("mine")] == []


def test_sources_command_line_adds_lists_runs_and_removes(sourcing: Stack, folder: Path):
    """Each prints what there is, as JSON on demand."""

    def gannet(*arguments: str) -> list[dict[str, object]]:
        command = [
            sys.executable,
            "-c",
            "from gannet_client.cli.main import run; run()",
            "--target",
            sourcing.gateway.address,
            "--api-key",
            KEY,
            "--json",
        ]
        run = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=WAIT_S, check=True)
        return [json.loads(line) for line in run.stdout.splitlines()]

    gannet("collections", "create", "cli")
    (added,) = gannet("sources", "add", "s", str(folder), "-c", "cli", "--every", "3600", "--include", "*.md")
    assert (added["directory"], added["include"], added["mirror"]) == (str(folder), ["*.md"], False)
    assert [source["name"] for source in gannet("sources", "list", "-c", "cli")] == [added["name"]]
    assert gannet("sources", "run", "s", "-c", "cli")[0]["name"] == added["name"]
    assert gannet("sources", "remove", "s", "-c", "cli") == []
    assert gannet("sources", "list", "-c", "cli") == []
