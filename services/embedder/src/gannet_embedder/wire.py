"""Protobuf to and from what the embedder works with; every limit of a request is checked here."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from gannet.common.v1.vectors_pb2 import DenseVector, SparseVector
from gannet.embedder.v1 import embedder_pb2 as pb
from gannet_embedder.embedding import Embedded, TextBatch, TextVectors
from gannet_inference.lanes import Lane
from gannet_inference.manifest import Purpose
from gannet_service.errors import GannetError, InvalidInput, to_status

_PURPOSES: dict[int, Purpose] = {pb.PURPOSE_QUERY: "query", pb.PURPOSE_PASSAGE: "passage"}
_LANES = {
    pb.PRIORITY_UNSPECIFIED: Lane.INTERACTIVE,
    pb.PRIORITY_INTERACTIVE: Lane.INTERACTIVE,
    pb.PRIORITY_BULK: Lane.BULK,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a request may hold, and what the server puts where it says nothing."""

    batch_texts_max: int
    text_bytes_max: int
    languages: Collection[str]
    average_length: float


def to_batch(request: pb.EmbedRequest, limits: Limits) -> tuple[TextBatch, dict[int, GannetError]]:
    """The batch to embed, without the texts that are refused alone; those, by their place in the request.

    Raises:
        InvalidInput: the request as a whole is wrong.
    """
    count = len(request.texts)
    if not 1 <= count <= limits.batch_texts_max:
        raise InvalidInput(f"texts: {count} texts, must be 1 to {limits.batch_texts_max}", field="texts")
    if request.purpose not in _PURPOSES:
        raise InvalidInput("purpose: must be PURPOSE_QUERY or PURPOSE_PASSAGE", field="purpose")
    if request.priority not in _LANES:
        raise InvalidInput("priority: must be PRIORITY_INTERACTIVE or PRIORITY_BULK", field="priority")
    if not (request.want_dense or request.want_sparse):
        raise InvalidInput("want_dense: ask for dense vectors, sparse vectors or both", field="want_dense")
    language = request.sparse.language or "en"
    if language not in limits.languages:
        known = ", ".join(sorted(limits.languages))
        raise InvalidInput(f"sparse.language: {language[:20]!r} is not one of {known}", field="sparse.language")
    average_length = request.sparse.average_length
    if not math.isfinite(average_length) or average_length < 0:
        raise InvalidInput("sparse.average_length: must be a finite number > 0, or 0", field="sparse.average_length")
    refused = _too_long(request.texts, limits.text_bytes_max)
    batch = TextBatch(
        texts=[text for place, text in enumerate(request.texts) if place not in refused],
        purpose=_PURPOSES[request.purpose],
        lane=_LANES[request.priority],
        want_dense=request.want_dense,
        want_sparse=request.want_sparse,
        language=language,
        average_length=average_length or limits.average_length,
    )
    return batch, refused


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
    done = iter(embedded.results)
    count = len(embedded.results) + len(refused)
    results = [TextVectors(error=refused[place]) if place in refused else next(done) for place in range(count)]
    return pb.EmbedResponse(
        results=map(_to_result, results),
        timings=pb.Timings(
            queue_us=_us(embedded.queue_s),
            tokenize_us=_us(embedded.tokenize_s),
            inference_us=_us(embedded.inference_s),
            total_us=_us(total_s),
        ),
    )


def _to_result(vectors: TextVectors) -> pb.EmbedResult:
    result = pb.EmbedResult(token_count=vectors.token_count, truncated=vectors.truncated)
    if vectors.error is not None:
        result.error.CopyFrom(to_status(vectors.error))
    if vectors.dense is not None:
        data = vectors.dense.astype("<f4", copy=False).tobytes()
        result.dense.CopyFrom(DenseVector(data=data, dim=vectors.dense.shape[0]))
    if vectors.sparse is not None:
        indices = vectors.sparse.indices.tolist()
        values = vectors.sparse.values.astype("<f4", copy=False).tobytes()
        result.sparse.CopyFrom(SparseVector(indices=indices, values=values))
    return result


def _us(seconds: float) -> int:
    return round(seconds * 1e6)
