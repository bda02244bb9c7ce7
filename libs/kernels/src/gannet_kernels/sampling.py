"""The next token of each row of logits: penalties, temperature, top-k, top-p, min-p, a draw that its seed and position repeat.

The order is that of common samplers: penalties, temperature, top-k, top-p over what top-k left, min-p. The vocabulary is never
sorted: top-k is a heap, top-p sorts the few tokens around its limit.
"""

import numpy as np
from numpy.typing import NDArray

from gannet_kernels._jit import EXACT, FAST_SUMS, kernel
from gannet_kernels.similarity import top_k as first_k

# A token 2^-115 times as likely as the best, 80 nats below it, has no chance.
_LEAST_POWER = np.float32(-115.0)
_LIGHTEST = np.float32(2.0**-115)
# Steeper than this a temperature makes float32 overflow, and leaves the best token alone long before.
_STEEPEST = 1e30
_LOG2_E = 1.4426950408889634
# 2^f on [0, 1] to 3e-9, fitted so that 0 gives 1 and 1 gives 2.
_C0, _C1, _C2, _C3, _C4, _C5, _C6 = (
    np.float32(coefficient)
    for coefficient in (1.0, 0.693147007, 0.240229742, 0.0554835219, 0.00967868463, 0.00124399512, 0.000217049867)
)
_BLOCK = 256
_STRETCH = 32
# The search for top-p's limit ends after so many sums, or where its bounds are so near that few tokens lie between them.
_CUTS = 8
_NEAR = 1.05
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_27, _30, _31, _11 = np.uint64(27), np.uint64(30), np.uint64(31), np.uint64(11)


@kernel("f32[:,:]", "i64[:]", "f64[:]", "i64[:]", "f64[:]", "f64[:]", "u64[:]", "i64[:]", fastmath=EXACT)
def sample(
    logits: NDArray[np.float32],
    best: NDArray[np.int64],
    temperature: NDArray[np.float64],
    top_k: NDArray[np.int64],
    top_p: NDArray[np.float64],
    min_p: NDArray[np.float64],
    seeds: NDArray[np.uint64],
    positions: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Chooses one token per row; a row's choice depends on nothing but the row and its own parameters.

    The best token is chosen where the temperature is 0. Otherwise weights are exp((logit - best) / temperature); of tokens in
    the order of their logits, equals by lower id, the first `top_k` are kept, of these the fewest that have the share `top_p`
    of the weight, of these those that weigh at least `min_p` of the best; u = `uniform(seed, position)` of the weight that is
    left falls to one of them, counted in the order of ids.
    Reference: `tests/reference/sampling.py`.

    Args:
        logits: f32[N, V], C-contiguous, V >= 1; -inf forbids a token.
        best: i64[N], place of each row's greatest logit, as NumPy's argmax gives it: equals by lower place, NaN first.
        temperature: f64[N], >= 0.
        top_k: i64[N]; 0 keeps all.
        top_p: f64[N], 0..1; 1 keeps all, 0 the best alone.
        min_p: f64[N], 0..1; 0 keeps all.
        seeds: u64[N].
        positions: i64[N], >= 0; number of the token in its answer.

    Returns:
        i64[N]; -1 for a row that holds NaN or +inf, or nothing but -inf.
    """
    tokens = best.copy()
    weights = np.empty(logits.shape[1], dtype=np.float32)
    masses = np.empty((logits.shape[1] + _BLOCK - 1) // _BLOCK, dtype=np.float64)
    for row in range(logits.shape[0]):
        top = np.float64(logits[row, best[row]])
        if not np.isfinite(top):
            tokens[row] = -1
            continue
        scale = 1.0 / temperature[row] if temperature[row] > 0.0 else np.inf
        if not np.isfinite(scale * -_LEAST_POWER):
            continue
        share = uniform(seeds[row], positions[row])
        if 0 < top_k[row] < logits.shape[1]:
            tokens[row] = _draw_first(logits[row], top_k[row], scale, share, top_p[row], min_p[row])
            continue
        total = _weigh(logits[row], top, scale, weights, masses)
        least = _LIGHTEST
        if top_p[row] < 1.0 or min_p[row] > 0.0:
            least = _cut(logits[row], weights, masses, total, top_p[row], min_p[row])
            total = _sum_from(weights, least, masses)
        tokens[row] = _draw(weights, masses, least, share * total, best[row])
    return tokens


@kernel("u64", "i64", fastmath=EXACT)
def uniform(seed: np.uint64, position: int) -> float:
    """A number in [0, 1) that the seed and the position alone decide: SplitMix64 (Steele, Lea, Flood 2014) by counter.

    Seeds are mixed first, so that neighbouring seeds share no sequence.
    Reference: `tests/reference/sampling.py`.
    """
    state = _mix(seed) + (np.uint64(position) + np.uint64(1)) * _GOLDEN
    return np.float64(_mix(state) >> _11) * (1.0 / 9007199254740992.0)


@kernel("out f32[:]", "u8[:]", "u32[:]", "f64", "f64", "f64", fastmath=EXACT)
def penalise(
    logits: NDArray[np.float32],
    in_prompt: NDArray[np.uint8],
    said: NDArray[np.uint32],
    repetition: float,
    presence: float,
    frequency: float,
) -> None:
    """Lowers the logits of tokens that were used, in place.

    Repetition (Keskar et al. 2019) divides a positive logit, and multiplies a negative one, of every token of prompt and answer;
    presence is subtracted once, frequency once for every time, for tokens of the answer.
    Reference: `tests/reference/sampling.py`.

    Args:
        logits: f32[V], written to.
        in_prompt: u8[V], not 0 for tokens of the prompt.
        said: u32[V], how often the answer has each.
        repetition: > 0; 1 changes nothing.
        presence: finite; 0 changes nothing.
        frequency: finite; 0 changes nothing.
    """
    for token in range(logits.shape[0]):
        times = said[token]
        if times == 0 and in_prompt[token] == 0:
            continue
        value = np.float64(logits[token])
        value = value / repetition if value > 0.0 else value * repetition
        if times > 0:
            value -= presence + frequency * np.float64(times)
        logits[token] = np.float32(value)


@kernel("f32[:]", "f64", fastmath=EXACT)
def log_sum_exp(logits: NDArray[np.float32], best: float) -> float:
    """log(sum(exp(logits))): what is subtracted from a logit to give its log probability.

    Reference: `tests/reference/sampling.py`.

    Args:
        logits: f32[V], V >= 1.
        best: the greatest of them, finite; those more than 80 below it count for nothing.
    """
    weights = np.empty(logits.shape[0], dtype=np.float32)
    masses = np.empty((logits.shape[0] + _BLOCK - 1) // _BLOCK, dtype=np.float64)
    return best + np.log(_weigh(logits, best, 1.0, weights, masses))


@kernel(fastmath=FAST_SUMS)
def _weigh(
    logits: NDArray[np.float32],
    best: float,
    scale: float,
    weights: NDArray[np.float32],
    masses: NDArray[np.float64],
) -> float:
    """Writes exp((logit - best)·scale) for every logit, and the sum of each block; returns the sum of all.

    exp(x) = 2^n · 2^f with n whole and f in [0, 1): 2^f by a polynomial of degree 6 (to 2e-7), 2^n by adding n to the exponent's bits. The
    machine's exp is a call per element; this is arithmetic on SIMD registers, in float32, where the difference of two logits is
    as exact as they are.
    """
    highest, to_powers_of_two = np.float32(best), np.float32(min(scale * _LOG2_E, _STEEPEST))
    total = 0.0
    for block in range(masses.shape[0]):
        # Slices, whose places begin at 0: of others Numba asks whether they are negative, one by one.
        start = block * _BLOCK
        values, out = logits[start : start + _BLOCK], weights[start : start + _BLOCK]
        bits = out.view(np.int32)
        for token in range(values.shape[0]):
            power = max((values[token] - highest) * to_powers_of_two, _LEAST_POWER)
            whole = np.floor(power)
            f = power - whole
            out[token] = _C0 + f * (_C1 + f * (_C2 + f * (_C3 + f * (_C4 + f * (_C5 + f * _C6)))))
            bits[token] += np.int32(whole) << np.int32(23)
        mass = 0.0
        for token in range(out.shape[0]):
            weight = out[token]
            weight = weight if weight > _LIGHTEST else np.float32(0.0)
            out[token] = weight
            mass += np.float64(weight)
        masses[block] = mass
        total += mass
    return total


@kernel(fastmath=EXACT)
def _draw_first(
    logits: NDArray[np.float32], count_max: int, scale: float, share: float, top_p: float, min_p: float
) -> int:
    """Draws from the first `count_max` that top-p and min-p keep; nobody else's weight is needed."""
    order = first_k(logits, count_max)
    best = logits[order]
    weights = np.empty(best.shape[0], dtype=np.float32)
    masses = np.empty((best.shape[0] + _BLOCK - 1) // _BLOCK, dtype=np.float64)
    total = _weigh(best, np.float64(best[0]), scale, weights, masses)
    count, mass = 0, 0.0
    while count < order.shape[0]:
        weight = np.float64(weights[count])
        if count > 0 and ((top_p < 1.0 and mass >= top_p * total) or weight < min_p or weight == 0.0):
            break
        mass += weight
        count += 1
    # A draw counts in the order of ids.
    by_id = np.argsort(order[:count])
    passed, last = 0.0, 0
    for number in range(count):
        last = by_id[number]
        passed += weights[last]
        if passed > share * mass:
            break
    return int(order[last])


@kernel(fastmath=EXACT)
def _cut(
    logits: NDArray[np.float32],
    weights: NDArray[np.float32],
    masses: NDArray[np.float64],
    total: float,
    top_p: float,
    min_p: float,
) -> np.float32:
    """The least weight of the tokens that top-p and min-p keep; those of that weight or more that are not kept are set to 0.

    Tokens lighter than the mean of what top-p leaves out can only be among what it leaves out. Between that weight and the best
    one's the limit is searched by sums over all tokens, which cost 3 µs each and no branch that cannot be foretold: the logarithm of
    what is left out is nearly a straight line over that of the weight. Only the few between the last two bounds are sorted.
    """
    low = np.float32(max(min_p, np.float64(_LIGHTEST)))
    if top_p >= 1.0:
        return low
    low = max(low, np.float32((1.0 - top_p) * total / weights.shape[0]))
    high, mass_max = np.float32(2.0), top_p * total
    out_low, out_high = total - _sum_from(weights, low, masses), total
    if total - out_low <= mass_max:
        return low
    goal = np.log(total - mass_max)
    for _ in range(_CUTS):
        if high < np.float32(_NEAR) * low:
            break
        below = np.log(max(out_low, 1e-3 * (total - mass_max)))
        span = np.log(out_high) - below
        share = min(max((goal - below) / span, 0.1), 0.9) if span > 0.0 else 0.5
        middle = np.float32(np.exp((1.0 - share) * np.log(low) + share * np.log(high)))
        mass = _sum_from(weights, middle, masses)
        if mass >= mass_max:
            low, out_low = middle, total - mass
        else:
            high, out_high = middle, total - mass
    edge = _between(weights, low, high)
    mass = total - out_high
    # Mergesort is the stable sort: equals keep the order of their ids.
    for token in edge[np.argsort(-logits[edge], kind="mergesort")]:
        if mass > 0.0 and mass >= mass_max:
            weights[token] = np.float32(0.0)
        mass += weights[token]
    return low


@kernel(fastmath=FAST_SUMS)
def _sum_from(weights: NDArray[np.float32], least: np.float32, masses: NDArray[np.float64]) -> float:
    """What those weigh together that are no lighter than `least`; writes each block's sum."""
    total = 0.0
    for block in range(masses.shape[0]):
        inside = weights[block * _BLOCK : (block + 1) * _BLOCK]
        # In float32, eight and more at a time: 32 sums of a kind are off by 1e-6 at the most.
        mass = np.float32(0.0)
        for place in range(inside.shape[0]):
            weight = inside[place]
            mass += weight if weight >= least else np.float32(0.0)
        masses[block] = mass
        total += np.float64(mass)
    return total


@kernel(fastmath=EXACT)
def _between(weights: NDArray[np.float32], low: np.float32, high: np.float32) -> NDArray[np.int64]:
    """The tokens of `low` or more and less than `high`, in the order of ids; most stretches hold none, which one look tells."""
    found = np.empty(weights.shape[0], dtype=np.int64)
    count = 0
    for start in range(0, weights.shape[0], _STRETCH):
        stretch = weights[start : start + _STRETCH]
        some = 0
        for place in range(stretch.shape[0]):
            some |= np.int32(low <= stretch[place]) & np.int32(stretch[place] < high)
        if some:
            for place in range(stretch.shape[0]):
                if low <= stretch[place] < high:
                    found[count] = start + place
                    count += 1
    return found[:count]


@kernel(fastmath=EXACT)
def _draw(
    weights: NDArray[np.float32], masses: NDArray[np.float64], least: np.float32, target: float, best: int
) -> int:
    """The token at which the weights of `least` or more, added in the order of ids, pass the target; `best` where none is.

    Blocks that the target lies behind are passed over by their mass.
    """
    passed = 0.0
    last = best
    for block in range(masses.shape[0]):
        if passed + masses[block] <= target:
            passed += masses[block]
            continue
        inside = weights[block * _BLOCK : (block + 1) * _BLOCK]
        for place in range(inside.shape[0]):
            if inside[place] >= least:
                passed += np.float64(inside[place])
                last = block * _BLOCK + place
                if passed > target:
                    return last
    return last


@kernel(fastmath=EXACT)
def _mix(value: np.uint64) -> np.uint64:
    value = (value ^ (value >> _30)) * _MIX_1
    value = (value ^ (value >> _27)) * _MIX_2
    return value ^ (value >> _31)
