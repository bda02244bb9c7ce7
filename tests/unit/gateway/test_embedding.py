"""Passages of several documents embedded together."""

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest
from unit.gateway.fakes import FakeEmbedder

from gannet_gateway.clients import TextVectors
from gannet_gateway.documents.embedding import REQUEST_TEXTS_MAX, REQUESTS_IN_WORK_MAX, PassageEmbedder
from gannet_service.errors import DependencyUnavailable, GannetError, InternalError, InvalidInput


class GatedEmbedder(FakeEmbedder):
    """Notes every request, and answers when it is let; what is in `bad` has an error, what is in `refused` fails its request."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[tuple[list[str], object]] = []
        self.bad: dict[str, GannetError] = {}
        self.refused: dict[str, GannetError] = {}
        self.asked = asyncio.Event()
        self.gate = asyncio.Event()

    async def passages(self, texts: Sequence[str], **options: object) -> list[TextVectors | GannetError]:  # type: ignore[override]
        """As the real one."""
        self.requests.append((list(texts), options["language"]))
        self.asked.set()
        await self.gate.wait()
        for text in texts:
            if text in self.refused:
                raise self.refused[text]
        vectors = await super().passages(texts)
        return [self.bad.get(text, found) for text, found in zip(texts, vectors, strict=True)]


class World:
    """Documents that come while the embedder is busy with as many requests as it is sent."""

    def __init__(self) -> None:
        self.embedder = GatedEmbedder()
        self.together = PassageEmbedder(self.embedder, timeout_s=5)

    def ask(
        self, *texts: str, language: str = "en", average_length: float = 9.0
    ) -> "asyncio.Future[list[TextVectors]]":
        """One document."""
        asked = self.together.passages(texts, language=language, average_length=average_length)
        return asyncio.ensure_future(asked)

    async def busy(self) -> "list[asyncio.Future[list[TextVectors]]]":
        """Fill every place; what comes after this waits until `gate` opens."""
        first: list[asyncio.Future[list[TextVectors]]] = []
        for _ in range(REQUESTS_IN_WORK_MAX):
            self.embedder.asked.clear()
            first.append(self.ask("busy"))
            await self.embedder.asked.wait()
        self.embedder.requests.clear()
        return first

    async def settled(self) -> None:
        """Whoever was asked is in the queue."""
        for _ in range(3):
            await asyncio.sleep(0)

    @property
    def sent(self) -> list[list[str]]:
        """The texts of each request."""
        return [texts for texts, _ in self.embedder.requests]


def lengths(vectors: Sequence[TextVectors]) -> list[float]:
    """What the fake's vectors say of their texts."""
    return [float(found.dense[0]) for found in vectors]


async def test_passages_of_documents_share_requests():
    """As many as fit, in the order in which they came; each document gets the vectors that it would get alone."""
    world = World()
    busy = await world.busy()
    documents = [[f"{'x' * place}-{number}" for number in range(1 + place % 3)] for place in range(20)]
    asked = [world.ask(*texts) for texts in documents]
    await world.settled()
    world.embedder.gate.set()
    together = await asyncio.gather(*asked)
    alone = [
        await PassageEmbedder(world.embedder, timeout_s=5).passages(each, language="en", average_length=9.0)
        for each in documents
    ]
    for ours, theirs in zip(together, alone, strict=True):
        np.testing.assert_array_equal([one.dense for one in ours], [one.dense for one in theirs])
    requests = world.sent[: -len(documents)]
    assert [text for texts in requests for text in texts] == [text for texts in documents for text in texts]
    assert [len(texts) for texts in requests] == [15, 16, 8]
    await asyncio.gather(*busy)


async def test_text_that_cannot_be_embedded_fails_its_document_alone():
    """The others of the request are not asked for again."""
    world = World()
    busy = await world.busy()
    world.embedder.bad["bad"] = InternalError("the model failed on this text", reason="MODEL_FAILURE")
    first, bad, last = world.ask("a"), world.ask("b", "bad", "c"), world.ask("dd")
    await world.settled()
    world.embedder.gate.set()
    assert (lengths(await first), lengths(await last)) == ([1], [2])
    with pytest.raises(InternalError) as error:
        await bad
    assert error.value.reason == "MODEL_FAILURE"
    assert world.sent == [["a", "b", "bad", "c", "dd"]]
    await asyncio.gather(*busy)


@pytest.mark.parametrize("problem", [InvalidInput("bad"), InternalError("bad")])
async def test_request_that_one_document_spoils_is_repeated_for_each(problem: GannetError):
    """Where the embedder refuses a request as a whole, the document that is to blame fails alone."""
    world = World()
    busy = await world.busy()
    world.embedder.refused["bad"] = problem
    first, bad, last = world.ask("a"), world.ask("bad"), world.ask("dd")
    await world.settled()
    world.embedder.gate.set()
    assert (lengths(await first), lengths(await last)) == ([1], [2])
    with pytest.raises(type(problem)):
        await bad
    assert world.sent == [["a", "bad", "dd"], ["a"], ["bad"], ["dd"]]
    await asyncio.gather(*busy)


async def test_embedder_that_is_down_is_not_asked_again_for_each():
    """Every document of the request hears it."""
    world = World()
    busy = await world.busy()
    world.embedder.refused["a"] = DependencyUnavailable("down")
    asked = [world.ask("a"), world.ask("b")]
    await world.settled()
    world.embedder.gate.set()
    results = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(result) for result in results] == [DependencyUnavailable] * 2
    assert world.sent == [["a", "b"]]
    await asyncio.gather(*busy)


async def test_passages_weighed_differently_never_share_a_request():
    """Language and mean length are said once for a request: collections that differ in them have requests of their own."""
    world = World()
    busy = await world.busy()
    asked = [world.ask("a"), world.ask("b", language="hr"), world.ask("c", average_length=8.0), world.ask("d")]
    await world.settled()
    world.embedder.gate.set()
    await asyncio.gather(*asked, *busy)
    assert world.embedder.requests == [(["a", "d"], "en"), (["b"], "hr"), (["c"], "en")]


async def test_document_that_is_cancelled_leaves_the_others():
    """What has not been sent of it is not sent; what has been is nobody's."""
    world = World()
    busy = await world.busy()
    staying, leaving = world.ask("a"), world.ask("b")
    await world.settled()
    leaving.cancel()
    busy[0].cancel()
    world.embedder.gate.set()
    assert lengths(await staying) == [1]
    await asyncio.wait([leaving, *busy])
    assert leaving.cancelled()
    assert world.sent == [["a"]]
    assert [each.cancelled() for each in busy] == [True] + [False] * (len(busy) - 1)


async def test_long_document_takes_turns_with_short_ones():
    """It has one request at a time, of bounded size: who came after its first one goes before its second."""
    world = World()
    busy = await world.busy()
    long = world.ask(*(["long"] * (2 * REQUEST_TEXTS_MAX + 1)))
    await world.settled()
    short = world.ask("short")
    await world.settled()
    world.embedder.gate.set()
    assert lengths(await short) == [5]
    assert lengths(await long) == [4] * (2 * REQUEST_TEXTS_MAX + 1)
    assert [len(texts) for texts in world.sent] == [REQUEST_TEXTS_MAX, 1, REQUEST_TEXTS_MAX, 1]
    await asyncio.gather(*busy)
