"""The next token of each row of logits: penalties, temperature, top-k, top-p, min-p, a draw that its seed and position repeat.

The order is that of common samplers: penalties, temperature, top-k, top-p over what top-k left, min-p. Nothing is sorted
but the few tokens around a limit: weights are first counted into narrow ranges of logits.
"""

import numpy as np
from numpy.typing import NDArray

from gannet_kernels._jit import EXACT, FAST_SUMS, kernel

# A token so many nats below the best has no chance: exp(-80) is 2e-35.
SPAN = 80.0
# Ranges of 0.02 nats: of 49,152 normally distributed logits the fullest holds about 400.
_RANGES = 4096
_BLOCK = 256
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
    for row in range(logits.shape[0]):
        top = np.float64(logits[row, best[row]])
        if not np.isfinite(top):
            tokens[row] = -1
            continue
        scale = 1.0 / temperature[row] if temperature[row] > 0.0 else np.inf
        if not np.isfinite(scale * SPAN):
            continue
        total = _weigh(logits[row], top, scale, weights)
        if 0 < top_k[row] < logits.shape[1]:
            total = _cut(logits[row], weights, top, scale, top_k[row], np.inf)
        if top_p[row] < 1.0:
            total = _cut(logits[row], weights, top, scale, logits.shape[1], top_p[row] * total)
        if min_p[row] > 0.0:
            total = _drop_light(weights, min_p[row])
        tokens[row] = _draw(weights, uniform(seeds[row], positions[row]) * total, best[row])
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
    return best + np.log(_weigh(logits, best, 1.0, weights))


@kernel(fastmath=FAST_SUMS)
def _weigh(logits: NDArray[np.float32], best: float, scale: float, weights: NDArray[np.float32]) -> float:
    """Writes exp((logit - best)·scale) for every logit and returns their sum.

    (1 + x/1024 + ...)^1024 by a polynomial and ten squarings: the machine's exp is a call per element, this is arithmetic on
    SIMD registers, exact to 1e-10 and six times as fast.
    """
    total = 0.0
    for token in range(logits.shape[0]):
        x = (np.float64(logits[token]) - best) * scale
        y = max(x, -SPAN) * (1.0 / 1024.0)
        power = 1.0 + y * (1.0 + y * (1 / 2 + y * (1 / 6 + y * (1 / 24 + y * (1 / 120 + y * (1 / 720 + y / 5040))))))
        power *= power
        power *= power
        power *= power
        power *= power
        power *= power
        power *= power
        power *= power
        power *= power
        power *= power
        power *= power
        weight = power if x > -SPAN else 0.0
        weights[token] = np.float32(weight)
        total += weight
    return total


@kernel(fastmath=EXACT)
def _cut(
    logits: NDArray[np.float32],
    weights: NDArray[np.float32],
    best: float,
    scale: float,
    count_max: int,
    mass_max: float,
) -> float:
    """Keeps, of the tokens that still weigh something, the first `count_max`, or fewer where these weigh `mass_max`.

    The weights of all others become 0. Returns the sum of what is kept; the best token is always kept.
    """
    counts = np.zeros(_RANGES + 1, dtype=np.int64)
    masses = np.zeros(_RANGES + 1, dtype=np.float64)
    ranges_per_nat = scale * (_RANGES / SPAN)
    for token in range(weights.shape[0]):
        if weights[token] > 0.0:
            place = int((best - logits[token]) * ranges_per_nat)
            counts[place] += 1
            masses[place] += weights[token]
    edge, count, mass = 0, 0, 0.0
    while edge < _RANGES and count + counts[edge] < count_max and mass + masses[edge] < mass_max:
        count += counts[edge]
        mass += masses[edge]
        edge += 1
    inside = np.empty(counts[edge], dtype=np.int64)
    found = 0
    for token in range(weights.shape[0]):
        if weights[token] > 0.0:
            place = int((best - logits[token]) * ranges_per_nat)
            if place == edge:
                inside[found] = token
                found += 1
            elif place > edge:
                weights[token] = 0.0
    return _keep_first(logits, weights, inside, count, mass, count_max, mass_max)


@kernel(fastmath=EXACT)
def _keep_first(
    logits: NDArray[np.float32],
    weights: NDArray[np.float32],
    tokens: NDArray[np.int64],
    count: int,
    mass: float,
    count_max: int,
    mass_max: float,
) -> float:
    """`_cut` among the tokens of one range, when `count` tokens that weigh `mass` are kept before them."""
    values = np.empty(tokens.shape[0], dtype=np.float32)
    for number in range(tokens.shape[0]):
        values[number] = -logits[tokens[number]]
    # Mergesort is the stable sort: equals keep the order of their ids.
    for number in np.argsort(values, kind="mergesort"):
        token = tokens[number]
        if count > 0 and (count >= count_max or mass >= mass_max):
            weights[token] = 0.0
        else:
            count += 1
            mass += np.float64(weights[token])
    return mass


@kernel(fastmath=EXACT)
def _drop_light(weights: NDArray[np.float32], least: float) -> float:
    total = 0.0
    for token in range(weights.shape[0]):
        if weights[token] < least:
            weights[token] = 0.0
        total += weights[token]
    return total


@kernel(fastmath=FAST_SUMS)
def _draw(weights: NDArray[np.float32], target: float, best: int) -> int:
    """The token at which the weights, added in the order of ids, pass the target.

    Whole blocks first: a sum of 256 in SIMD registers instead of 256 sums that wait for each other.
    """
    passed = 0.0
    last = best
    for start in range(0, weights.shape[0], _BLOCK):
        end = min(start + _BLOCK, weights.shape[0])
        block = 0.0
        for token in range(start, end):
            block += np.float64(weights[token])
        if passed + block > target:
            for token in range(start, end):
                if weights[token] > 0.0:
                    passed += np.float64(weights[token])
                    last = token
                    if passed > target:
                        return last
        else:
            passed += block
    return last


@kernel(fastmath=EXACT)
def _mix(value: np.uint64) -> np.uint64:
    value = (value ^ (value >> _30)) * _MIX_1
    value = (value ^ (value >> _27)) * _MIX_2
    return value ^ (value >> _31)
