"""Sessions: a batch gives each text what it gives alone, and a device that is not there is said; cores of this process."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reference import bert
from reference import tiny_model as tiny

from gannet_inference import session
from gannet_inference.encoder import BiEncoder
from gannet_inference.errors import DeviceUnavailable, ModelFailure, UnsupportedModel
from gannet_inference.graph import write_graph
from gannet_inference.session import BatchSession, Gpu, open_session
from gannet_inference.store import ensure_built
from gannet_inference.tokens import TextTokenizer, TokenIds, load_tokenizer
from gannet_inference.weights import read_architecture

SHAPE = {"heads": tiny.HEADS, "epsilon": 1e-12}
TOKENS_MAX = 20
# What padding may change: the order in which a product is summed.
TOLERANCE = {"fp32": 1e-5, "fp16": 0.03}


@pytest.fixture(scope="module")
def batch_sessions(tmp_path_factory):
    """The tiny model in padded graphs on the CPU, by kind and precision."""
    folder = tmp_path_factory.mktemp("batch")
    tiny.write(folder)
    architecture = read_architecture(folder, model="tiny")
    sessions = {}
    for kind in ("bi-encoder", "cross-encoder"):
        for precision in ("fp32", "fp16"):
            half = precision == "fp16"
            graph = write_graph(tiny.random_weights(), architecture, kind=kind, model="tiny", padded=True, half=half)
            file = folder / f"{kind}-{precision}.onnx"
            onnx.save(graph, file)
            sessions[kind, precision] = BatchSession(
                file, model="tiny", tokens_max=TOKENS_MAX, batch_tokens_max=256, gpu_index=None
            )
    return sessions


def _text(ids):
    return TokenIds(ids=np.array(ids), type_ids=np.zeros(len(ids), dtype=np.int64), truncated=False)


TEXTS = st.lists(st.lists(st.integers(0, len(tiny.WORDS) - 1), min_size=1, max_size=TOKENS_MAX), min_size=1, max_size=8)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=TEXTS)
def test_batch_session_gives_each_text_what_the_naive_forward_gives_it_alone(batch_sessions, precision, texts):
    """Neither neighbours nor padding reach a text: any batch equals the reference, one text at a time."""
    outputs = batch_sessions["bi-encoder", precision].run_batch([_text(ids) for ids in texts])

    for ids, output in zip(texts, outputs, strict=True):
        expected = bert.encode(tiny.random_weights(), ids, [0] * len(ids), **SHAPE)
        np.testing.assert_allclose(output, expected, atol=TOLERANCE[precision])


def test_batch_session_scores_pairs_in_order(batch_sessions):
    """A cross-encoder's logit is read from each text's first token, whatever the batch's width."""
    texts = [[2, 4, 3], [2, 5, 6, 7, 8, 9, 3], [2, 3]]

    outputs = batch_sessions["cross-encoder", "fp32"].run_batch([_text(ids) for ids in texts])

    weights = tiny.random_weights()
    expected = [
        bert.classify(
            weights, bert.encode(weights, ids, [0] * len(ids), **SHAPE), dense="pooler.dense", out="classifier"
        )
        for ids in texts
    ]
    np.testing.assert_allclose(np.concatenate(outputs), expected, atol=1e-5)


def test_batch_session_text_outside_the_vocabulary_fails_alone(batch_sessions):
    """ONNX Runtime fails the whole batch; the callers see only their own text's fate."""
    texts = [[2, 4, 3], [2, 5, 3], [2, len(tiny.WORDS), 3], [2, 6, 3]]

    with ThreadPoolExecutor(len(texts)) as callers:
        runs = [callers.submit(batch_sessions["bi-encoder", "fp32"].run, _text(ids)) for ids in texts]

    assert [type(run.exception()) for run in runs] == [type(None), type(None), ModelFailure, type(None)]
    expected = bert.encode(tiny.random_weights(), texts[3], [0, 0, 0], **SHAPE)
    np.testing.assert_allclose(runs[3].result(), expected, atol=1e-5)


def test_encoder_over_batches_equals_encoder_over_single_texts(tiny_model, tmp_path):
    """The whole path, fp16 in batches against fp32 alone: the same vectors but for rounding."""
    entry = tiny_model()
    half = ensure_built(entry, "fp16", tmp_path)
    batches = BatchSession(half.model_file, model="tiny", tokens_max=12, batch_tokens_max=256, gpu_index=None)
    tokenizer = TextTokenizer(load_tokenizer(half.tokenizer_file, model="tiny"), tokens_max=12)
    encoder = BiEncoder(half, session=batches, tokenizer=tokenizer, sessions=4, queue_max=100)
    alone = BiEncoder.open(ensure_built(entry, "fp32", tmp_path), sessions=1)
    texts = encoder.tokenize(["one", "two three four five six one two", "six six", ""] * 5, "passage")

    vectors = [work.result() for work in encoder.submit_all(texts)]

    np.testing.assert_allclose(vectors, [alone.encode(text) for text in texts], atol=0.01)
    encoder.close()
    alone.close()


def test_batch_session_calibration_keeps_within_the_configured_budget(batch_sessions, monkeypatch):
    """The budget after calibration is one that was measured; a device that is as fast at once gets the smallest."""
    batches = batch_sessions["bi-encoder", "fp32"]
    monkeypatch.setattr(batches, "_batch_s", lambda tokens: tokens / 1000)

    batches.calibrate()

    assert batches.budget_tokens == 64


def test_batch_session_calibrates_on_the_device(batch_sessions):
    """Calibration runs real batches, of texts that the model can read."""
    batches = batch_sessions["cross-encoder", "fp32"]

    batches.calibrate()

    assert batches.budget_tokens in {64, 128, 256}


def test_batch_session_refuses_a_graph_without_a_mask(tiny_model, tmp_path):
    """Such a graph would read padding as text."""
    built = ensure_built(tiny_model(), "fp32", tmp_path)

    with pytest.raises(UnsupportedModel, match="no attention mask"):
        BatchSession(built.model_file, model="tiny", tokens_max=12, batch_tokens_max=256, gpu_index=None)


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_open_session_on_a_gpu_that_is_not_there_is_refused(tiny_model, tmp_path):
    """ONNX Runtime would go on with the CPU in silence."""
    assert "CUDAExecutionProvider" not in onnxruntime.get_available_providers()
    built = ensure_built(tiny_model(), "fp16", tmp_path)

    with pytest.raises(DeviceUnavailable, match="fell back to CPUExecutionProvider"):
        open_session(built.model_file, model="tiny", threads=1, tokens_max=12, gpu=Gpu(index=0, batch_tokens_max=1024))


@pytest.mark.parametrize(
    "quota,cores",
    [("max 100000\n", 4), ("250000 100000\n", 2), ("50000 100000\n", 1), ("900000 100000\n", 4), ("", 4)],
)
def test_cores_available_is_the_smaller_of_affinity_and_quota(tmp_path, monkeypatch, quota, cores):
    """A container's quota counts whole cores, at least one; no quota leaves the affinity."""
    (tmp_path / "cpu.max").write_text(quota, encoding="utf-8")
    monkeypatch.setattr(session, "_CGROUP_QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})

    assert cores == session.cores_available()


def test_cores_available_without_cgroups_is_the_affinity(tmp_path, monkeypatch):
    """A machine without that file is no error."""
    monkeypatch.setattr(session, "_CGROUP_QUOTA", tmp_path / "absent")

    assert len(os.sched_getaffinity(0)) == session.cores_available()
