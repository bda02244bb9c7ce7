"""Keys and values of prompt heads that came before, so that what prompts share is computed once.

Blocks of tokens, each known by the hash of itself and of all tokens before it. A block's keys depend on nothing else, so whoever
sends the same head may read them.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from gannet_inference.decoder.cache import Block, HostCache

BLOCK_TOKENS = 64


class PrefixCache:
    """Least recently used first out, bounded in bytes; used by the engine's thread alone."""

    def __init__(self, cache: HostCache, bytes_max: int) -> None:
        """Starts empty.

        Args:
            cache: where prompts are read from and written to.
            bytes_max: most memory of all blocks; 0 keeps none.
        """
        self._cache = cache
        self._bytes_max = bytes_max
        self._blocks: OrderedDict[bytes, Block] = OrderedDict()
        self.bytes_held = 0

    def restore(self, slot: int, prompt: NDArray[np.int64]) -> int:
        """Copies the longest known head of a prompt into a slot.

        Returns:
            Its tokens; fewer than the prompt's, whose last token has to be run for its logits.
        """
        restored = 0
        for start, key in _keys(prompt[:-1]):
            block = self._blocks.get(key)
            if block is None:
                break
            self._blocks.move_to_end(key)
            self._cache.copy_in(slot, start, block)
            restored = start + BLOCK_TOKENS
        return restored

    def keep(self, slot: int, prompt: NDArray[np.int64]) -> None:
        """Copies the whole blocks of a prompt that a slot holds; the last tokens of a prompt make no whole block."""
        # The tail first, so that of one prompt the head, which others may share, goes last.
        for start, key in reversed(list(_keys(prompt))):
            if key in self._blocks:
                self._blocks.move_to_end(key)
                continue
            block = self._cache.copy_out(slot, start, start + BLOCK_TOKENS) if self._bytes_max else None
            if block is not None and block.nbytes <= self._bytes_max:
                self._blocks[key] = block
                self.bytes_held += block.nbytes
        while self.bytes_held > self._bytes_max:
            _, block = self._blocks.popitem(last=False)
            self.bytes_held -= block.nbytes


def _keys(prompt: NDArray[np.int64]) -> Iterator[tuple[int, bytes]]:
    """Start and key of each whole block; a cryptographic hash, for a collision would show one caller another's prompt."""
    key = b""
    for start in range(0, len(prompt) - BLOCK_TOKENS + 1, BLOCK_TOKENS):
        key = hashlib.blake2b(key + prompt[start : start + BLOCK_TOKENS].tobytes(), digest_size=32).digest()
        yield start, key
