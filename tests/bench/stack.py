"""A stack of its own for a measurement: `gannet up` on free ports with shipped defaults, its data kept between runs."""

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from gannet_client import GannetClient

ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 180


@contextlib.asynccontextmanager
async def running(name: str) -> AsyncIterator[GannetClient]:
    """Start the stack in `.gannet/<name>`, give a client for it, stop it."""
    home = ROOT / ".gannet" / name
    home.mkdir(parents=True, exist_ok=True)
    models = home / "models"
    if not models.exists():
        (ROOT / ".gannet" / "models").mkdir(exist_ok=True)
        models.symlink_to("../models")
    state = home / "run" / "stack.json"
    state.unlink(missing_ok=True)
    command = [str(Path(sys.executable).parent / "gannet"), "--home", str(home), "up", "--port", "0"]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        await _until_up(process, state)
        key = (home / "api-key").read_text().strip()
        async with GannetClient(json.loads(state.read_text())["target"], api_key=key, timeout_s=60) as client:
            yield client
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, 30)


def services(name: str) -> dict[str, Any]:
    """The processes of the running stack `name`: port and pid of each service."""
    return json.loads((ROOT / ".gannet" / name / "run" / "stack.json").read_text())["services"]


async def _until_up(process: "subprocess.Popen[str]", state: Path) -> None:
    async with asyncio.timeout(START_TIMEOUT_S):
        while not state.exists():
            if process.poll() is not None:
                raise SystemExit(f"the stack did not start:\n{process.stderr.read() if process.stderr else ''}")
            await asyncio.sleep(0.1)
