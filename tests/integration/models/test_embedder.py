"""The embedder's contract over a socket."""

import grpc
import numpy as np
import pytest

from gannet.common.v1 import vectors_pb2
from gannet.embedder.v1 import embedder_pb2 as pb
from gannet.embedder.v1.embedder_pb2_grpc import EmbedderStub
from gannet_inference.manifest import load_manifest
from gannet_inference.placement import cpu_instructions, default_precision, place
from gannet_lexical.sparse import Bm25Encoder
from gannet_service.errors import DeadlineTooShort, InvalidInput, NotFound, from_rpc_error, from_status

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


async def vector_of(embedder: EmbedderStub, text: str, **fields) -> np.ndarray:
    """One text's vector."""
    return dense((await embedder.Embed(ask([text], **fields))).results[0])


async def test_info_of_the_default_model_names_it_and_its_limits(embedder):
    """Info says which model answers, how long its digest is, and what a request may hold."""
    info = await embedder.Info(pb.InfoRequest())
    assert (info.model, info.dim, info.tokens_max) == ("all-minilm-l6-v2", 384, 256)
    entry = load_manifest().entry("all-minilm-l6-v2")
    assert (info.instructions, info.precision) == (cpu_instructions(), default_precision(entry, cpu_instructions()))
    assert (info.batch_texts_max, info.text_bytes_max) == (16, 4096)
    assert info.execution_provider == "CPUExecutionProvider"
    assert len(bytes.fromhex(info.model_digest)) == 32
    assert info.sessions >= 1
    assert (info.threads, info.runtime) == (1, place().runtime)
    assert "en" in info.languages
    assert (list(info.models), info.token_texts_max, info.normalised) == (["all-minilm-l6-v2"], 4, True)
    assert info.stream_requests_max >= 1


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
        (ask(["x"] * 5, want_tokens=True), "texts"),
        (ask(["x"], dims=385), "dims"),
        (ask(["x"], dims=4_000_000_000), "dims"),
        (ask(["x"], dense_type=9), "dense_type"),
        (ask(["x"], truncation_side=9), "truncation_side"),
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


async def test_embed_that_would_come_too_late_is_refused_with_its_own_reason(embedder):
    """Half of the time that such a call takes is not enough, and the server says so before that time is over.

    Where the machine stands still for a moment the caller's own clock is first, and it asks again.
    """
    request = ask(["sea " * 1000] * 16)
    timings = (await embedder.Embed(request)).timings
    sessions = (await embedder.Info(pb.InfoRequest())).sessions
    reasons = set()
    for _ in range(20):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await embedder.Embed(request, timeout=timings.inference_us / 1e6 / sessions / 2)
        error = from_rpc_error(caught.value)
        assert isinstance(error, DeadlineTooShort)
        reasons.add(error.reason)
        if "DEADLINE_HOPELESS" in reasons:
            break
    assert "DEADLINE_HOPELESS" in reasons


async def test_embed_with_truncation_side_leaves_that_side_out(embedder):
    """A long text cut at its start is read as its last words, at its end as its first; both are flagged."""
    text = "sea " * 300 + "rock " * 300
    for side, rest in (("END", "sea "), ("START", "rock ")):
        request = ask([text], truncation_side=pb.TruncationSide.Value(f"TRUNCATION_SIDE_{side}"))
        (result,) = (await embedder.Embed(request)).results
        assert (result.truncated, result.token_count) == (True, 256)
        np.testing.assert_array_equal(dense(result), await vector_of(embedder, rest * 254))


@pytest.mark.parametrize("dims", [1, 7, 128, 384])
async def test_embed_with_dims_cuts_and_normalises_again(embedder, dims):
    """The first components point where they pointed and have length one again; all of them are all."""
    whole, cut = await vector_of(embedder, TEXTS[0]), await vector_of(embedder, TEXTS[0], dims=dims)
    assert cut.shape == (dims,)
    np.testing.assert_allclose(cut, whole[:dims] / np.linalg.norm(whole[:dims]), atol=1e-6)


async def test_embed_without_normalising_keeps_the_length(embedder):
    """The same direction, another length, and dims only cut."""
    unit, raw = await vector_of(embedder, TEXTS[0]), await vector_of(embedder, TEXTS[0], normalise=False)
    assert abs(np.linalg.norm(raw) - 1) > 0.01
    np.testing.assert_allclose(raw / np.linalg.norm(raw), unit, atol=1e-6)
    np.testing.assert_array_equal(await vector_of(embedder, TEXTS[0], normalise=False, dims=9), raw[:9])
    np.testing.assert_array_equal(await vector_of(embedder, TEXTS[0], normalise=True), unit)


async def test_embed_as_int8_comes_back_within_half_a_step(embedder):
    """One byte a component, and a scale that turns it back; similarity hardly changes."""
    exact = await vector_of(embedder, TEXTS[0])
    (result,) = (await embedder.Embed(ask(TEXTS[:1], dense_type=vectors_pb2.DENSE_TYPE_INT8))).results
    assert (result.dense.type, result.dense.dim, len(result.dense.data)) == (vectors_pb2.DENSE_TYPE_INT8, 384, 384)
    back = np.frombuffer(result.dense.data, np.int8) * np.float32(result.dense.scale)
    np.testing.assert_allclose(back, exact, atol=0.501 * result.dense.scale)
    assert float(back @ exact) / float(np.linalg.norm(back)) > 0.999


async def test_embed_as_binary_is_the_signs(embedder):
    """One bit a component, the first one highest, the last byte filled with zeros."""
    exact = await vector_of(embedder, TEXTS[0], dims=13)
    (result,) = (await embedder.Embed(ask(TEXTS[:1], dims=13, dense_type=vectors_pb2.DENSE_TYPE_BINARY))).results
    assert (result.dense.dim, len(result.dense.data), result.dense.scale) == (13, 2, 0.0)
    bits = np.unpackbits(np.frombuffer(result.dense.data, np.uint8))
    assert bits.tolist() == [*(exact > 0).astype(int).tolist(), 0, 0, 0]


async def test_embed_as_float32_says_so(embedder):
    """A vector names its type, whether the request did or not."""
    for kind in (vectors_pb2.DENSE_TYPE_UNSPECIFIED, vectors_pb2.DENSE_TYPE_FLOAT32):
        (result,) = (await embedder.Embed(ask(TEXTS[:1], dense_type=kind))).results
        assert result.dense.type == vectors_pb2.DENSE_TYPE_FLOAT32


async def test_embed_with_tokens_gives_a_vector_per_token_whose_mean_is_the_texts(embedder):
    """One row a token as Tokenize counts them; pooled and normalised they are the dense vector."""
    reply = await embedder.Embed(ask(TEXTS[:2], want_tokens=True, dims=5))
    tokenized = await embedder.Tokenize(pb.TokenizeRequest(texts=TEXTS[:2]))
    for text, result, tokens in zip(TEXTS[:2], reply.results, tokenized.results, strict=True):
        rows = result.token_vectors
        assert rows.count == result.token_count == len(tokens.ids)
        mean = np.frombuffer(rows.data, "<f4").reshape(rows.count, rows.dim).mean(axis=0)
        np.testing.assert_allclose(mean / np.linalg.norm(mean), await vector_of(embedder, text), atol=1e-5)
        assert result.dense.dim == 5
    alone = await embedder.Embed(ask(TEXTS[:1], want_dense=False, want_tokens=True))
    assert alone.results[0].token_vectors == reply.results[0].token_vectors
    assert not alone.results[0].HasField("dense")


async def test_tokenize_says_where_each_token_stands(embedder):
    """Offsets are bytes of the text; special tokens are flagged and stand nowhere; nothing is cut."""
    text = "Ein Café — 日本 diving"
    (result,) = (await embedder.Tokenize(pb.TokenizeRequest(texts=[text]))).results
    spans = [text.encode()[s:e].decode() for s, e in zip(result.start_bytes, result.end_bytes, strict=True)]
    assert (result.tokens[0], result.tokens[-1], spans[0], spans[-1]) == ("[CLS]", "[SEP]", "", "")
    assert list(result.special) == [True, *[False] * (len(spans) - 2), True]
    assert "".join(spans) == text.replace(" ", "")
    assert spans[list(result.tokens).index("diving")] == "diving"
    (long,) = (await embedder.Tokenize(pb.TokenizeRequest(texts=["word " * 600]))).results
    assert len(long.ids) == 602


async def test_tokenize_of_a_text_too_long_in_bytes_fails_that_text_alone(embedder):
    """The other text is tokenised, in its place."""
    reply = await embedder.Tokenize(pb.TokenizeRequest(texts=["x" * 4097, "gannet"]))
    assert from_status(reply.results[0].error).reason == "TEXT_TOO_LONG"
    assert reply.results[1].tokens


@pytest.mark.parametrize(
    "request_, field",
    [
        (pb.TokenizeRequest(), "texts"),
        (pb.TokenizeRequest(texts=["x"] * 17), "texts"),
        (pb.TokenizeRequest(texts=["x"], purpose=9), "purpose"),
    ],
)
async def test_tokenize_with_a_wrong_field_is_refused_by_its_name(embedder, refusal, request_, field):
    """As for Embed."""
    error = await refusal(embedder.Tokenize(request_))
    assert (type(error), error.field) == (InvalidInput, field)


async def test_embed_stream_answers_in_order_and_goes_on_after_an_error(embedder):
    """Each message is answered as Embed would; a wrong one is answered with its error, in its place."""
    requests = [ask([text]) for text in TEXTS] + [ask([]), ask([TEXTS[0]], dims=3)]
    replies = [
        reply async for reply in embedder.EmbedStream(pb.EmbedStreamRequest(request=request) for request in requests)
    ]
    assert [reply.WhichOneof("outcome") for reply in replies] == ["response"] * 5 + ["error", "response"]
    for text, reply in zip(TEXTS, replies, strict=False):
        assert reply.response.results[0] == (await embedder.Embed(ask([text]))).results[0]
    assert from_status(replies[5].error).field == "texts"
    assert replies[6].response.results[0].dense.dim == 3


async def test_embed_stream_answers_while_it_stays_open(embedder):
    """A conversation: an answer does not wait for the next message."""
    call = embedder.EmbedStream()
    for text in TEXTS[:3]:
        await call.write(pb.EmbedStreamRequest(request=ask([text])))
        assert (await call.read()).response.results[0].dense.dim == 384
    await call.done_writing()
    assert await call.read() == grpc.aio.EOF


async def test_embed_stream_with_an_undecodable_message_ends_with_its_field(embedder_address, open_channel):
    """Bytes that are no text end the stream after the answers that were due."""
    raw = open_channel(embedder_address).stream_stream("/gannet.embedder.v1.Embedder/EmbedStream")
    good = pb.EmbedStreamRequest(request=ask([TEXTS[0]])).SerializeToString()
    call = raw(iter([good, b"\x0a\x04\x0a\x02\xff\xfe"]))
    assert pb.EmbedStreamResponse.FromString(await call.read()).response.results
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert (caught.value.code(), caught.value.details()) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "request.texts: not valid UTF-8",
    )


@pytest.mark.parametrize("method", ["Embed", "Tokenize", "Info"])
async def test_model_that_is_not_served_is_not_found_and_the_others_are_named(embedder, refusal, method):
    """The error lists what there is."""
    request = {
        "Embed": ask(["x"], model="gtr"),
        "Tokenize": pb.TokenizeRequest(texts=["x"], model="gtr"),
        "Info": pb.InfoRequest(model="gtr"),
    }[method]
    error = await refusal(getattr(embedder, method)(request))
    assert (type(error), error.field) == (NotFound, "model")
    assert "all-minilm-l6-v2" in error.message
