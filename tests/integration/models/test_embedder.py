"""The embedder's contract over a socket."""

import grpc
import numpy as np
import pytest

from gannet.embedder.v1 import embedder_pb2 as pb
from gannet.embedder.v1.embedder_pb2_grpc import EmbedderStub
from gannet_inference.sparse import Bm25Encoder
from gannet_service.errors import InvalidInput, from_status

TEXTS = [
    "The gannet dives from thirty metres.",
    "",
    "Ein Vogel, der taucht.",
    "How deep does a gannet dive?",
    "x " * 600,
]


@pytest.fixture
def embedder(embedder_address, open_channel) -> EmbedderStub:
    """A stub of the running embedder."""
    return EmbedderStub(open_channel(embedder_address))


def ask(texts, **fields) -> pb.EmbedRequest:
    """A request for dense vectors of passages, unless `fields` says otherwise."""
    return pb.EmbedRequest(**{"texts": texts, "purpose": pb.PURPOSE_PASSAGE, "want_dense": True, **fields})


def dense(result: pb.EmbedResult) -> np.ndarray:
    """The vector of a result."""
    return np.frombuffer(result.dense.data, dtype="<f4")


async def test_info_of_the_default_model_names_it_and_its_limits(embedder):
    """Info says which model answers, how long its digest is, and what a request may hold."""
    info = await embedder.Info(pb.InfoRequest())
    assert (info.model, info.precision, info.dim, info.tokens_max) == ("all-minilm-l6-v2", "int8", 384, 256)
    assert (info.batch_texts_max, info.text_bytes_max) == (16, 4096)
    assert info.execution_provider == "CPUExecutionProvider"
    assert len(bytes.fromhex(info.model_digest)) == 32
    assert info.sessions >= 1
    assert "en" in info.languages


async def test_embed_of_several_texts_returns_unit_vectors_in_order(embedder):
    """There is one vector of length one per text, and the nearest passage to the question is the one that answers it."""
    reply = await embedder.Embed(ask(TEXTS))
    vectors = np.array([dense(result) for result in reply.results])
    assert vectors.shape == (len(TEXTS), 384)
    assert [result.dense.dim for result in reply.results] == [384] * len(TEXTS)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    similarity = vectors @ vectors[3]
    assert similarity[0] == max(similarity[[0, 1, 2, 4]])
    assert not any(result.HasField("sparse") or result.HasField("error") for result in reply.results)


async def test_embed_of_one_text_equals_it_beside_others_bit_for_bit(embedder):
    """Neighbours in a batch change nothing."""
    together = await embedder.Embed(ask(TEXTS, want_sparse=True))
    for text, result in zip(TEXTS, together.results, strict=True):
        alone = await embedder.Embed(ask([text], want_sparse=True))
        assert alone.results[0] == result


async def test_embed_counts_tokens_and_flags_a_long_text(embedder):
    """token_count includes the special tokens, and a text beyond tokens_max is flagged and cut there."""
    reply = await embedder.Embed(ask(["", "gannet dive", "word " * 600]))
    assert [result.token_count for result in reply.results][::2] == [2, 256]
    assert [result.truncated for result in reply.results] == [False, False, True]


async def test_embed_with_sparse_matches_the_bm25_encoder(embedder):
    """Passages are weighed by BM25 with the request's average length, queries by counts; indices ascend."""
    bm25 = Bm25Encoder("en")
    options = pb.SparseOptions(language="en", average_length=7.0)
    passage = await embedder.Embed(ask(TEXTS[:1], want_dense=False, want_sparse=True, sparse=options))
    query = await embedder.Embed(
        ask(TEXTS[3:4], purpose=pb.PURPOSE_QUERY, want_dense=False, want_sparse=True, sparse=options)
    )
    for result, expected in (
        (passage.results[0], bm25.passage(TEXTS[0], 7.0)),
        (query.results[0], bm25.query(TEXTS[3])),
    ):
        assert list(result.sparse.indices) == sorted(set(expected.indices.tolist()))
        np.testing.assert_array_equal(np.frombuffer(result.sparse.values, "<f4"), expected.values)
        assert not result.HasField("dense")
        assert result.token_count == 0


async def test_embed_in_another_language_uses_its_stemmer(embedder):
    """SparseOptions.language selects the stemmer: the plural meets the singular in German only."""
    by_language = {}
    for language in ("de", "en"):
        options = pb.SparseOptions(language=language)
        reply = await embedder.Embed(ask(["Vögel", "Vogel", "Häuser", "Häusern"], want_sparse=True, sparse=options))
        by_language[language] = [list(result.sparse.indices) for result in reply.results]
    assert by_language["de"][2] == by_language["de"][3]
    assert by_language["en"][2] != by_language["en"][3]


async def test_embed_without_average_length_uses_the_servers_default(embedder):
    """Zero stands for the configured default of 128 terms."""
    zero = await embedder.Embed(ask(TEXTS[:1], want_sparse=True))
    default = await embedder.Embed(
        ask(TEXTS[:1], want_sparse=True, sparse=pb.SparseOptions(language="en", average_length=128.0))
    )
    assert zero.results == default.results


async def test_embed_reports_where_the_time_went(embedder):
    """Tokenising, waiting and the model are measured, and each is part of the whole."""
    timings = (await embedder.Embed(ask(TEXTS[:1]))).timings
    assert timings.tokenize_us > 0
    assert timings.inference_us > 0
    assert timings.total_us >= timings.tokenize_us + timings.inference_us


async def test_embed_in_each_lane_gives_the_same_vector(embedder):
    """The lane decides when, never what."""
    replies = [await embedder.Embed(ask(TEXTS[:1], priority=lane)) for lane in pb.Priority.values()]
    assert replies[0].results == replies[1].results == replies[2].results


async def test_embed_of_a_text_too_long_in_bytes_fails_that_text_alone(embedder):
    """The others come back as they would without it; the error names the text and the limit."""
    reply = await embedder.Embed(ask([TEXTS[0], "é" * 2049, TEXTS[3]], want_sparse=True))
    without = await embedder.Embed(ask([TEXTS[0], TEXTS[3]], want_sparse=True))
    error = from_status(reply.results[1].error)
    assert (type(error), error.field, error.reason) == (InvalidInput, "texts[1]", "TEXT_TOO_LONG")
    assert "4096" in error.message
    assert not reply.results[1].HasField("dense")
    assert not reply.results[1].HasField("sparse")
    assert [reply.results[0], reply.results[2]] == list(without.results)


@pytest.mark.parametrize(
    "request_, field",
    [
        (ask([]), "texts"),
        (ask(["x"] * 17), "texts"),
        (ask(["x"], purpose=pb.PURPOSE_UNSPECIFIED), "purpose"),
        (ask(["x"], purpose=7), "purpose"),
        (ask(["x"], priority=7), "priority"),
        (ask(["x"], want_dense=False), "want_dense"),
        (ask(["x"], sparse=pb.SparseOptions(language="xx")), "sparse.language"),
        (ask(["x"], sparse=pb.SparseOptions(average_length=-1)), "sparse.average_length"),
        (ask(["x"], sparse=pb.SparseOptions(average_length=float("nan"))), "sparse.average_length"),
    ],
)
async def test_embed_with_a_wrong_field_is_refused_by_its_name(embedder, refusal, request_, field):
    """Every request-level fault is INVALID_ARGUMENT with the field in the details."""
    error = await refusal(embedder.Embed(request_))
    assert (type(error), error.field) == (InvalidInput, field)


async def test_embed_of_ten_megabytes_fails_alone_and_the_next_call_succeeds(embedder):
    """A huge text is that text's error, and the server goes on."""
    reply = await embedder.Embed(ask(["x" * 10_000_000, TEXTS[0]]))
    assert from_status(reply.results[0].error).reason == "TEXT_TOO_LONG"
    assert reply.results[1].dense.dim == 384


async def test_embed_of_invalid_utf8_is_refused_by_the_fields_name(embedder_address, open_channel, refusal):
    """Bytes that are no text are the caller's fault, and the field is named."""
    raw = open_channel(embedder_address).unary_unary("/gannet.embedder.v1.Embedder/Embed")
    error = await refusal(raw(b"\x0a\x02\xff\xfe\x10\x01\x18\x01"))
    assert (type(error), error.field) == (InvalidInput, "texts")


async def test_embed_past_its_deadline_is_deadline_exceeded(embedder):
    """A deadline that cannot be met ends the call with its own status."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await embedder.Embed(ask(["word " * 500] * 16), timeout=0.02)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
