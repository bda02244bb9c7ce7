"""The next token of each row of logits: penalties, temperature, top-k, top-p, min-p, a draw that its seed and position repeat.

The order is that of common samplers: penalties, temperature, top-k, top-p over what top-k left, min-p. The vocabulary is never
sorted: top-k is a heap, top-p sorts the few tokens around its limit.
"""

import numpy as np
from numpy.typing import NDArray

from gannet_kernels._jit import EXACT, FAST_SUMS, kernel
from gannet_kernels.similarity import top_k as first_k

# A token 2^-115 times as likely as the best, 80 nats below it, has no chance.
_LEAST_POWER = -115.0
_LIGHTEST = np.float32(2.0**_LEAST_POWER)
_LOG2_E = 1.4426950408889634
# 2^f on [0, 1] to 3e-9, fitted so that 0 gives 1 and 1 gives 2.
_C0, _C1, _C2, _C3, _C4, _C5, _C6 = (
    np.float32(coefficient)
    for coefficient in (1.0, 0.693147007, 0.240229742, 0.0554835219, 0.00967868463, 0.00124399512, 0.000217049867)
)
# Ranges of 0.02 nats: of 49,152 normally distributed logits the fullest holds about 400.
_RANGES = 4096
_BLOCK = 256
_KEPT = -1
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
        if not np.isfinite(scale * -_LEAST_POWER):
            continue
        total = _weigh(logits[row], top, scale, weights)
        share = uniform(seeds[row], positions[row])
        if 0 < top_k[row] < logits.shape[1]:
            kept = _first(logits[row], weights, top_k[row], top_p[row], min_p[row])
        elif top_p[row] < 1.0 or min_p[row] > 0.0:
            kept = _nucleus(logits[row], weights, total, top_p[row], min_p[row])
        else:
            tokens[row] = _draw(weights, share * total, best[row])
            continue
        tokens[row] = kept[_draw(weights[kept], share * weights[kept].sum(), 0)]
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

    exp(x) = 2^n · 2^f with n whole and f in [0, 1): 2^f by a polynomial of degree 6 (to 2e-7), 2^n by adding n to the exponent's bits. The
    machine's exp is a call per element; this is arithmetic on SIMD registers.
    """
    bits = weights.view(np.int32)
    to_powers_of_two = scale * _LOG2_E
    for token in range(logits.shape[0]):
        power = np.float32(max((np.float64(logits[token]) - best) * to_powers_of_two, _LEAST_POWER))
        whole = np.floor(power)
        f = power - whole
        weights[token] = _C0 + f * (_C1 + f * (_C2 + f * (_C3 + f * (_C4 + f * (_C5 + f * _C6)))))
        bits[token] += np.int32(whole) << np.int32(23)
    total = 0.0
    for token in range(logits.shape[0]):
        weight = weights[token]
        weight = weight if weight > _LIGHTEST else np.float32(0.0)
        weights[token] = weight
        total += np.float64(weight)
    return total


@kernel(fastmath=EXACT)
def _first(
    logits: NDArray[np.float32], weights: NDArray[np.float32], count_max: int, top_p: float, min_p: float
) -> NDArray[np.int64]:
    """The tokens that the three limits keep where top-k is one of them, in the order of ids."""
    order = first_k(logits, count_max)
    total = 0.0
    for token in order:
        total += weights[token]
    count, mass = 0, 0.0
    while count < order.shape[0]:
        weight = np.float64(weights[order[count]])
        if count > 0 and ((top_p < 1.0 and mass >= top_p * total) or weight < min_p or weight == 0.0):
            break
        mass += weight
        count += 1
    return np.sort(order[:count])


@kernel(fastmath=EXACT)
def _nucleus(
    logits: NDArray[np.float32], weights: NDArray[np.float32], total: float, top_p: float, min_p: float
) -> NDArray[np.int64]:
    """The tokens that top-p and min-p keep, in the order of ids.

    Tokens lighter than the mean of what top-p leaves out can only be among what it leaves out: most are dropped by that alone.
    """
    least = max(min_p, (1.0 - top_p) * total / weights.shape[0])
    candidates = np.empty(weights.shape[0], dtype=np.int64)
    found = 0
    for token in range(weights.shape[0]):
        candidates[found] = token
        # No branch: which tokens are heavy cannot be foretold.
        found += 1 if weights[token] >= least and weights[token] > 0.0 else 0
    candidates = candidates[:found]
    return candidates if top_p >= 1.0 else _heaviest(logits, weights, candidates, top_p * total)


@kernel(fastmath=EXACT)
def _heaviest(
    logits: NDArray[np.float32], weights: NDArray[np.float32], candidates: NDArray[np.int64], mass_max: float
) -> NDArray[np.int64]:
    """The fewest candidates that weigh `mass_max`, in the order of ids.

    Weights are counted by narrow ranges of logits; only the range in which the limit falls is sorted.
    """
    best = logits[candidates].max()
    ranges_per_logit = _RANGES / max(best - logits[candidates].min(), np.float32(1e-6))
    places = np.empty(candidates.shape[0], dtype=np.int64)
    masses = np.zeros(_RANGES + 1, dtype=np.float64)
    for number in range(candidates.shape[0]):
        places[number] = int((best - logits[candidates[number]]) * ranges_per_logit)
        masses[places[number]] += weights[candidates[number]]
    edge, mass = 0, 0.0
    while edge < _RANGES and mass + masses[edge] < mass_max:
        mass += masses[edge]
        edge += 1
    inside = np.flatnonzero(places == edge)
    values = -logits[candidates[inside]]
    # Mergesort is the stable sort: equals keep the order of their ids.
    for number in inside[np.argsort(values, kind="mergesort")]:
        if mass == 0.0 or mass < mass_max:
            mass += weights[candidates[number]]
            places[number] = _KEPT
    return candidates[places < edge]


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
