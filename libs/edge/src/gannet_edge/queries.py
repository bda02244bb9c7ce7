"""Qdrant's universal query as an Edge query: nearest neighbours, and reciprocal rank fusion of prefetches."""

import math
from collections.abc import Callable
from typing import NamedTuple, cast

from qdrant_client import grpc
from qdrant_edge import (
    Filter,
    Fusion,
    IdfParams,
    Prefetch,
    QuantizationSearchParams,
    Query,
    QueryRequest,
    SearchParams,
)

from gannet_edge import validate
from gannet_edge.filters import to_filter
from gannet_edge.points import dense_vector, payload_selector, sparse_vector, vectors_selector
from gannet_edge.schema import CollectionSchema
from gannet_edge.validate import Limits
from gannet_service.errors import InvalidInput, Unimplemented

LIMIT_DEFAULT = 10
# Qdrant's default: the score of the result at 0-based position p is 1 / (p + 2).
RRF_K_DEFAULT = 2
RRF_K_MAX = 1_000_000
OVERSAMPLING = 2.0

Common = grpc.QueryPoints | grpc.PrefetchQuery
# Takes out of a filter what need not be checked; None where nothing is left.
Needed = Callable[[grpc.Filter], grpc.Filter | None]


class Against(NamedTuple):
    """What a query is read against: the collection's vectors, the bounds, and what its filters can do without."""

    schema: CollectionSchema
    limits: Limits
    needed: Needed


def to_query(message: grpc.QueryPoints, against: Against) -> QueryRequest:
    """Convert `message`.

    Raises:
        InvalidInput: names the field and the limit.
        Unimplemented: a kind of query that the embedded Qdrant does not serve.
    """
    if message.HasField("lookup_from"):
        raise Unimplemented("lookup_from: the embedded Qdrant searches by vector only")
    schema, limits = against.schema, against.limits
    validate.size("prefetch", len(message.prefetch), limits.prefetches)
    limit = _limit(message, limits, "limit")
    validate.size("offset", limit + message.offset, limits.results)
    prefetches = [_prefetch(prefetch, against, f"prefetch[{at}]") for at, prefetch in enumerate(message.prefetch)]
    return QueryRequest(
        limit=limit,
        offset=message.offset,
        query=_fusion(message.query, len(prefetches)) if prefetches else _nearest(message, schema, limits, "query"),
        prefetches=prefetches,
        with_vector=vectors_selector(message.with_vectors, schema),
        with_payload=payload_selector(message.with_payload),
        filter=_filter(message, against, "filter"),
        score_threshold=_threshold(message, "score_threshold"),
        params=None if prefetches else _params(message, against, "params"),
    )


def _prefetch(message: grpc.PrefetchQuery, against: Against, field: str) -> Prefetch:
    if message.prefetch or message.HasField("lookup_from"):
        raise Unimplemented(f"{field}: the embedded Qdrant has no nested prefetch and no lookup_from")
    return Prefetch(
        limit=_limit(message, against.limits, f"{field}.limit"),
        query=_nearest(message, against.schema, against.limits, f"{field}.query"),
        params=_params(message, against, f"{field}.params"),
        filter=_filter(message, against, f"{field}.filter"),
        score_threshold=_threshold(message, f"{field}.score_threshold"),
    )


def _nearest(message: Common, schema: CollectionSchema, limits: Limits, field: str) -> Query:
    kind = message.query.WhichOneof("variant")
    if kind != "nearest":
        raise Unimplemented(f"{field}: the embedded Qdrant needs a `nearest` query here, not {kind!r}")
    name, vector = message.using, message.query.nearest
    match vector.WhichOneof("variant"):
        case "dense":
            return Query.Nearest(dense_vector(vector.dense.data, name, schema, field), using=name)
        case "sparse":
            return Query.Nearest(sparse_vector(vector.sparse, name, schema, limits, field), using=name)
        case other:
            raise Unimplemented(f"{field}: the embedded Qdrant searches by dense or sparse vector, not by {other!r}")


def _fusion(message: grpc.Query, prefetches: int) -> Fusion:
    match message.WhichOneof("variant"):
        case "rrf":
            k = message.rrf.k if message.rrf.HasField("k") else RRF_K_DEFAULT
            weights = list(message.rrf.weights)
        case "fusion" if message.fusion == grpc.Fusion.RRF:
            k, weights = RRF_K_DEFAULT, []
        case _:
            raise Unimplemented("query: the embedded Qdrant fuses prefetches by reciprocal rank only")
    validate.size("query.rrf.k", k, RRF_K_MAX, least=1)
    if weights and len(weights) != prefetches:
        raise InvalidInput(f"query.rrf.weights: {len(weights)} for {prefetches} prefetches", field="query.rrf.weights")
    if not all(math.isfinite(weight) and weight >= 0 for weight in weights):
        raise InvalidInput("query.rrf.weights: must be finite and not negative", field="query.rrf.weights")
    # The stubs give Rrf no common type with Fusion; at run time it is a variant of it.
    return cast("Fusion", Fusion.Rrf(k=k, weights=weights or None))


def _limit(message: Common, limits: Limits, field: str) -> int:
    limit = message.limit if message.HasField("limit") else LIMIT_DEFAULT
    return validate.size(field, limit, limits.results, least=1)


def _filter(message: Common, against: Against, field: str) -> Filter | None:
    return _needed(message.filter, against, field) if message.HasField("filter") else None


def _needed(message: grpc.Filter, against: Against, field: str) -> Filter | None:
    validate.size(field, len(message.must), against.limits.conditions)
    needed = against.needed(message)
    return None if needed is None else to_filter(needed, against.limits, field)


def _threshold(message: Common, field: str) -> float | None:
    if not message.HasField("score_threshold"):
        return None
    if math.isnan(message.score_threshold):
        raise InvalidInput(f"{field}: must be a number", field=field)
    return message.score_threshold


def _params(message: Common, against: Against, field: str) -> SearchParams | None:
    """For BM25 the IDF corpus; for dense vectors how far the quantised copies are trusted."""
    idf = quantization = None
    if message.params.HasField("idf"):
        given = message.params.idf
        corpus = _needed(given.corpus, against, f"{field}.idf.corpus") if given.HasField("corpus") else None
        idf = IdfParams(corpus=corpus)
    if message.using in against.schema.dense:
        # The scan of the int8 copies finds twice what is wanted, which the vectors themselves put in order.
        exact = message.params.exact or message.params.quantization.ignore
        quantization = QuantizationSearchParams(ignore=exact, rescore=True, oversampling=OVERSAMPLING)
    return SearchParams(idf=idf, quantization=quantization) if idf or quantization else None
