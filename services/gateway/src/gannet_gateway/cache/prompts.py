"""Reads of prompts, spared while nothing was committed to the ledger: an answer that comes from the cache reads no row at all."""

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from cachetools import LRUCache

from gannet_gateway.ledger.prompts import Prompt
from gannet_gateway.names import PromptName

PROMPTS_KEPT_MAX = 1000


class _Known(NamedTuple):
    """What a read gave, if anything, and the ledger's version just before it began."""

    prompt: Prompt | None
    version: int


class PromptReader:
    """Finds a prompt's version as `find` does. `version` changes with every commit; where it is None, every call is a read."""

    def __init__(
        self,
        find: Callable[[PromptName, int | None], Awaitable[Prompt | None]],
        version: Callable[[], int | None],
    ) -> None:
        self._find = find
        self._version = version
        self._known: LRUCache[tuple[PromptName, int | None], _Known] = LRUCache(PROMPTS_KEPT_MAX)

    async def find(self, name: PromptName, number: int | None) -> Prompt | None:
        """A version, the newest one without a number; None if there is none, which is remembered, too."""
        version, known = self._version(), self._known.get((name, number))
        if known is not None and known.version == version:
            return known.prompt
        prompt = await self._find(name, number)
        if version is not None:
            self._known[name, number] = _Known(prompt, version)
        return prompt
