"""Prompts that are read once, and again as soon as anything was committed."""

import pytest

from gannet_gateway.cache.prompts import PromptReader
from gannet_gateway.ledger.prompts import Prompt
from gannet_gateway.names import PromptName

NAME = PromptName("acme", "docs", "default")
FIRST = Prompt(name=NAME, version=1, system="s", user="u", created_at_s=0.0)


class Shelf:
    """A ledger of prompts: what `find` gives, the version that it is at, and what was read."""

    def __init__(self, prompt: Prompt | None, version: int | None) -> None:
        self.prompt = prompt
        self.version = version
        self.reads: list[tuple[PromptName, int | None]] = []

    async def find(self, name: PromptName, number: int | None) -> Prompt | None:
        """One read."""
        self.reads.append((name, number))
        return self.prompt

    def reader(self) -> PromptReader:
        """Over it."""
        return PromptReader(self.find, lambda: self.version)


@pytest.mark.parametrize("prompt", [FIRST, None], ids=["there is one", "there is none"])
async def test_prompt_is_not_read_again_while_nothing_was_committed(prompt: Prompt | None):
    """That there is none is known, too; each version is read for itself."""
    shelf = Shelf(prompt, version=7)
    reader = shelf.reader()
    found = [await reader.find(NAME, number) for number in (None, None, 1, 1)]
    assert found == [prompt] * 4
    assert shelf.reads == [(NAME, None), (NAME, 1)]


async def test_prompt_is_read_again_after_a_commit():
    """A new version answers the next question."""
    shelf = Shelf(None, version=7)
    reader = shelf.reader()
    await reader.find(NAME, None)
    shelf.prompt, shelf.version = FIRST, 8
    assert await reader.find(NAME, None) is FIRST


async def test_prompt_of_a_ledger_without_versions_is_always_read():
    """Nobody could tell whether it was changed."""
    shelf = Shelf(FIRST, version=None)
    reader = shelf.reader()
    assert [await reader.find(NAME, None) for _ in range(2)] == [FIRST, FIRST]
    assert len(shelf.reads) == 2


async def test_prompt_that_is_committed_while_it_is_read_is_read_again():
    """What the read gave may be older than the commit."""
    shelf = Shelf(FIRST, version=7)

    async def find(name: PromptName, number: int | None) -> Prompt | None:
        prompt = await shelf.find(name, number)
        shelf.version = 8
        return prompt

    reader = PromptReader(find, lambda: shelf.version)
    await reader.find(NAME, None)
    await reader.find(NAME, None)
    assert len(shelf.reads) == 2
