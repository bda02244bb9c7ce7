"""Callers of a unary RPC of ours, each in a closed loop. Requests and replies stay bytes, so that the load itself takes little."""

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
REFUSED_PAUSE_S = 0.1
state: dict[str, Any] = {}


def connect(target: str, key: str, method: str) -> dict[str, Any]:
    """Says whom to call."""
    state.update(target=target, method=method, metadata=(("authorization", f"Bearer {key}"),))
    return {}


def run(requests: list[str], clients: int, seconds: float, keep: int = 0) -> dict[str, Any]:
    """Sends `requests` (base64) in turn, from the first again at their end, until the time is up.

    Returns each call's seconds, the first `keep` replies (base64), and how often a call was refused for lack of room. A caller who
    is refused asks again, and the time for that counts.
    """
    return uvloop.run(_run([base64.b64decode(request) for request in requests], clients, seconds, keep))


async def _run(requests: list[bytes], clients: int, seconds: float, keep: int) -> dict[str, Any]:
    turn = itertools.cycle(requests)
    refused = 0
    taken: list[float] = []
    replies: list[bytes] = []
    options = [("grpc.use_local_subchannel_pool", 1)]  # or they would share one connection
    channels = [grpc.aio.insecure_channel(state["target"], options=options) for _ in range(min(clients, CHANNELS_MAX))]
    for channel in channels:
        await channel.channel_ready()
    calls = [channel.unary_unary(state["method"]) for channel in channels]
    started = time.perf_counter()

    async def answered(send: Any, request: bytes) -> bytes:
        nonlocal refused
        while True:
            try:
                return await send(request, metadata=state["metadata"], timeout=TIMEOUT_S)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                    raise
                refused += 1
                await asyncio.sleep(REFUSED_PAUSE_S)

    async def caller(number: int) -> None:
        send = calls[number % len(calls)]
        while (begun := time.perf_counter()) < started + seconds:
            reply = await answered(send, next(turn))
            taken.append(time.perf_counter() - begun)
            if len(replies) < keep:
                replies.append(reply)

    await asyncio.gather(*(caller(number) for number in range(clients)))
    elapsed = time.perf_counter() - started
    for channel in channels:
        await channel.close()
    encoded = [base64.b64encode(reply).decode() for reply in replies]
    return {"seconds": elapsed, "taken": taken, "replies": encoded, "refused": refused}


serve({"connect": connect, "run": run})
