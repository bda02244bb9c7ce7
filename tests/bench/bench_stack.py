"""`make bench-stack`: how long the stack takes to serve, and to serve again after `kill -9` of each of its processes."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import statistics
import time
from pathlib import Path
from typing import Any

import report
import stack

from gannet_client import DocumentFailed, DocumentInput, GannetClient
from gannet_client.errors import GannetError

ROUNDS = 3
HEALTHY_S_MAX = 15.0
BACK_S_MAX = 10.0
GIVE_UP_S = 60.0
QUESTION = "From what height does gannet number 7 dive?"


async def main() -> None:
    """Start, kill, measure; every acknowledged document must be there each time."""
    rows: list[dict[str, Any]] = []
    name = f"bench-stack-{os.getpid()}"
    home = stack.ROOT / ".gannet" / name
    try:
        started = time.monotonic()
        async with stack.running(name) as client:
            rows.append({"event": "start, models built", "round": 0, "seconds": time.monotonic() - started})
            await client.create_collection("birds")
            documents = await upload(client)
            for round_number in range(ROUNDS):
                for service in json.loads((home / "run" / "stack.json").read_text())["services"]:
                    seconds = await kill(client, home, service)
                    rows.append({"event": f"kill -9 {service}", "round": round_number, "seconds": seconds})
                    count = (await client.get_collection("birds")).document_count
                    if count != documents:
                        raise SystemExit(f"{documents - count} acknowledged documents were lost with {service}")
    finally:
        shutil.rmtree(home, ignore_errors=True)
    print(report.table(rows))
    worst = max(row["seconds"] for row in rows[1:])
    print(
        f"median {statistics.median(row['seconds'] for row in rows[1:]):.2f} s, {documents} acknowledged documents kept every time"
    )
    claims = [
        report.Claim(name="seconds until healthy", value=rows[0]["seconds"], target=HEALTHY_S_MAX, at_least=False),
        report.Claim(
            name="seconds until answering again, the worst kill", value=worst, target=BACK_S_MAX, at_least=False
        ),
    ]
    report.write("stack", rows, claims)


async def upload(client: GannetClient) -> int:
    """A few documents; returns how many were acknowledged."""
    texts = [f"Gannet number {number} dives from {number + 20} metres." for number in range(20)]
    documents = [DocumentInput(document_id=f"{number}.txt", content=text.encode()) for number, text in enumerate(texts)]
    count = 0
    async for ack in client.upload("birds", documents):
        if isinstance(ack, DocumentFailed):
            raise SystemExit(f"{ack.document_id}: {ack.error}")
        count += 1
    return count


async def kill(client: GannetClient, home: Path, service: str) -> float:
    """Kill one process of the stack and return the seconds until a whole answer comes again, its sources undiminished."""
    state = json.loads((home / "run" / "stack.json").read_text())
    os.kill(state["services"][service]["pid"], signal.SIGKILL)
    killed = time.monotonic()
    while time.monotonic() - killed < GIVE_UP_S:
        with contextlib.suppress(GannetError):
            # A short deadline, so that a call into the dead process does not hide when the new one serves.
            answer = await client.answer("birds", QUESTION, timeout_s=2.0)
            restarted = json.loads((home / "run" / "stack.json").read_text())["services"][service]["pid"]
            if "27 metres" in answer.text and not answer.warnings and restarted != state["services"][service]["pid"]:
                return time.monotonic() - killed
        await asyncio.sleep(0.05)
    raise SystemExit(f"no answer {GIVE_UP_S} s after kill -9 of {service}; logs: {home}/logs")


if __name__ == "__main__":
    asyncio.run(main())
