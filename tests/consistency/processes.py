"""Real gateways over one ledger, one vector store and one Redis, which are killed with `kill -9` and started again."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass

from fakes.redis_server import RedisServer
from integration.conftest import Service
from integration.edge.edge_server import EdgeServer
from integration.gateway.stack import Client


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """How a gateway process is started, and what several of them share."""

    start: Callable[[], Service]
    edge: EdgeServer
    redis: RedisServer
    gateways: int
    keys: tuple[str, ...]


class Running:
    """A gateway process and a client of it for each key."""

    def __init__(self, service: Service, keys: tuple[str, ...]) -> None:
        self.service = service
        self.clients = {key: Client(service.address, key) for key in keys}


class Processes:
    """The gateways of a deployment. One that is killed is started again, under another address."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._gateways: list[Running] = []
        # Closing a client ends its calls as if their callers had left, which a crash does not: that waits for the end.
        self._left: list[Running] = []

    async def start(self) -> None:
        """Start them all."""
        self._gateways = [await self._new() for _ in range(self._deployment.gateways)]

    def client(self, chance: random.Random, key: str) -> Client:
        """A client of one of the gateways."""
        return chance.choice(self._gateways).clients[key]

    async def kill_one(self, chance: random.Random) -> str:
        """Kill a gateway, the vector store or Redis, and start it again; which it was."""
        victim = chance.choice(["vectors", "redis", *range(len(self._gateways))])
        match victim:
            case "vectors":
                await asyncio.to_thread(self._deployment.edge.kill_and_start)
            case "redis":
                await asyncio.to_thread(self._deployment.redis.kill)
                await asyncio.to_thread(self._deployment.redis.start)
            case int():
                self._left.append(self._gateways[victim])
                await asyncio.to_thread(self._gateways[victim].service.kill)
                self._gateways[victim] = await self._new()
        return str(victim)

    async def close(self) -> None:
        """Kill what runs."""
        for gateway in self._gateways:
            await asyncio.to_thread(gateway.service.kill)
        for gateway in self._gateways + self._left:
            for client in gateway.clients.values():
                await client.close()

    async def _new(self) -> Running:
        return Running(await asyncio.to_thread(self._deployment.start), self._deployment.keys)
