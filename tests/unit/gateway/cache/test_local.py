from hypothesis import given
from hypothesis import strategies as st

from gannet_gateway.cache.local import ENTRY_BYTES, LocalTier
from gannet_gateway.cache.tiers import Computed, TieredCache

KEYS = [b"a", b"b", b"c"]
STEP = st.tuples(st.just("put"), st.sampled_from(KEYS), st.binary(max_size=40)) | st.tuples(
    st.sampled_from(["get", "wait"]), st.sampled_from(KEYS), st.just(b"")
)


@given(st.lists(STEP, max_size=80), st.integers(1, 4))
def test_local_gives_back_what_was_put_last_or_nothing(steps: list[tuple[str, bytes, bytes]], entries: int):
    """Against a plain dict: never another key's value, never an older value, never one past its time, never over its bytes."""
    now = 0.0
    bytes_max = entries * (ENTRY_BYTES + 41)
    cache = LocalTier(bytes_max=bytes_max, ttl_s=3.0, clock=lambda: now)
    put: dict[bytes, tuple[float, bytes]] = {}
    for step, key, value in steps:
        if step == "wait":
            now += 1.0
        elif step == "put":
            cache.put(key, value)
            put[key] = (now, value)
            assert cache.get(key) == value
        else:
            found = cache.get(key)
            at, expected = put.get(key, (-9.0, b""))
            if now - at >= 3.0:
                assert found is None
            elif entries >= len(KEYS):
                assert found == expected  # there is room for all of them
            else:
                assert found in (None, expected)
        assert cache.size_bytes <= bytes_max


def test_local_drops_what_was_read_longest_ago():
    """The bound is kept by leaving out what nobody asks for."""
    cache = LocalTier(bytes_max=2 * (ENTRY_BYTES + 2), ttl_s=60)
    cache.put(b"a", b"1")
    cache.put(b"b", b"2")
    assert cache.get(b"a") == b"1"
    cache.put(b"c", b"3")
    assert [cache.get(key) for key in (b"a", b"b", b"c")] == [b"1", None, b"3"]


def test_local_leaves_out_a_value_that_is_larger_than_it():
    """And keeps what it has."""
    cache = LocalTier(bytes_max=ENTRY_BYTES + 2, ttl_s=60)
    cache.put(b"a", b"1")
    cache.put(b"b", bytes(1000))
    assert (cache.get(b"a"), cache.get(b"b")) == (b"1", None)


async def test_cache_keeps_an_empty_value():
    """Having found nothing is a result like any other."""
    cache = TieredCache("test", LocalTier(bytes_max=1 << 20, ttl_s=60), None)
    computed = 0

    async def compute() -> Computed:
        nonlocal computed
        computed += 1
        return Computed(value=b"")

    assert [(await cache.get_or_compute(b"k", compute)).value for _ in range(3)] == [b""] * 3
    assert computed == 1


async def test_cache_does_not_keep_what_is_not_to_be_kept():
    """A degraded result goes to who waited for it, and nowhere else."""
    cache = TieredCache("test", LocalTier(bytes_max=1 << 20, ttl_s=60), None)
    values = iter((b"degraded", b"full", b"never"))

    async def compute() -> Computed:
        value = next(values)
        return Computed(value=value, keep=value != b"degraded")

    assert [(await cache.get_or_compute(b"k", compute)).value for _ in range(3)] == [b"degraded", b"full", b"full"]
