"""Who is in which slot. Streams that decode are slots 0 to n - 1, so that one run over the first n rows moves them all on.

At most one stream is being read in, in a slot behind them; when it is, it becomes number n.
"""

from gannet_inference.decoder.cache import KvCache
from gannet_inference.decoder.sampler import Sampler
from gannet_inference.decoder.stream import Stream


class SlotTable:
    """The table, which keeps the streams' cache and sampling parameters where the streams are."""

    def __init__(self, cache: KvCache, sampler: Sampler) -> None:
        """Starts empty."""
        self._cache = cache
        self._sampler = sampler
        self.decoding: list[Stream] = []
        """By slot."""
        self.reading: Stream | None = None
        self.reading_slot = -1

    @property
    def streams(self) -> list[Stream]:
        """All of them."""
        return [*self.decoding, self.reading] if self.reading else list(self.decoding)

    @property
    def free(self) -> int:
        """Slots that hold nobody."""
        return self._cache.slots - len(self.decoding) - (self.reading is not None)

    def read(self, stream: Stream) -> int:
        """Gives a stream the slot to be read into; for a caller who has seen that one is free and nobody being read."""
        self.reading = stream
        self.reading_slot = len(self.decoding)
        self._sampler.join(self.reading_slot, stream.request)
        return self.reading_slot

    def decode(self, stream: Stream) -> None:
        """Lets the stream that was read decode with the others."""
        # Others may have left since its slot was chosen.
        self._move(stream, self.reading_slot, len(self.decoding))
        self.decoding.append(stream)
        self.reading = None

    def leave(self, stream: Stream) -> None:
        """Frees a stream's slot; the last one that decodes takes its place."""
        if stream is self.reading:
            self.reading = None
            return
        hole = self.decoding.index(stream)
        last = self.decoding.pop()
        if last is not stream:
            self._move(last, len(self.decoding), hole)
            self.decoding[hole] = last

    def _move(self, stream: Stream, source: int, target: int) -> None:
        if source != target:
            self._cache.move(source, target, stream.past)
            self._sampler.move(source, target)
