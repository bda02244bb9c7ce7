"""The reranker's contract over a socket."""

import math

import grpc
import pytest

from gannet.reranker.v1 import reranker_pb2 as pb
from gannet.reranker.v1.reranker_pb2_grpc import RerankerStub
from gannet_inference.placement import cpu_instructions, place
from gannet_service.errors import InvalidInput, NotFound

QUERY = "How deep does a gannet dive?"
PASSAGES = [
    "The lighthouse was built in 1903.",
    "A gannet dives as deep as 22 metres below the surface.",
    "",
    "Gannets nest on cliffs.",
    "The lighthouse was built in 1903.",
    "deep " * 700,
]


@pytest.fixture
def reranker(reranker_address, open_channel) -> RerankerStub:
    """A stub of the running reranker."""
    return RerankerStub(open_channel(reranker_address))


async def test_info_of_the_default_model_names_it_and_its_limits(reranker):
    """Info says which model answers, how long its digest is, and what a request may hold."""
    info = await reranker.Info(pb.InfoRequest())
    assert (info.model, info.tokens_max) == ("reranker-minilm-l6-qa", 512)
    assert info.precision in ("int8", "fp32")
    assert (info.batch_passages_max, info.text_bytes_max) == (16, 4096)
    assert info.execution_provider == "CPUExecutionProvider"
    assert len(bytes.fromhex(info.model_digest)) == 32
    assert info.sessions >= 1
    assert (info.threads, info.instructions, info.runtime) == (1, cpu_instructions(), place().runtime)
    assert (list(info.models), info.windows_max) == (["reranker-minilm-l6-qa"], 4)


async def test_rerank_puts_the_passage_that_answers_first(reranker):
    """Every passage comes back once, by falling score, the answer at the top."""
    reply = await reranker.Rerank(pb.RerankRequest(query=QUERY, passages=PASSAGES))
    scores = [result.score for result in reply.results]
    assert reply.results[0].index == 1
    assert sorted(result.index for result in reply.results) == list(range(len(PASSAGES)))
    assert scores == sorted(scores, reverse=True)


async def test_rerank_with_equal_scores_keeps_the_order_of_the_request(reranker):
    """Equal passages score the same, and the one that came first stays first."""
    reply = await reranker.Rerank(pb.RerankRequest(query=QUERY, passages=[PASSAGES[0]] * 5 + [PASSAGES[1]]))
    assert [result.index for result in reply.results] == [5, 0, 1, 2, 3, 4]


async def test_rerank_of_one_passage_equals_it_beside_others_bit_for_bit(reranker):
    """Neighbours in a request change nothing."""
    together = await reranker.Rerank(pb.RerankRequest(query=QUERY, passages=PASSAGES))
    for result in together.results:
        alone = await reranker.Rerank(pb.RerankRequest(query=QUERY, passages=[PASSAGES[result.index]]))
        assert alone.results[0].score == result.score


async def test_rerank_of_a_long_passage_finds_the_answer_in_any_window(reranker):
    """An answer behind the model's limit counts as it would at the front; cut, it is not read and the passage is flagged."""
    filler = "The lighthouse was built in 1903. "
    passages = [filler * 80 + PASSAGES[1] * 20, filler * 90]
    windowed = await reranker.Rerank(pb.RerankRequest(query=QUERY, passages=passages))
    cut = await reranker.Rerank(pb.RerankRequest(query=QUERY, passages=passages, windows_max=1))
    assert all(one.windows > 1 and not one.truncated for one in windowed.results)
    assert [(one.windows, one.truncated) for one in cut.results] == [(1, True)] * 2
    by_index = {result.index: result.score for result in windowed.results}
    assert by_index[0] > by_index[1] + 1
    assert windowed.results[0].index == 0
    assert {result.score for result in cut.results} == {cut.results[0].score}


async def test_rerank_flags_a_passage_that_goes_on_behind_its_last_window(reranker):
    """Four windows of 512 tokens do not hold 4,000 one-letter words; a short passage is never flagged."""
    reply = await reranker.Rerank(pb.RerankRequest(query=QUERY, passages=["a " * 2000, PASSAGES[0]]))
    flags = {result.index: (result.windows, result.truncated) for result in reply.results}
    assert flags == {0: (4, True), 1: (1, False)}


async def test_rerank_behind_a_query_of_half_the_input_cuts_the_passage(reranker):
    """Such a query leaves no room for windows: there is one, and it is flagged."""
    reply = await reranker.Rerank(pb.RerankRequest(query="deep " * 400, passages=[PASSAGES[5]]))
    assert [(result.windows, result.truncated) for result in reply.results] == [(1, True)]


async def test_model_that_is_not_served_is_not_found_and_the_others_are_named(reranker, refusal):
    """The error lists what there is."""
    for call in (
        reranker.Rerank(pb.RerankRequest(query=QUERY, passages=PASSAGES, model="gtr")),
        reranker.Info(pb.InfoRequest(model="gtr")),
    ):
        error = await refusal(call)
        assert (type(error), error.field) == (NotFound, "model")
        assert "reranker-minilm-l6-qa" in error.message


@pytest.mark.parametrize("top_n, count", [(0, 6), (1, 1), (2, 2), (6, 6), (4_000_000_000, 6)])
async def test_rerank_with_top_n_returns_the_best_of_all(reranker, top_n, count):
    """top_n cuts the ranking, and 0 or more than there are means all."""
    everything = await reranker.Rerank(pb.RerankRequest(query=QUERY, passages=PASSAGES))
    reply = await reranker.Rerank(pb.RerankRequest(query=QUERY, passages=PASSAGES, top_n=top_n))
    assert list(reply.results) == list(everything.results)[:count]


async def test_rerank_with_sigmoid_maps_the_logits(reranker):
    """The order is the same, and each score is the logit's sigmoid."""
    logits = await reranker.Rerank(pb.RerankRequest(query=QUERY, passages=PASSAGES))
    mapped = await reranker.Rerank(pb.RerankRequest(query=QUERY, passages=PASSAGES, sigmoid=True))
    for raw, result in zip(logits.results, mapped.results, strict=True):
        assert result.index == raw.index
        assert result.score == pytest.approx(1 / (1 + math.exp(-raw.score)), abs=1e-6)


async def test_rerank_reports_where_the_time_went(reranker):
    """Tokenising, waiting and the model are measured, and each is part of the whole."""
    timings = (await reranker.Rerank(pb.RerankRequest(query=QUERY, passages=PASSAGES[:1]))).timings
    assert timings.tokenize_us > 0
    assert timings.inference_us > 0
    assert timings.total_us >= timings.tokenize_us + timings.inference_us


@pytest.mark.parametrize(
    "request_, field",
    [
        (pb.RerankRequest(passages=["x"]), "query"),
        (pb.RerankRequest(query=" \n", passages=["x"]), "query"),
        (pb.RerankRequest(query="é" * 2049, passages=["x"]), "query"),
        (pb.RerankRequest(query="x" * 10_000_000, passages=["x"]), "query"),
        (pb.RerankRequest(query="x"), "passages"),
        (pb.RerankRequest(query="x", passages=["x"] * 17), "passages"),
        (pb.RerankRequest(query="x", passages=["x", "x", "x" * 4097]), "passages[2]"),
        (pb.RerankRequest(query="x", passages=["x"], windows_max=5), "windows_max"),
    ],
)
async def test_rerank_with_a_wrong_field_is_refused_by_its_name(reranker, refusal, request_, field):
    """Every fault is INVALID_ARGUMENT with the field in the details, and the server goes on."""
    error = await refusal(reranker.Rerank(request_))
    assert (type(error), error.field) == (InvalidInput, field)


async def test_rerank_of_invalid_utf8_is_refused_by_the_fields_name(reranker_address, open_channel, refusal):
    """Bytes that are no text are the caller's fault, and the field is named."""
    raw = open_channel(reranker_address).unary_unary("/gannet.reranker.v1.Reranker/Rerank")
    error = await refusal(raw(b"\x0a\x01x\x12\x02\xff\xfe"))
    assert (type(error), error.field) == (InvalidInput, "passages")


async def test_rerank_past_its_deadline_is_deadline_exceeded(reranker):
    """A deadline that cannot be met ends the call with its own status."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await reranker.Rerank(pb.RerankRequest(query=QUERY, passages=["word " * 500] * 16), timeout=0.02)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
