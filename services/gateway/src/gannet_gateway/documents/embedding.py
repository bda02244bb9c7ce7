"""Passages of several documents embedded in one request: a request costs the same for one text as for many."""

from collections.abc import Sequence
from dataclasses import dataclass

from gannet_gateway.clients import Embedder, TextVectors
from gannet_gateway.ledger.grouping import Grouped, in_requests
from gannet_service.errors import GannetError, InternalError, InvalidInput

# Texts of a request: enough that its own cost, 2 ms in both processes, does not count beside the model's 5 to 10 ms a text.
REQUEST_TEXTS_MAX = 16
# While one request's vectors are on their way, the embedder has others; what waits here can still be cancelled.
REQUESTS_IN_WORK_MAX = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class _Slice:
    """Some of a document's texts, and how they are weighed."""

    texts: Sequence[str]
    language: str
    average_length: float


class PassageEmbedder:
    """Embeds the passages of many documents. `timeout_s` bounds each request."""

    def __init__(self, embedder: Embedder, *, timeout_s: float) -> None:
        self._embedder = embedder
        self._timeout_s = timeout_s
        self._slices = Grouped[_Slice, list[TextVectors]](
            self._embed,
            batch_max=REQUEST_TEXTS_MAX,
            in_work_max=REQUESTS_IN_WORK_MAX,
            size=lambda some: len(some.texts),
        )

    async def passages(self, texts: Sequence[str], *, language: str, average_length: float) -> list[TextVectors]:
        """The vectors of one document's passages, in order; a long document takes its turn with the others.

        Raises:
            GannetError: what the embedder said of the request or of one of these texts.
        """
        vectors: list[TextVectors] = []
        for at in range(0, len(texts), REQUEST_TEXTS_MAX):
            some = _Slice(texts=texts[at : at + REQUEST_TEXTS_MAX], language=language, average_length=average_length)
            vectors += await self._slices.submit(some)
        return vectors

    async def _embed(self, slices: list[_Slice]) -> list[list[TextVectors] | GannetError]:
        return await in_requests(
            slices,
            lambda some: (some.language, some.average_length),
            self._request,
            blames=(InvalidInput, InternalError),
        )

    async def _request(self, slices: list[_Slice]) -> list[list[TextVectors] | GannetError]:
        found = iter(
            await self._embedder.passages(
                [text for some in slices for text in some.texts],
                language=slices[0].language,
                average_length=slices[0].average_length,
                timeout_s=self._timeout_s,
            )
        )
        return [_whole([next(found) for _ in some.texts]) for some in slices]


def _whole(found: Sequence[TextVectors | GannetError]) -> list[TextVectors] | GannetError:
    """The vectors of a slice, or the first thing that is wrong with one of its texts."""
    vectors: list[TextVectors] = []
    for one in found:
        if isinstance(one, GannetError):
            return one
        vectors.append(one)
    return vectors
