"""Where keys and values are: the slots' memory, and the blocks of earlier prompts."""

import numpy as np
import pytest

from gannet_inference.decoder.cache import DeviceCache, HostCache
from gannet_inference.decoder.layout import GraphLayout
from gannet_inference.decoder.prefixes import BLOCK_TOKENS, PrefixCache

POSITIONS = 4 * BLOCK_TOKENS
BLOCK_BYTES = 4 * 2 * BLOCK_TOKENS * 16 * 4


def layout() -> GraphLayout:
    """Two layers, two heads of 16."""
    names = tuple(f"{layer}.{part}" for layer in range(2) for part in ("key", "value"))
    return GraphLayout(
        shared=True,
        heads=2,
        head=16,
        past=names,
        present=names,
        cache_type=np.float32,
        small={},
        logits_type=np.float32,
        vocabulary=10,
        last_only=False,
    )


def filled(slots: int = 3) -> HostCache:
    """A cache in which every number is another one."""
    cache = HostCache(layout(), slots, POSITIONS)
    cache.array[:] = np.arange(cache.array.size, dtype=np.float32).reshape(cache.array.shape)
    return cache


def test_host_cache_addresses_lie_a_slot_apart():
    """So that a run over the first rows takes them as one tensor."""
    cache = filled()

    assert cache.address(1, 2) == cache.array[1, 2].ctypes.data
    assert cache.address(1, 2) - cache.address(1, 1) == cache.array[1, 1].nbytes


def test_host_cache_move_takes_the_positions_that_are_held():
    """And leaves those behind them."""
    cache = filled()
    before = cache.array.copy()

    cache.move(2, 0, 5)

    np.testing.assert_array_equal(cache.array[:, 0, :, :5], before[:, 2, :, :5])
    np.testing.assert_array_equal(cache.array[:, 0, :, 5:], before[:, 0, :, 5:])
    np.testing.assert_array_equal(cache.array[:, 1:], before[:, 1:])


def test_device_cache_move_copies_a_slot():
    """On the CPU here: the same copies, by addresses alone, as on a GPU."""
    cache = DeviceCache(layout(), 3, POSITIONS, device=("cpu", 0), provider="CPUExecutionProvider")
    memory = cache._memory.numpy()
    assert memory.ctypes.data == cache.address(0, 0)
    memory[:] = np.arange(memory.size, dtype=np.float32).reshape(memory.shape)
    before = memory.copy()

    cache.move(2, 0, 5)

    np.testing.assert_array_equal(memory[:, 0], before[:, 2])
    np.testing.assert_array_equal(memory[:, 1:], before[:, 1:])


def prompt(*heads: int, tail: int = 5) -> np.ndarray:
    """A block for each number, and some tokens more."""
    return np.concatenate([*(np.full(BLOCK_TOKENS, head) for head in heads), np.full(tail, 99)]).astype(np.int64)


def test_prefixes_restore_gives_the_longest_known_head():
    """Block by block, until one differs."""
    cache = filled()
    prefixes = PrefixCache(cache, 10 * BLOCK_BYTES)
    prefixes.keep(0, prompt(1, 2))

    restored = prefixes.restore(1, prompt(1, 2, 3))

    assert restored == 2 * BLOCK_TOKENS
    np.testing.assert_array_equal(cache.array[:, 1, :, :restored], cache.array[:, 0, :, :restored])
    assert prefixes.restore(2, prompt(2)) == 0
    assert prefixes.restore(2, prompt(1, 1)) == BLOCK_TOKENS


def test_prefixes_block_counts_for_the_same_head_before_it_alone():
    """The same tokens behind others have other keys."""
    prefixes = PrefixCache(filled(), 10 * BLOCK_BYTES)
    prefixes.keep(0, prompt(1, 2))

    assert prefixes.restore(1, prompt(3, 2)) == 0


def test_prefixes_are_bounded_and_forget_the_longest_unused():
    """Three blocks fit: the head that was read again stays, what nobody asked for goes."""
    prefixes = PrefixCache(filled(), 3 * BLOCK_BYTES)
    prefixes.keep(0, prompt(1))
    prefixes.keep(0, prompt(2))
    prefixes.keep(0, prompt(3))
    prefixes.restore(1, prompt(1))

    prefixes.keep(0, prompt(4))

    assert prefixes.bytes_held == 3 * BLOCK_BYTES
    assert [prefixes.restore(1, prompt(head)) for head in (1, 2, 3, 4)] == [64, 0, 64, 64]


def test_prefixes_of_one_prompt_lose_their_tail_first():
    """Without its head a tail is of no use."""
    prefixes = PrefixCache(filled(), 2 * BLOCK_BYTES)

    prefixes.keep(0, prompt(1, 2, 3))

    assert prefixes.restore(1, prompt(1, 2, 3)) == 2 * BLOCK_TOKENS


@pytest.mark.parametrize("bytes_max", [0, BLOCK_BYTES - 1])
def test_prefixes_without_room_for_a_block_keep_none(bytes_max):
    """Zero switches it off."""
    prefixes = PrefixCache(filled(), bytes_max)
    prefixes.keep(0, prompt(1))

    assert prefixes.restore(1, prompt(1)) == 0
    assert prefixes.bytes_held == 0
