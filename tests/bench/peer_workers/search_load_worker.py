"""Callers of our Search RPC, each in a closed loop. Requests and replies stay bytes, so that the load takes little of what it measures."""

import asyncio
import base64
import itertools
import time
from typing import Any

import grpc
import uvloop
from line_protocol import serve

CHANNELS_MAX = 8
TIMEOUT_S = 30
state: dict[str, Any] = {}


def connect(target: str, key: str, method: str) -> dict[str, Any]:
    """Says whom to call."""
    state.update(target=target, method=method, metadata=(("authorization", f"Bearer {key}"),))
    return {}


def run(requests: list[str], clients: int, seconds: float) -> dict[str, Any]:
    """Sends `requests` (base64) in turn, from the first again at their end, until the time is up; returns each call's seconds."""
    return uvloop.run(_run([base64.b64decode(request) for request in requests], clients, seconds))


async def _run(requests: list[bytes], clients: int, seconds: float) -> dict[str, Any]:
    turn = itertools.cycle(requests)
    taken: list[float] = []
    options = [("grpc.use_local_subchannel_pool", 1)]  # or they would share one connection
    channels = [grpc.aio.insecure_channel(state["target"], options=options) for _ in range(min(clients, CHANNELS_MAX))]
    for channel in channels:
        await channel.channel_ready()
    calls = [channel.unary_unary(state["method"]) for channel in channels]
    started = time.perf_counter()

    async def caller(number: int) -> None:
        send = calls[number % len(calls)]
        while (begun := time.perf_counter()) < started + seconds:
            await send(next(turn), metadata=state["metadata"], timeout=TIMEOUT_S)
            taken.append(time.perf_counter() - begun)

    await asyncio.gather(*(caller(number) for number in range(clients)))
    elapsed = time.perf_counter() - started
    for channel in channels:
        await channel.close()
    return {"seconds": elapsed, "taken": taken}


serve({"connect": connect, "run": run})
