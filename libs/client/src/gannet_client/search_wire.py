"""Searches between protobuf messages and our types."""

from typing import cast

from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct

from gannet.gateway.v1 import search_pb2
from gannet_client import search_types as types
from gannet_client.errors import GannetError, ServerError, from_status

_MODES = {
    types.SearchMode.DENSE: search_pb2.SEARCH_MODE_DENSE,
    types.SearchMode.SPARSE: search_pb2.SEARCH_MODE_SPARSE,
    types.SearchMode.HYBRID: search_pb2.SEARCH_MODE_HYBRID,
}
_METHODS = {
    types.FusionMethod.RRF: search_pb2.FUSION_METHOD_RRF,
    types.FusionMethod.RELATIVE_SCORE: search_pb2.FUSION_METHOD_RELATIVE_SCORE,
}
_TIERS: dict[int, types.CacheTier] = {
    search_pb2.CACHE_TIER_MISS: types.CacheTier.MISS,
    search_pb2.CACHE_TIER_LOCAL: types.CacheTier.LOCAL,
    search_pb2.CACHE_TIER_SHARED: types.CacheTier.SHARED,
}


def search_options(options: types.SearchOptions) -> search_pb2.SearchOptions:
    """The message for `options`; None stays absent."""
    message = search_pb2.SearchOptions(
        top_k=options.top_k,
        filter=options.filter,
        dense_score_min=options.dense_score_min,
        max_per_document=options.max_per_document,
        exact=options.exact,
        neighbours=options.neighbours,
        explain=options.explain,
        language=options.language,
    )
    if options.mode is not None:
        message.mode = _MODES[options.mode]
    fusion = {"k": options.rrf_k, "dense_weight": options.dense_weight, "sparse_weight": options.sparse_weight}
    if any(value is not None for value in fusion.values()):
        message.fusion.CopyFrom(
            search_pb2.FusionOptions(
                k=options.rrf_k, dense_weight=options.dense_weight, sparse_weight=options.sparse_weight
            )
        )
    if any(value is not None for value in (options.rerank, options.rerank_depth, options.rerank_weight)):
        message.rerank.CopyFrom(
            search_pb2.RerankOptions(enabled=options.rerank, depth=options.rerank_depth, weight=options.rerank_weight)
        )
    if options.fusion is not None:
        message.fusion.method = _METHODS[options.fusion]
    if options.diversity is not None:
        message.diversity.balance = options.diversity
    if options.feedback_passages is not None:
        feedback = search_pb2.FeedbackOptions(passages=options.feedback_passages, weight=options.feedback_weight)
        message.feedback.CopyFrom(feedback)
    if options.multi_query is not None:
        message.multi_query.CopyFrom(
            search_pb2.MultiQueryOptions(
                queries=options.multi_query,
                weight=options.multi_query_weight,
                generator=options.multi_query_generator,
            )
        )
    return message


def search_result(message: search_pb2.SearchResponse) -> types.SearchResult:
    """What a search found."""
    timings = message.timings
    return types.SearchResult(
        passages=tuple(passage(item) for item in message.passages),
        generation=message.generation,
        degraded=tuple(types.Degradation(stage=item.stage, reason=item.reason) for item in message.degraded),
        timings=types.SearchTimings(
            embed_us=timings.embed_us,
            search_us=timings.search_us,
            rerank_us=timings.rerank_us,
            total_us=timings.total_us,
            expand_us=timings.expand_us,
        ),
        next_page_token=message.next_page_token,
        cache_hits=types.CacheHits(
            result=_TIERS.get(message.cache_hits.result, types.CacheTier.UNASKED),
            embedding=_TIERS.get(message.cache_hits.embedding, types.CacheTier.UNASKED),
        ),
    )


def passage(message: search_pb2.Passage) -> types.Passage:
    """One passage."""
    scores = message.scores
    return types.Passage(
        name=message.name,
        document=message.document,
        revision=message.revision,
        text=message.text,
        start_byte=message.start_byte,
        end_byte=message.end_byte,
        title=message.title,
        metadata=metadata(message.metadata),
        scores=types.Scores(
            final=scores.final,
            dense=scores.dense if scores.HasField("dense") else None,
            sparse=scores.sparse if scores.HasField("sparse") else None,
            fused=scores.fused if scores.HasField("fused") else None,
            rerank=scores.rerank if scores.HasField("rerank") else None,
            dense_rank=scores.dense_rank if scores.HasField("dense_rank") else None,
            sparse_rank=scores.sparse_rank if scores.HasField("sparse_rank") else None,
        ),
        neighbours=tuple(passage(item) for item in message.neighbours),
    )


def batch_results(message: search_pb2.BatchSearchResponse, count: int) -> list[types.SearchResult | GannetError]:
    """What became of each of `count` queries."""
    if len(message.results) != count:
        raise ServerError(f"{len(message.results)} results for {count} queries")
    return [from_status(one.error) if one.HasField("error") else search_result(one.response) for one in message.results]


def metadata(message: Struct) -> dict[str, object]:
    """A document's metadata."""
    return cast("dict[str, object]", MessageToDict(message))
