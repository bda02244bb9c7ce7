"""Protobuf to and from what the embedder works with; every limit of a request is checked here."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from gannet.common.v1 import vectors_pb2
from gannet.common.v1.vectors_pb2 import SparseVector
from gannet.embedder.v1 import embedder_pb2 as pb
from gannet_embedder.dense import DenseType, DenseVector
from gannet_embedder.embedding import Embedded, TextBatch, TextEmbedder, TextVectors
from gannet_inference.lanes import Lane
from gannet_inference.manifest import Purpose
from gannet_inference.placement import Placement
from gannet_inference.tokens import Side, TextPieces
from gannet_service.errors import GannetError, InvalidInput, to_status

_PURPOSES: dict[int, Purpose] = {pb.PURPOSE_QUERY: "query", pb.PURPOSE_PASSAGE: "passage"}
_LANES: dict[int, Lane] = {
    pb.PRIORITY_UNSPECIFIED: Lane.INTERACTIVE,
    pb.PRIORITY_INTERACTIVE: Lane.INTERACTIVE,
    pb.PRIORITY_BULK: Lane.BULK,
}
_SIDES: dict[int, Side] = {
    pb.TRUNCATION_SIDE_UNSPECIFIED: "end",
    pb.TRUNCATION_SIDE_END: "end",
    pb.TRUNCATION_SIDE_START: "start",
}
_DENSE_TYPES: dict[int, DenseType] = {
    vectors_pb2.DENSE_TYPE_UNSPECIFIED: "float32",
    vectors_pb2.DENSE_TYPE_FLOAT32: "float32",
    vectors_pb2.DENSE_TYPE_INT8: "int8",
    vectors_pb2.DENSE_TYPE_BINARY: "binary",
}
_DENSE_NAMES = {
    "float32": vectors_pb2.DENSE_TYPE_FLOAT32,
    "int8": vectors_pb2.DENSE_TYPE_INT8,
    "binary": vectors_pb2.DENSE_TYPE_BINARY,
}

D = TypeVar("D")
N = TypeVar("N")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a request may hold, and what the server puts where it says nothing."""

    batch_texts_max: int
    text_bytes_max: int
    token_texts_max: int
    stream_requests_max: int
    languages: Collection[str]
    average_length: float


def lane(request: pb.EmbedRequest) -> Lane:
    """Which queue the texts wait in; interactive where the request does not say one that there is."""
    return _LANES.get(request.priority, Lane.INTERACTIVE)


def to_batch(
    request: pb.EmbedRequest, limits: Limits, *, dim: int, deadline_s: float | None
) -> tuple[TextBatch, dict[int, GannetError]]:
    """The batch to embed, without the texts that are refused alone; those, by their place in the request.

    Args:
        request: what came.
        limits: what it may hold.
        dim: the model's dimensions.
        deadline_s: the instant at which the caller stops waiting, if any.

    Raises:
        InvalidInput: the request as a whole is wrong.
    """
    _check_count(request.texts, limits.token_texts_max if request.want_tokens else limits.batch_texts_max)
    if not (request.want_dense or request.want_sparse or request.want_tokens):
        raise InvalidInput("want_dense: ask for dense vectors, sparse vectors or token vectors", field="want_dense")
    language = request.sparse.language or "en"
    if language not in limits.languages:
        known = ", ".join(sorted(limits.languages))
        raise InvalidInput(f"sparse.language: {language[:20]!r} is not one of {known}", field="sparse.language")
    average_length = request.sparse.average_length
    if not math.isfinite(average_length) or average_length < 0:
        raise InvalidInput("sparse.average_length: must be a finite number > 0, or 0", field="sparse.average_length")
    if request.dims > dim:
        raise InvalidInput(f"dims: {request.dims}, must be 1 to {dim}, or 0 for all", field="dims")
    refused = _too_long(request.texts, limits.text_bytes_max)
    batch = TextBatch(
        texts=[text for place, text in enumerate(request.texts) if place not in refused],
        purpose=_named(_PURPOSES, request.purpose, "purpose", "PURPOSE_QUERY or PURPOSE_PASSAGE"),
        lane=_named(_LANES, request.priority, "priority", "PRIORITY_INTERACTIVE or PRIORITY_BULK"),
        want_dense=request.want_dense,
        want_sparse=request.want_sparse,
        want_tokens=request.want_tokens,
        language=language,
        average_length=average_length or limits.average_length,
        side=_named(_SIDES, request.truncation_side, "truncation_side", "TRUNCATION_SIDE_END or TRUNCATION_SIDE_START"),
        dims=request.dims or None,
        dense_type=_named(_DENSE_TYPES, request.dense_type, "dense_type", "one of DenseType"),
        normalise=request.normalise if request.HasField("normalise") else None,
        deadline_s=deadline_s,
    )
    return batch, refused


def to_tokenize(
    request: pb.TokenizeRequest, limits: Limits
) -> tuple[Sequence[str], Purpose | None, dict[int, GannetError]]:
    """The texts to tokenise, without those that are refused alone; the purpose; the refused ones, by their place.

    Raises:
        InvalidInput: the request as a whole is wrong.
    """
    _check_count(request.texts, limits.batch_texts_max)
    purposes: dict[int, Purpose | None] = {pb.PURPOSE_UNSPECIFIED: None, **_PURPOSES}
    purpose = _named(purposes, request.purpose, "purpose", "PURPOSE_QUERY, PURPOSE_PASSAGE or unspecified")
    refused = _too_long(request.texts, limits.text_bytes_max)
    return [text for place, text in enumerate(request.texts) if place not in refused], purpose, refused


def _check_count(texts: Sequence[str], texts_max: int) -> None:
    if not 1 <= len(texts) <= texts_max:
        raise InvalidInput(f"texts: {len(texts)} texts, must be 1 to {texts_max}", field="texts")


def _named(known: Mapping[int, N], number: int, field: str, names: str) -> N:
    if number not in known:
        raise InvalidInput(f"{field}: must be {names}", field=field)
    return known[number]


def _too_long(texts: Sequence[str], bytes_max: int) -> dict[int, GannetError]:
    refused: dict[int, GannetError] = {}
    for place, text in enumerate(texts):
        size = len(text.encode())
        if size > bytes_max:
            field = f"texts[{place}]"
            refused[place] = InvalidInput(
                f"{field}: {size} bytes, must be at most {bytes_max}", field=field, reason="TEXT_TOO_LONG"
            )
    return refused


def to_response(embedded: Embedded, refused: dict[int, GannetError], total_s: float) -> pb.EmbedResponse:
    """The reply, with the refused texts back in their places."""
    return pb.EmbedResponse(
        results=[
            _to_result(one if isinstance(one, TextVectors) else TextVectors(error=one))
            for one in _in_places(embedded.results, refused)
        ],
        timings=pb.Timings(
            queue_us=_us(embedded.queue_s),
            tokenize_us=_us(embedded.tokenize_s),
            inference_us=_us(embedded.inference_s),
            total_us=_us(total_s),
        ),
    )


def to_tokens(tokenized: Sequence[TextPieces], refused: dict[int, GannetError]) -> pb.TokenizeResponse:
    """The reply, with the refused texts back in their places."""
    return pb.TokenizeResponse(
        results=[
            pb.TokenizeResult(error=to_status(one))
            if isinstance(one, GannetError)
            else pb.TokenizeResult(
                ids=one.ids.tolist(),
                tokens=one.tokens,
                start_bytes=one.starts.tolist(),
                end_bytes=one.ends.tolist(),
                special=one.special,
            )
            for one in _in_places(tokenized, refused)
        ]
    )


def to_info(embedder: TextEmbedder, limits: Limits, placement: Placement, *, models: Sequence[str]) -> pb.InfoResponse:
    """What there is to say of one of `models`."""
    built = embedder.built
    return pb.InfoResponse(
        model=built.name,
        model_digest=built.digest,
        precision=built.precision,
        dim=built.dim,
        tokens_max=built.tokens_max,
        batch_texts_max=limits.batch_texts_max,
        text_bytes_max=limits.text_bytes_max,
        execution_provider=embedder.execution_provider,
        sessions=placement.sessions,
        threads=placement.threads,
        instructions=placement.instructions,
        runtime=placement.runtime,
        languages=limits.languages,
        models=models,
        token_texts_max=limits.token_texts_max,
        stream_requests_max=limits.stream_requests_max,
        normalised=built.normalise,
    )


def _in_places(done: Sequence[D], refused: dict[int, GannetError]) -> Iterator[D | GannetError]:
    rest = iter(done)
    for place in range(len(done) + len(refused)):
        yield refused[place] if place in refused else next(rest)


def _to_result(vectors: TextVectors) -> pb.EmbedResult:
    result = pb.EmbedResult(token_count=vectors.token_count, truncated=vectors.truncated)
    if vectors.error is not None:
        result.error.CopyFrom(to_status(vectors.error))
    if vectors.dense is not None:
        result.dense.CopyFrom(_to_dense(vectors.dense))
    if vectors.sparse is not None:
        indices = vectors.sparse.indices.tolist()
        values = vectors.sparse.values.astype("<f4", copy=False).tobytes()
        result.sparse.CopyFrom(SparseVector(indices=indices, values=values))
    if vectors.token_vectors is not None:
        count, dim = vectors.token_vectors.shape
        data = vectors.token_vectors.astype("<f4", copy=False).tobytes()
        result.token_vectors.CopyFrom(pb.TokenVectors(data=data, count=count, dim=dim))
    return result


def _to_dense(vector: DenseVector) -> vectors_pb2.DenseVector:
    return vectors_pb2.DenseVector(data=vector.data, dim=vector.dim, type=_DENSE_NAMES[vector.type], scale=vector.scale)


def _us(seconds: float) -> int:
    return round(seconds * 1e6)
