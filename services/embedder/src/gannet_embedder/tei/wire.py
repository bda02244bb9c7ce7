"""`tei.v1` messages to and from what the embedder works with."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gannet.tei.v1 import tei_pb2 as pb
from gannet_embedder.embedding import Embedded, TextBatch, TextVectors
from gannet_embedder.wire import Limits
from gannet_inference.lanes import Lane
from gannet_inference.manifest import Purpose
from gannet_inference.store import BuiltModel
from gannet_inference.tokens import Side, TextPieces
from gannet_service.errors import InvalidInput

DECODED_IDS_MAX = 65_536

_SIDES: Mapping[int, Side] = {pb.TRUNCATION_DIRECTION_RIGHT: "end", pb.TRUNCATION_DIRECTION_LEFT: "start"}
_PURPOSES: Mapping[str, Purpose] = {"query": "query", "passage": "passage"}
# Their clients expect NumPy's names.
_DTYPES = {"fp16": "float16", "fp32": "float32", "int8": "int8"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """One text's vectors and what they cost."""

    vectors: TextVectors
    metadata: pb.Metadata


def to_dense(request: pb.EmbedRequest, limits: Limits, *, dim: int, deadline_s: float | None) -> TextBatch:
    """What Embed asks for; raises InvalidInput, naming the field."""
    dims = request.dimensions if request.HasField("dimensions") else None
    if dims is not None and not 1 <= dims <= dim:
        raise InvalidInput(f"dimensions: {dims}, must be 1 to {dim}", field="dimensions")
    return TextBatch(
        texts=[checked(request.inputs, limits)],
        purpose=purpose_of(request),
        lane=Lane.INTERACTIVE,
        want_dense=True,
        average_length=limits.average_length,
        side=_side(request),
        refuse_long=not request.truncate,
        dims=dims,
        normalise=request.normalize if request.HasField("normalize") else True,
        deadline_s=deadline_s,
    )


def to_sparse(request: pb.EmbedSparseRequest, limits: Limits, *, deadline_s: float | None) -> TextBatch:
    """What EmbedSparse asks for; raises InvalidInput, naming the field."""
    return TextBatch(
        texts=[checked(request.inputs, limits)],
        purpose=purpose_of(request),
        lane=Lane.INTERACTIVE,
        want_sparse=True,
        average_length=limits.average_length,
        deadline_s=deadline_s,
    )


def to_all(request: pb.EmbedAllRequest, limits: Limits, *, deadline_s: float | None) -> TextBatch:
    """What EmbedAll asks for; raises InvalidInput, naming the field."""
    return TextBatch(
        texts=[checked(request.inputs, limits)],
        purpose=purpose_of(request),
        lane=Lane.INTERACTIVE,
        want_tokens=True,
        average_length=limits.average_length,
        side=_side(request),
        refuse_long=not request.truncate,
        deadline_s=deadline_s,
    )


def checked(inputs: str, limits: Limits) -> str:
    """The text, if it is one; raises InvalidInput otherwise."""
    if not inputs:
        raise InvalidInput("inputs: must not be empty", field="inputs")
    size = len(inputs.encode())
    if size > limits.text_bytes_max:
        limit = f"must be at most {limits.text_bytes_max}"
        raise InvalidInput(f"inputs: {size} bytes, {limit}", field="inputs", reason="TEXT_TOO_LONG")
    return inputs


def purpose_of(
    request: pb.EmbedRequest | pb.EmbedSparseRequest | pb.EmbedAllRequest | pb.EncodeRequest,
) -> Purpose | None:
    """Whose prompt is asked for, None for none; raises InvalidInput for one that there is not."""
    if not request.HasField("prompt_name"):
        return None
    if request.prompt_name not in _PURPOSES:
        name = request.prompt_name[:64]
        raise InvalidInput(f"prompt_name: {name!r} is not one of {', '.join(_PURPOSES)}", field="prompt_name")
    return _PURPOSES[request.prompt_name]


def _side(request: pb.EmbedRequest | pb.EmbedAllRequest) -> Side:
    if request.truncation_direction not in _SIDES:
        raise InvalidInput("truncation_direction: must be RIGHT or LEFT", field="truncation_direction")
    return _SIDES[request.truncation_direction]


def answered(embedded: Embedded, batch: TextBatch, total_s: float) -> Answered:
    """The one text's vectors; raises the text's error."""
    (vectors,) = embedded.results
    if vectors.error is not None:
        raise vectors.error
    metadata = pb.Metadata(
        compute_chars=len(batch.texts[0]),
        compute_tokens=vectors.token_count,
        total_time_ns=_ns(total_s),
        tokenization_time_ns=_ns(embedded.tokenize_s),
        queue_time_ns=_ns(embedded.queue_s),
        inference_time_ns=_ns(embedded.inference_s),
    )
    return Answered(vectors=vectors, metadata=metadata)


def from_dense(answer: Answered) -> pb.EmbedResponse:
    """The reply to Embed."""
    data = answer.vectors.dense.data if answer.vectors.dense is not None else b""
    return pb.EmbedResponse(embeddings=np.frombuffer(data, "<f4").tolist(), metadata=answer.metadata)


def from_sparse(answer: Answered) -> pb.EmbedSparseResponse:
    """The reply to EmbedSparse."""
    sparse = answer.vectors.sparse
    terms = zip(sparse.indices.tolist(), sparse.values.tolist(), strict=True) if sparse is not None else ()
    values = [pb.SparseValue(index=index, value=value) for index, value in terms]
    return pb.EmbedSparseResponse(sparse_embeddings=values, metadata=answer.metadata)


def from_all(answer: Answered) -> pb.EmbedAllResponse:
    """The reply to EmbedAll."""
    rows = answer.vectors.token_vectors
    vectors = [pb.TokenEmbedding(embeddings=row) for row in rows.tolist()] if rows is not None else []
    return pb.EmbedAllResponse(token_embeddings=vectors, metadata=answer.metadata)


def from_pieces(pieces: TextPieces, text: str) -> pb.EncodeResponse:
    """The reply to Tokenize."""
    data = text.encode()
    return pb.EncodeResponse(
        tokens=[
            pb.SimpleToken(id=id_, text=token, special=True)
            if special
            else pb.SimpleToken(id=id_, text=data[start:end].decode(errors="replace"), start=start, stop=end)
            for id_, token, special, start, end in zip(
                pieces.ids.tolist(),
                pieces.tokens,
                pieces.special,
                pieces.starts.tolist(),
                pieces.ends.tolist(),
                strict=True,
            )
        ]
    )


def to_ids(request: pb.DecodeRequest) -> list[int]:
    """The ids to decode; raises InvalidInput for too many."""
    if len(request.ids) > DECODED_IDS_MAX:
        raise InvalidInput(f"ids: {len(request.ids)}, must be at most {DECODED_IDS_MAX}", field="ids")
    return list(request.ids)


def to_info(built: BuiltModel, limits: Limits, *, version: str, concurrent_rpcs_max: int) -> pb.InfoResponse:
    """What there is to say of the first model."""
    return pb.InfoResponse(
        version=version,
        model_id=built.name,
        model_sha=built.digest,
        model_dtype=_DTYPES[built.precision],
        model_type=pb.MODEL_TYPE_EMBEDDING,
        max_concurrent_requests=concurrent_rpcs_max,
        max_input_length=built.tokens_max,
        max_batch_tokens=built.tokens_max,
        max_batch_requests=1,
        max_client_batch_size=limits.batch_texts_max,
        tokenization_workers=1,
    )


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
