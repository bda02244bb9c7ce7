"""Work done together for many callers."""

import asyncio
from collections.abc import Sequence

import pytest

from gannet_gateway.ledger.grouping import Grouped, in_requests
from gannet_service import call
from gannet_service.errors import Conflict, DependencyUnavailable, GannetError, InternalError, InvalidInput


class Batches:
    """Doubles numbers, remembers the batches, and waits in each until `release`."""

    def __init__(self) -> None:
        self.seen: list[list[int]] = []
        self.undone: list[int] = []
        self.entered = asyncio.Event()
        self.release = asyncio.Event()
        self.release.set()

    async def do(self, items: list[int]) -> Sequence[int | GannetError]:
        """A batch."""
        self.seen.append(items)
        self.entered.set()
        await self.release.wait()
        return [Conflict("odd") if item % 2 else 2 * item for item in items]

    async def undo(self, results: list[int]) -> None:
        """Take back."""
        self.undone += results


async def test_grouped_items_share_a_batch_and_keep_their_results():
    """What comes while a batch is in work is the next batch; an item's error is its own."""
    batches = Batches()
    batches.release.clear()
    group = Grouped(batches.do, batch_max=10)
    first = asyncio.ensure_future(group.submit(0))
    await batches.entered.wait()
    rest = [asyncio.ensure_future(group.submit(item)) for item in (2, 3, 4)]
    await asyncio.sleep(0)
    batches.release.set()
    assert await first == 0
    assert (await rest[0], await rest[2]) == (4, 8)
    with pytest.raises(Conflict):
        await rest[1]
    assert batches.seen == [[0], [2, 3, 4]]


async def test_grouped_batches_are_bounded():
    """No batch holds more than it may."""
    batches = Batches()
    group = Grouped(batches.do, batch_max=2)
    assert await asyncio.gather(*(group.submit(item) for item in (0, 2, 4, 6, 8))) == [0, 4, 8, 12, 16]
    assert [len(batch) for batch in batches.seen] == [2, 2, 1]


async def test_grouped_result_of_a_caller_that_left_is_taken_back():
    """The others' are not."""
    batches = Batches()
    batches.release.clear()
    group = Grouped(batches.do, batch_max=10, undo=batches.undo)
    leaving, staying = asyncio.ensure_future(group.submit(2)), asyncio.ensure_future(group.submit(4))
    await batches.entered.wait()
    leaving.cancel()
    batches.release.set()
    assert await staying == 8
    await asyncio.wait([leaving])
    assert leaving.cancelled()
    assert batches.undone == [4]


@pytest.mark.parametrize(
    "error, told", [(DependencyUnavailable("down"), DependencyUnavailable), (RuntimeError("bug"), InternalError)]
)
async def test_grouped_failure_of_a_batch_is_everybodys_and_the_next_works(error: Exception, told: type[GannetError]):
    """A store that is down says so; a bug keeps its text to the log. Neither stops what comes after."""
    failures = [error]

    async def do(items: list[int]) -> list[int]:
        if failures:
            raise failures.pop()
        return items

    group = Grouped(do, batch_max=10)
    results = await asyncio.gather(group.submit(1), group.submit(2), return_exceptions=True)
    assert [type(result) for result in results] == [told, told]
    assert await group.submit(3) == 3


async def test_grouped_work_knows_no_caller():
    """The first caller's deadline and tenant are not the others'."""
    seen: list[object] = []

    async def do(items: list[int]) -> list[int]:
        seen.append(call.current())
        return items

    assert call.current() is not None
    assert await Grouped(do, batch_max=10).submit(1) == 1
    assert seen == [None]


async def test_grouped_batches_are_bounded_by_what_items_take():
    """Where items have sizes their sum is bounded; one that is larger by itself is a batch of its own, and keeps its place."""
    batches = Batches()
    group = Grouped(batches.do, batch_max=6, size=lambda item: item)
    assert await asyncio.gather(*(group.submit(item) for item in (2, 4, 2, 8, 0, 6))) == [4, 8, 4, 16, 0, 12]
    assert batches.seen == [[2, 4], [2], [8], [0, 6]]


async def test_grouped_batches_in_work_are_bounded():
    """With two allowed a second one begins beside the first; the third waits for one of them."""
    batches = Batches()
    batches.release.clear()
    group = Grouped(batches.do, batch_max=1, in_work_max=2)
    asking = [asyncio.ensure_future(group.submit(item)) for item in (0, 2, 4)]
    await batches.entered.wait()
    await asyncio.sleep(0)
    begun = list(batches.seen)
    batches.release.set()
    assert await asyncio.gather(*asking) == [0, 4, 8]
    assert begun == [[0], [2]]
    assert batches.seen == [[0], [2], [4]]


class Requests:
    """Upper-cases words; a word in `bad` is refused, alone or as the reason for which a request is, and so is what `error` is set to."""

    def __init__(self, *bad: str, error: Exception | None = None) -> None:
        self.seen: list[list[str]] = []
        self._bad = bad
        self._error = error or InvalidInput("a bad word")

    async def send(self, words: list[str]) -> list[str | GannetError]:
        """One request."""
        self.seen.append(words)
        if any(word in self._bad for word in words):
            raise self._error
        return [word.upper() for word in words]


def said(results: Sequence[str | GannetError]) -> list[str]:
    """Results, and reasons of errors."""
    return [result.reason if isinstance(result, GannetError) else result for result in results]


async def test_requests_hold_items_of_one_key():
    """Different keys never share a request; results keep the order of the items."""
    requests = Requests()
    words = ["a1", "b1", "a2", "c1", "b2"]
    assert said(await in_requests(words, lambda word: word[0], requests.send, blames=())) == [
        "A1", "B1", "A2", "C1", "B2",
    ]  # fmt: skip
    assert requests.seen == [["a1", "a2"], ["b1", "b2"], ["c1"]]


@pytest.mark.parametrize("error, told", [(InvalidInput("bad"), "INVALID_INPUT"), (RuntimeError("bug"), "INTERNAL")])
async def test_request_that_one_item_spoils_is_repeated_item_by_item(error: Exception, told: str):
    """The one that is to blame fails alone, also where what it brings about is a bug, whose text is the log's."""
    requests = Requests("a2", error=error)
    results = await in_requests(["a1", "a2", "a3", "b1"], lambda word: word[0], requests.send, blames=(InvalidInput,))
    assert said(results) == ["A1", told, "A3", "B1"]
    assert requests.seen == [["a1", "a2", "a3"], ["b1"], ["a1"], ["a2"], ["a3"]]


async def test_request_that_fails_for_no_items_fault_is_not_repeated():
    """A store that is down fails everybody in that request, and nobody in another."""
    requests = Requests("a2", error=DependencyUnavailable("down"))
    results = await in_requests(["a1", "a2", "b1"], lambda word: word[0], requests.send, blames=(InvalidInput,))
    assert said(results) == ["DEPENDENCY_UNAVAILABLE", "DEPENDENCY_UNAVAILABLE", "B1"]
    assert requests.seen == [["a1", "a2"], ["b1"]]
