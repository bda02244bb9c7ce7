import asyncio
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.gateway.fakes import candidate, collection_record

from gannet.gateway.v1.search_pb2 import SearchOptions
from gannet_gateway.clients import QueryVectors
from gannet_gateway.config import GatewayConfig
from gannet_gateway.search import wire
from gannet_gateway.search.query import Degradation, Feedback, Mode, Options, Passage, Query, Rerank
from gannet_gateway.search.search import Searcher, _share_s
from gannet_gateway.vectors.lists import Found, Fusion
from gannet_gateway.vectors.retriever import Wanted
from gannet_gateway.vectors.visible import Snapshot
from gannet_lexical.sparse import term_id
from gannet_service import call, errors
from gannet_service.call import Call, Principal
from gannet_service.errors import InvalidInput

CONFIG = GatewayConfig()
RECORD = collection_record()
DENSE = np.array([0.1, 0.2], np.float32)


# ---- limits -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query, problem",
    [
        ("", "query: empty"),
        (" \n\t", "query: empty"),
        ("é" * 4097, "query: 8194 bytes; the limit is 8192"),
        ("x" * 10_000_000, "query: 10000000 bytes; the limit is 8192"),
    ],
)
def test_check_query_out_of_limits_is_refused(query: str, problem: str):
    """The field and the limit are named; the limit counts bytes."""
    with pytest.raises(InvalidInput) as caught:
        wire.check_query(query, 8192)
    assert (caught.value.message, caught.value.field) == (problem, "query")


def test_check_query_at_the_limit_passes():
    """The limit itself is allowed."""
    assert wire.check_query("é" * 4096, 8192) == "é" * 4096


@pytest.mark.parametrize(
    "options, field, limits",
    [
        ({"top_k": 0}, "options.top_k", "the limits are 1 to 1000"),
        ({"top_k": 10**9}, "options.top_k", "1000000000; the limits are 1 to 1000"),
        ({"mode": 9}, "options.mode", "9 is not a SearchMode"),
        ({"fusion": {"k": 0}}, "options.fusion.k", "the limits are 1 to 1000"),
        ({"fusion": {"k": 1001}}, "options.fusion.k", "the limits are 1 to 1000"),
        ({"fusion": {"dense_weight": 0}}, "options.fusion.dense_weight", "greater than 0 and at most 100"),
        ({"fusion": {"sparse_weight": float("nan")}}, "options.fusion.sparse_weight", "greater than 0 and at most 100"),
        ({"fusion": {"sparse_weight": 100.5}}, "options.fusion.sparse_weight", "greater than 0 and at most 100"),
        ({"rerank": {"depth": 0}}, "options.rerank.depth", "the limits are 1 to 200"),
        ({"rerank": {"depth": 201}}, "options.rerank.depth", "the limits are 1 to 200"),
        ({"rerank": {"weight": -1}}, "options.rerank.weight", "greater than 0 and at most 100"),
        ({"rerank": {"weight": float("inf")}}, "options.rerank.weight", "greater than 0 and at most 100"),
        ({"fusion": {"method": 7}}, "options.fusion.method", "7 is not a FusionMethod"),
        ({"filter": "x" * 2049}, "options.filter", "2049 bytes; the limit is 2048"),
        ({"filter": "nonsense"}, "options.filter", "at character 1, 'nonsense': expected"),
        ({"dense_score_min": 1.5}, "options.dense_score_min", "the limits are -1 to 1"),
        ({"dense_score_min": float("nan")}, "options.dense_score_min", "the limits are -1 to 1"),
        ({"max_per_document": 0}, "options.max_per_document", "the limits are 1 to 100"),
        ({"diversity": {"balance": -0.5}}, "options.diversity.balance", "the limits are 0 to 1"),
        ({"neighbours": 6}, "options.neighbours", "the limits are 0 to 5"),
        ({"feedback": {"passages": 11}}, "options.feedback.passages", "the limits are 1 to 10"),
        ({"feedback": {"weight": 0}}, "options.feedback.weight", "greater than 0 and at most 10"),
    ],
)
def test_to_options_out_of_limits_is_refused(options: dict[str, Any], field: str, limits: str):
    """Every option names itself and its limits."""
    with pytest.raises(InvalidInput) as caught:
        wire.to_options(SearchOptions(**options), prefix="options", top_k_max=1000, filter_bytes_max=2048)
    assert caught.value.field == field
    assert caught.value.message.startswith(f"{field}: ")
    assert limits in caught.value.message


def test_to_options_of_nothing_says_nothing():
    """What is absent stays absent, so that the collection's defaults apply."""
    assert wire.to_options(SearchOptions(), prefix="options", top_k_max=1000, filter_bytes_max=2048) == Options()


def test_query_of_nothing_takes_the_defaults():
    """Of the collection for reranking, of the server for the rest."""
    query = Query.of("q", Options(), RECORD, CONFIG, top_k_default=10)
    assert (query.top_k, query.mode) == (10, Mode.HYBRID)
    assert query.fusion == Fusion(k=CONFIG.rrf_k, dense_weight=CONFIG.dense_weight, sparse_weight=CONFIG.sparse_weight)
    assert query.rerank == Rerank(depth=CONFIG.rerank_depth, weight=CONFIG.rerank_weight)
    assert Query.of("q", Options(), collection_record(rerank=False), CONFIG, top_k_default=10).rerank is None


@given(st.integers(1, 1000), st.none() | st.booleans(), st.none() | st.integers(1, 200))
def test_query_rerank_depth_covers_top_k(top_k: int, rerank: bool | None, depth: int | None):  # noqa: FBT001 - drawn
    """Either the reranker reads at least what is returned, or it is off, or the combination is refused by name."""
    options = Options(top_k=top_k, rerank=rerank, rerank_depth=depth)
    try:
        query = Query.of("q", options, RECORD, CONFIG, top_k_default=10)
    except InvalidInput as error:
        assert error.field in ("options.top_k", "options.rerank.depth")  # noqa: PT017 - either outcome is right
        assert top_k > 200 or depth < top_k
        return
    if query.rerank is None:
        assert rerank is False or top_k > 200
    else:
        assert top_k <= query.rerank.depth <= 200


# ---- searching ----------------------------------------------------------------------------------------------------


class Embedder:
    """Gives the dense vector, or raises; asked for nothing else."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.asked = 0

    async def query(self, _text: str, *, language: str, dense: bool, sparse: bool) -> QueryVectors:
        """The words are the gateway's own work."""
        assert (language, dense, sparse) == ("en", True, False)
        self.asked += 1
        if self.error is not None:
            raise self.error
        return QueryVectors(dense=DENSE, sparse=None)


class Reranker:
    """Scores by the given logits, or raises."""

    def __init__(self, logits: Any) -> None:
        self.logits = logits
        self.timeout_s = 0.0

    async def scores(self, _query: str, passages: list[str], *, timeout_s: float) -> Any:
        """The first of the logits, one a passage."""
        self.timeout_s = timeout_s
        if isinstance(self.logits, Exception):
            raise self.logits
        return np.array(self.logits[: len(passages)], np.float32)


class FakeRetriever:
    """Finds candidates with falling scores, or those given."""

    def __init__(self, count: int, found: list[Found] | None = None) -> None:
        candidates = [candidate(place, score=1 / (place + 1)) for place in range(count)]
        self.found = found or [Found(candidate=one) for one in candidates]
        self.asked: list[Wanted] = []
        self.snapshots: list[Snapshot] = []

    async def search(self, snapshot: Snapshot, wanted: Wanted) -> list[Found]:
        """As many as were asked for."""
        self.asked.append(wanted)
        self.snapshots.append(snapshot)
        return self.found[: wanted.limit]


async def search(
    reranker: Any, options: Options, count: int = 30, embedder: Any = None, text: str = "q"
) -> tuple[Any, FakeRetriever]:
    """One search and the retriever that it asked."""
    found = FakeRetriever(count)
    query = Query.of(text, options, RECORD, CONFIG, top_k_default=10)
    return await Searcher(embedder or Embedder(), found, reranker, CONFIG).search(RECORD, query), found


async def test_search_sees_what_its_caller_reads():
    """Every request to the vector store, that of the feedback too."""
    identities = ("group:eng", "user:ann")
    principal = Principal(tenant="acme", credential="k", identities=identities)
    call.set_current(Call(method="test", request_id="r", deadline=None, principal=principal))
    _, found = await search(Reranker([]), Options(rerank=False, feedback=Feedback()))
    assert [snapshot.identities for snapshot in found.snapshots] == [identities, identities]


async def test_search_reranked_orders_by_both_stages():
    """The cross-encoder turns the order round where it is sure; logits are reported."""
    result, found = await search(Reranker([0, 0, 50]), Options(top_k=2, rerank=True, rerank_depth=3))
    assert [passage.candidate.ordinal for passage in result.passages] == [0, 2]
    assert [passage.rerank for passage in result.passages] == [0, 50]
    assert found.asked[-1].limit == 3
    finals = [passage.final for passage in result.passages]
    assert finals == sorted(finals, reverse=True)


async def test_search_reranked_with_equal_scores_keeps_the_order():
    """A cross-encoder that cannot tell the passages apart has no say."""
    result, _ = await search(Reranker([7.0] * 20), Options(top_k=20))
    assert [passage.candidate.ordinal for passage in result.passages] == list(range(20))


@pytest.mark.parametrize(
    "error, reason",
    [
        (errors.DependencyUnavailable("down"), "UNAVAILABLE"),
        (errors.Overloaded("full"), "RESOURCE_EXHAUSTED"),
        (errors.DeadlineTooShort("slow"), "DEADLINE"),
        (errors.InvalidInput("long"), "INVALID_INPUT"),
        (errors.InternalError("bug"), "INTERNAL"),
    ],
)
async def test_search_without_its_reranker_is_degraded(error: Exception, reason: str):
    """The first stage's order stands, and the reply says what was skipped and why."""
    result, _ = await search(Reranker(error), Options(top_k=3))
    assert result.degraded == (Degradation(stage="rerank", reason=reason),)
    assert [passage.candidate.ordinal for passage in result.passages] == [0, 1, 2]
    assert [passage.rerank for passage in result.passages] == [None] * 3


async def test_search_past_its_deadline_is_no_degradation():
    """A caller who has gone gets no result that pretends to be one."""
    call.set_current(call.Call(method="m", request_id="r", deadline=time.monotonic() - 1))
    with pytest.raises(errors.DeadlineTooShort):
        await search(Reranker(errors.DeadlineTooShort("slow")), Options(top_k=3))


async def test_search_leaves_the_reranker_its_share_of_the_time():
    """Half of what is left, so that a slow reranker costs a degradation and not the answer."""
    reranker = Reranker([0.0] * 20)
    call.set_current(call.Call(method="m", request_id="r", deadline=time.monotonic() + 4))
    await search(reranker, Options(top_k=3))
    assert 0 < reranker.timeout_s <= 4 * CONFIG.rerank_budget


async def test_search_in_sparse_mode_asks_no_embedder():
    """Words need no model."""
    embedder = Embedder()
    result, found = await search(Reranker([0.0] * 20), Options(mode=Mode.SPARSE), embedder=embedder)
    assert (embedder.asked, result.mode, result.degraded) == (0, Mode.SPARSE, ())
    assert found.asked[-1].sparse.indices.tolist() == [term_id("q")]


@pytest.mark.parametrize(
    "error, reason",
    [
        (errors.DependencyUnavailable("down"), "UNAVAILABLE"),
        (errors.Overloaded("full"), "RESOURCE_EXHAUSTED"),
        (errors.DeadlineTooShort("slow"), "DEADLINE"),
        (errors.InternalError("bug"), "INTERNAL"),
    ],
)
async def test_search_without_its_embedder_goes_on_by_words(error: Exception, reason: str):
    """Hybrid becomes BM25, named as such; reranking still happens."""
    result, found = await search(Reranker([0.0] * 20), Options(top_k=3), embedder=Embedder(error))
    assert result.degraded == (Degradation(stage="embed", reason=reason),)
    assert (found.asked[-1].dense, result.mode, len(result.passages)) == (None, Mode.SPARSE, 3)
    assert all(passage.rerank is not None for passage in result.passages)


@pytest.mark.parametrize("options, text", [(Options(mode=Mode.DENSE), "q"), (Options(), "the of")])
async def test_search_that_only_the_embedder_could_serve_fails_with_it(options: Options, text: str):
    """An empty list would pretend that nothing matches."""
    with pytest.raises(errors.DependencyUnavailable, match="down"):
        await search(Reranker([]), options, embedder=Embedder(errors.DependencyUnavailable("down")), text=text)


async def test_search_past_its_deadline_in_the_embedder_is_no_degradation():
    """As with the reranker: there is nobody left to tell."""
    call.set_current(call.Call(method="m", request_id="r", deadline=time.monotonic() + 0.01))

    class Slow(Embedder):
        async def query(self, *_arguments: Any, **_options: Any) -> Any:
            time.sleep(0.02)  # noqa: ASYNC251 - the deadline passes while nothing else runs
            raise errors.DependencyUnavailable("slow")

    with pytest.raises(errors.DeadlineTooShort):
        await search(Reranker([]), Options(), embedder=Slow())


async def test_search_hung_stages_get_their_share_of_the_deadline_and_no_more():
    """An embedder that hangs costs a degradation, a vector store that hangs is UNAVAILABLE before the caller gives up."""

    class Hung:
        async def hang(self, *_arguments: Any, **_options: Any) -> Any:
            await asyncio.Event().wait()

        query = search = hang

    config = GatewayConfig(embed_timeout_s=0.01, search_timeout_s=0.01)
    query = Query.of("q", Options(rerank=False), RECORD, config, top_k_default=10)
    result = await Searcher(Hung(), FakeRetriever(3), Reranker([]), config).search(RECORD, query)
    assert result.degraded == (Degradation(stage="embed", reason="DEADLINE"),)
    with pytest.raises(errors.DependencyUnavailable, match=r"vector store: no answer within 0\.01 s") as caught:
        await Searcher(Embedder(), Hung(), Reranker([]), config).search(RECORD, query)
    assert caught.value.reason == "STAGE_TIMEOUT"


async def test_search_longer_than_its_passages_are_kept_is_refused():
    """Rather than answered from what the collector may have begun to delete."""

    class Hung:
        async def search(self, *_arguments: Any) -> Any:
            await asyncio.Event().wait()

    config = GatewayConfig(collect_delay_s=0.01)
    query = Query.of("q", Options(rerank=False), RECORD, config, top_k_default=10)
    with pytest.raises(errors.DeadlineTooShort, match=r"longer than collect_delay_s = 0\.01 s") as caught:
        await Searcher(Embedder(), Hung(), Reranker([]), config).search(RECORD, query)
    assert caught.value.reason == "SNAPSHOT_EXPIRED"


@pytest.mark.parametrize("left_s, limit_s, share, expected", [(10, 60, 0.4, 4), (10, 1, 0.4, 1), (None, 5, 0.4, 5)])
def test_share_of_a_stage(left_s: float | None, limit_s: float, share: float, expected: float):
    """A share of what is left of the caller's deadline, bounded by the stage's own limit."""
    deadline = None if left_s is None else time.monotonic() + left_s
    call.set_current(call.Call(method="m", request_id="r", deadline=deadline))
    assert _share_s(limit_s, share) == pytest.approx(expected, rel=0.01)


async def test_search_without_rerank_or_results_asks_no_reranker():
    """Switched off, or nothing to read."""
    for options, count in ((Options(rerank=False), 5), (Options(), 0)):
        result, _ = await search(Reranker(AssertionError("asked")), options, count)
        assert result.degraded == ()
        assert len(result.passages) == count


@pytest.mark.parametrize("mode, dense, sparse", [(Mode.DENSE, 1, 0), (Mode.SPARSE, 0, 1), (Mode.HYBRID, 1, 1)])
async def test_search_in_a_mode_asks_for_its_vectors(mode: Mode, dense: int, sparse: int):
    """Nothing is computed that is not used."""
    _, found = await search(Reranker([0.0] * 20), Options(mode=mode))
    assert [found.asked[-1].dense is not None, found.asked[-1].sparse is not None] == [bool(dense), bool(sparse)]


@pytest.mark.parametrize("mode, field", [(Mode.DENSE, "dense"), (Mode.SPARSE, "sparse"), (Mode.HYBRID, "fused")])
def test_from_passage_names_the_score_of_its_mode(mode: Mode, field: str):
    """One first-stage score, the final one, and the logit if there is one."""
    message = wire.from_passage(Passage(candidate=candidate(4, text="čb", start_byte=7, score=0.5), final=0.75), mode)
    assert {scores.name: value for scores, value in message.scores.ListFields()} == {"final": 0.75, field: 0.5}
    assert message.name == "tenants/acme/collections/docs/documents/a.md/chunks/4"
    assert (message.start_byte, message.end_byte, message.text) == (7, 10, "čb")
