"""Random-weight Llama, Qwen2 and Phi graphs in every layout against a plain NumPy decoder."""

import random

import numpy as np
import onnx
import pytest
from fakes.decoder import END, Reader, byte_tokenizer
from reference import decoder as reference
from reference.decoder_graph import build, dequantised

from gannet_inference.decoder.engine import Engine, EngineLimits
from gannet_inference.decoder.opening import LoadedGraph, SlotLimits, load_graph
from gannet_inference.decoder.prefixes import PrefixCache
from gannet_inference.decoder.request import DecodeRequest, Sampling

TOKENIZER = byte_tokenizer()
POSITIONS = 128
LLAMA, QWEN2, PHI = reference.Shape(), reference.Shape(biases=True), reference.Shape(phi=True, heads=2)
FAMILIES = {LLAMA: "llama", QWEN2: "qwen2", PHI: "phi"}
# Logits here are up to 13; products in float32 against float64, and fp16 in fp16.
TOLERANCE = {32: 1e-4, 16: 0.03, 8: 1e-4, 4: 1e-4}
# Ids 0..255 are bytes, so that whatever a random model says is some text; the two specials and the rest are left out of prompts.
PROMPT_IDS = 256

CASES = [
    *((LLAMA, layout, bits) for layout in ("genai", "optimum") for bits in (32, 16, 8, 4)),
    *((QWEN2, layout, 32) for layout in ("genai", "positions", "seqlens", "optimum")),
    (QWEN2, "genai", 4),
    *((PHI, layout, 32) for layout in ("genai", "positions", "optimum")),
    (PHI, "genai", 8),
]
GRAPHS = pytest.mark.parametrize(
    "shape,layout,bits", CASES, ids=[f"{FAMILIES[shape]}-{layout}-{bits}" for shape, layout, bits in CASES]
)


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    """Loads a graph of a shape, layout and width of weights, each once, with the weights that the reference computes with."""
    loaded = {}

    def once(shape, layout, bits, slots=8) -> tuple[LoadedGraph, reference.Weights]:
        key = (shape, layout, bits, slots)
        if key not in loaded:
            weights = reference.random_weights(shape)
            file = tmp_path_factory.mktemp("graph") / "model.onnx"
            onnx.save(build(shape, weights, layout=layout, bits=bits), file)
            limits = SlotLimits(slots_max=slots, positions=POSITIONS, cache_bytes_max=1 << 30, prefill_tokens=16)
            graph = load_graph(file, limits, model="tiny", threads=1, gpu_index=None)
            loaded[key] = graph, dequantised(weights, bits)
        return loaded[key]

    return once


def drive(
    graph: LoadedGraph, *, prefixes: PrefixCache | None = None, prefill_tokens: int = 16
) -> tuple[Engine, Reader]:
    """An engine that is stepped by hand."""
    reader = Reader()
    engine = Engine(
        graph.runner,
        graph.cache,
        tokenizer=TOKENIZER,
        vocabulary=graph.layout.vocabulary,
        ends=[END],
        limits=EngineLimits(queue_max=1000, prefill_tokens=prefill_tokens),
        deliver=reader.take,
        prefixes=prefixes,
        model="tiny",
    )
    return engine, reader


def prompts(count: int, *, seed: int = 0) -> list[list[int]]:
    """Texts of 1 to 40 tokens."""
    chance = random.Random(seed)  # noqa: S311 - a test's dice
    return [[chance.randrange(PROMPT_IDS) for _ in range(chance.randint(1, 40))] for _ in range(count)]


def ask(prompt: list[int], tokens_max: int = 12, **options) -> DecodeRequest:
    """A greedy request unless it says otherwise; as many tokens as it may have, so that the end is no choice."""
    return DecodeRequest(
        prompt=np.array(prompt, dtype=np.int64), tokens_max=tokens_max, **{"tokens_min": tokens_max, **options}
    )


def finish(engine: Engine) -> None:
    """Rounds until nothing is left."""
    while engine.step():
        pass


@GRAPHS
def test_runner_pieces_and_ragged_batch_have_the_logits_of_the_reference(load, shape, layout, bits):
    """A prompt read in pieces, and eight texts of eight lengths moved on together, each as if it were read at once."""
    graph, weights = load(shape, layout, bits)
    texts = prompts(8)
    for slot, text in enumerate(texts):
        past = 0
        for start in range(0, len(text), 7):
            piece = np.array([text[start : start + 7]], dtype=np.int64)
            found = graph.runner.run(slot, piece, np.array([past], dtype=np.int64))[0]
            past += piece.shape[1]
        expected = reference.logits(shape, weights, text)[-1]
        np.testing.assert_allclose(found, expected, atol=TOLERANCE[bits])

    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    ids = np.array([[number] for number in range(8)], dtype=np.int64)
    together = graph.runner.run(0, ids, lengths)

    for number, (row, text) in enumerate(zip(together, texts, strict=True)):
        expected = reference.logits(shape, weights, [*text, number])[-1]
        np.testing.assert_allclose(row, expected, atol=TOLERANCE[bits])


@GRAPHS
def test_engine_staggered_greedy_texts_equal_the_reference(load, shape, layout, bits):
    """Twelve texts through eight slots, one more every round, of different lengths: each as the reference alone says it."""
    graph, weights = load(shape, layout, bits)
    engine, reader = drive(graph)
    streams = []
    for number, prompt in enumerate(prompts(12, seed=1)):
        streams.append((prompt, 4 + number, engine.submit(ask(prompt, 4 + number))))
        engine.step()
    finish(engine)

    clear = 0
    for prompt, count, stream in streams:
        allowed = dict(weights, head=np.where(np.arange(shape.vocabulary) == END, 0, weights["head"]))
        expected, margin = reference.greedy(shape, allowed, prompt, count)
        # Where two tokens are as good as equal, rounding decides, and what follows is another text.
        if margin > 4 * TOLERANCE[bits]:
            clear += 1
            assert reader.tokens(stream) == expected
    assert clear >= 6
    assert engine.slots.free == 8


@pytest.mark.parametrize("layout", ["genai", "optimum"])
def test_engine_known_prompt_head_gives_the_same_tokens_and_is_not_read_again(load, layout):
    """The second of two prompts with a head of 64 tokens reads only what is its own."""
    graph, _ = load(LLAMA, layout, 32)
    head = [(7 * number) % PROMPT_IDS for number in range(64)]
    plain, plain_reader = drive(graph)
    expected = []
    for tail in ([5, 6, 7], [9], []):
        stream = plain.submit(ask(head + tail))
        finish(plain)
        expected.append(plain_reader.tokens(stream))
    engine, reader = drive(graph, prefixes=PrefixCache(graph.cache, 1 << 20))

    found = []
    for tail in ([5, 6, 7], [9], []):
        stream = engine.submit(ask(head + tail))
        finish(engine)
        found.append((reader.tokens(stream), reader.last(stream).finished.reused_tokens))

    # The last prompt is the head itself: its last token has to be run for its logits, so its block is not enough.
    assert found == list(zip(expected, [0, 64, 0], strict=True))


def test_engine_same_seed_gives_the_same_text_in_the_same_batch(load):
    """And another seed another one."""
    graph, _ = load(LLAMA, "genai", 32)

    def texts(seed: int) -> list[list[int]]:
        engine, reader = drive(graph)
        sampling = Sampling(temperature=1.0, top_p=0.95, seed=seed)
        streams = [engine.submit(ask(prompt, sampling=sampling)) for prompt in prompts(6)]
        finish(engine)
        return [reader.tokens(stream) for stream in streams]

    assert texts(7) == texts(7)
    assert texts(7) != texts(8)


@pytest.mark.parametrize("bits", [32, 8, 4])
def test_engine_text_alone_has_the_log_probabilities_it_has_beside_others(load, bits):
    """To 1e-4: products of one row and of eight are summed in other orders."""
    graph, _ = load(LLAMA, "genai", bits)
    prompt, *others = prompts(8, seed=3)

    def logprobs(*beside: list[int]) -> list[float]:
        engine, reader = drive(graph)
        for other in beside[:4]:
            engine.submit(ask(other, 30))
        stream = engine.submit(ask(prompt, logprobs=2))
        for other in beside[4:]:
            engine.submit(ask(other, 30))
        finish(engine)
        tokens = [token for chunk in reader.chunks[stream] for token in chunk.tokens]
        assert all((token.id, token.logprob) in token.top for token in tokens)
        return [token.logprob for token in tokens]

    assert logprobs(*others) == pytest.approx(logprobs(), abs=1e-4)


def test_engine_log_probabilities_are_the_models_own(load):
    """Before temperature and penalties, here ones that make tokens come again, and of the token that was chosen, not of the best."""
    graph, weights = load(LLAMA, "genai", 32)
    engine, reader = drive(graph)
    prompt = prompts(1)[0]
    sampling = Sampling(temperature=2.0, repetition_penalty=0.5, presence_penalty=-9.0, seed=3)

    stream = engine.submit(ask(prompt, 8, tokens_min=0, sampling=sampling, logprobs=0))
    finish(engine)

    text = list(prompt)
    for token in [token for chunk in reader.chunks[stream] for token in chunk.tokens]:
        last = reference.logits(LLAMA, weights, text)[-1]
        expected = last[token.id] - last.max() - np.log(np.exp(last - last.max()).sum())
        assert token.logprob == pytest.approx(expected, abs=1e-4)
        text.append(token.id)


def test_engine_frequency_penalty_keeps_a_token_from_coming_again(load):
    """With a penalty larger than any logit every token of an answer is another one, and slots that move take it along."""
    graph, _ = load(LLAMA, "genai", 32)
    engine, reader = drive(graph)
    short = engine.submit(ask(prompts(1)[0], 2))
    stream = engine.submit(ask(prompts(2)[1], 60, sampling=Sampling(frequency_penalty=100.0)))

    finish(engine)

    assert len(set(reader.tokens(stream))) == 60
    assert len(reader.tokens(short)) == 2
