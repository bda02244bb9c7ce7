"""onnxruntime-genai: greedy texts one after the other, or those that wait as one batch."""

import time
from importlib import import_module, metadata
from typing import Any

from line_protocol import peak_rss_mb, serve

numpy: Any = import_module("numpy")
genai: Any = import_module("onnxruntime_genai")
state: dict[str, Any] = {}


def load(folder: str) -> dict[str, Any]:
    """Loads the model; its threads are in its configuration."""
    state["model"] = genai.Model(folder)
    return {"versions": {name: metadata.version(name) for name in ("onnxruntime-genai", "onnxruntime")}}


def generate(prompts: list[list[int]], counts: list[int]) -> dict[str, Any]:
    """All prompts, of one length, as one batch that runs until the longest text is done.

    A text's times are those of its own tokens: what comes after its own end is nobody's.
    """
    started = time.perf_counter()
    length, longest = len(prompts[0]), max(counts)
    parameters = genai.GeneratorParams(state["model"])
    total = length + longest
    parameters.set_search_options(max_length=total, min_length=total, do_sample=False, batch_size=len(prompts))
    generator = genai.Generator(state["model"], parameters)
    ids = numpy.array(prompts, dtype=numpy.int32)
    generator.append_tokens(ids if len(prompts) > 1 else ids[0])
    steps: list[Any] = []
    times: list[float] = []
    for _ in range(longest):
        generator.generate_next_token()
        steps.append(generator.get_next_tokens().copy())
        times.append(time.perf_counter() - started)
    tokens = [[int(step[row]) for step in steps[:count]] for row, count in enumerate(counts)]
    return {
        "tokens": tokens,
        "times_s": [times[:count] for count in counts],
        "seconds": time.perf_counter() - started,
        "peak_rss_mb": peak_rss_mb(),
    }


def staggered(prompts: list[list[int]], counts: list[int], every_s: float, batch_max: int) -> dict[str, Any]:
    """Prompts that arrive one every so often; what waits when the engine is free is its next batch."""
    started = time.perf_counter()
    arrivals = [number * every_s for number in range(len(prompts))]
    times: list[list[float]] = [[] for _ in prompts]
    done = 0
    while done < len(prompts):
        now = time.perf_counter() - started
        if arrivals[done] > now:
            time.sleep(arrivals[done] - now)
            continue
        waiting = [number for number in range(done, len(prompts)) if arrivals[number] <= now][:batch_max]
        reply = generate([prompts[number] for number in waiting], [counts[number] for number in waiting])
        for number, own in zip(waiting, reply["times_s"], strict=True):
            times[number] = [now + one - arrivals[number] for one in own]
        done += len(waiting)
    return {"seconds": time.perf_counter() - started, "times_s": times, "peak_rss_mb": peak_rss_mb()}


serve({"load": load, "generate": generate, "staggered": staggered})
