"""The built-in models end to end: known answers, truncation, lanes, failures."""

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest

import gannet_inference
from gannet_inference.encoder import BiEncoder, CrossEncoder
from gannet_inference.errors import ModelFailure, QueueFull, UnsupportedModel
from gannet_inference.lanes import Lane
from gannet_inference.manifest import Prompts, load_manifest
from gannet_inference.store import ensure_built
from gannet_inference.tokens import TokenIds

ADAPTER = Path(gannet_inference.__file__).parent / "builtin" / "reranker-minilm-l6-qa"
TEXTS = ["A generator is a function with a yield expression.", "Functions that yield are generators.", "Fish swim."]


def test_bi_encoder_vectors_have_length_one_and_follow_meaning(embedder):
    """Two sentences that say the same are nearer than one that does not."""
    vectors = np.stack([work.result() for work in embedder.submit_all(embedder.tokenize(TEXTS, "passage"))])

    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)
    assert vectors.shape == (3, embedder.built.dim)
    assert vectors[0] @ vectors[1] > 0.5 + vectors[0] @ vectors[2]


def test_bi_encoder_int8_vectors_are_close_to_fp32(embedder, models_dir):
    """The default precision turns a sentence's vector by a few degrees at most."""
    exact = BiEncoder.open(ensure_built(load_manifest().entry("all-minilm-l6-v2"), "fp32", models_dir), sessions=1)

    cosines = [exact.encode(tokens) @ embedder.encode(tokens) for tokens in embedder.tokenize(TEXTS, "passage")]
    exact.close()

    assert embedder.built.precision == "int8"
    assert min(cosines) > 0.985


def test_bi_encoder_vector_does_not_depend_on_its_neighbours(embedder):
    """Alone or among others, the vector is the same to the bit."""
    alone = embedder.submit(embedder.tokenize(TEXTS[:1], "query")[0]).result()
    among = embedder.submit_all(embedder.tokenize(TEXTS, "query"), Lane.BULK)[0].result()

    np.testing.assert_array_equal(alone, among)


def test_bi_encoder_long_text_is_cut_and_flagged(embedder):
    """What the model cannot read is left out and said."""
    long, short = embedder.tokenize(["word " * 5000, "word"], "passage")

    assert (long.count, long.truncated) == (embedder.built.tokens_max, True)
    assert (short.count, short.truncated) == (3, False)
    assert long.ids[-1] == short.ids[-1]


def test_bi_encoder_empty_text_has_a_vector(embedder):
    """No text is the special tokens alone, which is no error here."""
    assert np.isfinite(embedder.encode(embedder.tokenize([""], "query")[0])).all()


def test_bi_encoder_prompt_goes_in_front_by_purpose(tiny_model, tmp_path):
    """Queries and passages get the manifest's prompts."""
    built = ensure_built(tiny_model(prompts=Prompts(query="one ", passage="two two ")), None, tmp_path)
    encoder = BiEncoder.open(built, sessions=1)

    assert encoder.tokenize(["three"], "query")[0].ids.tolist() == [2, 4, 6, 3]
    assert encoder.tokenize(["three"], "passage")[0].ids.tolist() == [2, 5, 5, 6, 3]
    encoder.close()


def test_cross_encoder_logits_equal_the_recorded_ones(reranker):
    """The merged adapter gives the logits that it was recorded with."""
    pairs = json.loads((ADAPTER / "expected.json").read_text(encoding="utf-8"))

    scores = [reranker.score(reranker.tokenize(pair["query"], [pair["passage"]])[0]) for pair in pairs]

    assert reranker.built.precision == "fp32"
    assert scores == pytest.approx([pair["logit"] for pair in pairs], abs=1e-3)


def test_cross_encoder_long_passage_loses_its_end_and_not_the_query(reranker):
    """The query is read whole, the passage is cut and flagged."""
    query = reranker.tokenize("what is a generator", [""])[0]

    pair = reranker.tokenize("what is a generator", ["word " * 5000])[0]

    assert (pair.count, pair.truncated) == (reranker.built.tokens_max, True)
    assert pair.ids[: query.count - 1].tolist() == query.ids[:-1].tolist()


def test_cross_encoder_long_query_is_cut_too(reranker):
    """A query longer than the model is no error."""
    pair = reranker.tokenize("word " * 5000, ["short passage"])[0]

    assert (pair.count, pair.truncated) == (reranker.built.tokens_max, True)
    assert np.isfinite(reranker.submit(pair).result())


async def test_encoder_cancelled_wait_takes_the_work_out_of_the_queue(embedder):
    """A caller of asyncio who leaves frees the place in the queue."""
    batch = embedder.submit_all(embedder.tokenize(["word " * 250] * 30, "passage"), Lane.BULK)
    waits = [asyncio.wrap_future(work) for work in batch]

    for wait in waits:
        wait.cancel()
    await asyncio.gather(*waits, return_exceptions=True)

    assert embedder.waiting == 0
    assert sum(work.cancelled() for work in batch) >= 28


def test_encoder_full_queue_refuses(tiny_model, tmp_path):
    """More than the queue holds is refused at once."""
    encoder = BiEncoder.open(ensure_built(tiny_model(), None, tmp_path), sessions=1, queue_max=2)

    with pytest.raises(QueueFull):
        encoder.submit_all(encoder.tokenize(["one"] * 3, "query"))
    encoder.close()


def test_encoder_of_the_other_kind_is_refused(tiny_model, tmp_path):
    """A bi-encoder cannot be opened as a cross-encoder."""
    with pytest.raises(UnsupportedModel, match="is a bi-encoder, not a cross-encoder"):
        CrossEncoder.open(ensure_built(tiny_model(), None, tmp_path), sessions=1)


@pytest.mark.parametrize("value", [10, -11])
def test_encoder_failing_run_gives_model_failure(tiny_model, tmp_path, value):
    """A token outside the vocabulary is the model's failure, with the model's name, and the next text is served."""
    encoder = BiEncoder.open(ensure_built(tiny_model(), None, tmp_path), sessions=1)
    bad = TokenIds(ids=np.array([2, value, 3]), type_ids=np.zeros(3, dtype=np.int64), truncated=False)

    with pytest.raises(ModelFailure, match="model 'tiny': run"):
        encoder.submit(bad).result()
    assert encoder.submit(encoder.tokenize(["one"], "query")[0]).result().shape == (16,)
    encoder.close()


def test_encoder_nan_output_gives_model_failure(tiny_model, tmp_path, monkeypatch):
    """A vector with NaN never leaves the encoder."""
    encoder = BiEncoder.open(ensure_built(tiny_model(), None, tmp_path), sessions=1)
    monkeypatch.setattr(encoder._session, "run", lambda _: np.full((3, 16), np.nan, dtype=np.float32))

    with pytest.raises(ModelFailure, match="NaN"):
        encoder.encode(encoder.tokenize(["one"], "query")[0])
    encoder.close()
