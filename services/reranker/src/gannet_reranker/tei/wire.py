"""`tei.v1` messages to and from what the reranker works with."""

from collections.abc import Mapping, Sequence

from gannet.tei.v1 import tei_pb2 as pb
from gannet_inference.manifest import Purpose
from gannet_inference.store import BuiltModel
from gannet_inference.tokens import Side, TextPieces
from gannet_reranker.ranking import Candidates, Ranking
from gannet_reranker.wire import Limits, check_size, check_texts, sigmoid
from gannet_service.errors import InvalidInput

DECODED_IDS_MAX = 65_536
# What a model of one logit calls it.
LABEL = "LABEL_0"

_SIDES: Mapping[int, Side] = {pb.TRUNCATION_DIRECTION_RIGHT: "end", pb.TRUNCATION_DIRECTION_LEFT: "start"}
_PURPOSES: Mapping[str, Purpose] = {"query": "query", "passage": "passage"}
# Their clients expect NumPy's names.
_DTYPES = {"fp16": "float16", "fp32": "float32", "int8": "int8"}


def to_candidates(request: pb.RerankRequest, limits: Limits, *, deadline_s: float | None) -> Candidates:
    """What Rerank asks for; raises InvalidInput, naming the field."""
    check_texts(request.query, request.texts, limits, name="texts")
    return _cut(request, request.query, list(request.texts), deadline_s)


def to_pair(request: pb.PredictPairRequest, limits: Limits, *, deadline_s: float | None) -> Candidates:
    """What PredictPair asks for; raises InvalidInput, naming the field."""
    if len(request.inputs) != 2:
        raise InvalidInput(f"inputs: {len(request.inputs)} texts, must be 2", field="inputs")
    for place, text in enumerate(request.inputs):
        if not text:
            raise InvalidInput(f"inputs[{place}]: must not be empty", field=f"inputs[{place}]")
        check_size(f"inputs[{place}]", text, limits)
    return _cut(request, request.inputs[0], [request.inputs[1]], deadline_s)


def _cut(
    request: pb.RerankRequest | pb.PredictPairRequest, query: str, passages: Sequence[str], deadline_s: float | None
) -> Candidates:
    if request.truncation_direction not in _SIDES:
        raise InvalidInput("truncation_direction: must be RIGHT or LEFT", field="truncation_direction")
    # One window: whoever asks to truncate expects the scores of a truncated pair.
    return Candidates(
        query=query,
        passages=passages,
        windows_max=1,
        side=_SIDES[request.truncation_direction],
        refuse_long=not request.truncate,
        deadline_s=deadline_s,
    )


def gathered(messages: Sequence[pb.RerankStreamRequest]) -> pb.RerankRequest:
    """One request out of a stream's messages: all texts, the rest as the first message says."""
    first = messages[0] if messages else pb.RerankStreamRequest()
    return pb.RerankRequest(
        query=first.query,
        texts=[message.text for message in messages],
        truncate=first.truncate,
        raw_scores=first.raw_scores,
        return_text=first.return_text,
        truncation_direction=first.truncation_direction,
    )


def from_ranking(ranking: Ranking, request: pb.RerankRequest, total_s: float) -> pb.RerankResponse:
    """The reply to Rerank."""
    return pb.RerankResponse(
        ranks=[
            pb.Rank(
                index=ranked.index,
                text=request.texts[ranked.index] if request.return_text else None,
                score=ranked.logit if request.raw_scores else sigmoid(ranked.logit),
            )
            for ranked in ranking.results
        ],
        metadata=_metadata(ranking, [request.query, *request.texts], total_s),
    )


def from_pair(ranking: Ranking, request: pb.PredictPairRequest, total_s: float) -> pb.PredictResponse:
    """The reply to PredictPair."""
    logit = ranking.results[0].logit
    score = logit if request.raw_scores else sigmoid(logit)
    return pb.PredictResponse(
        predictions=[pb.Prediction(score=score, label=LABEL)], metadata=_metadata(ranking, request.inputs, total_s)
    )


def _metadata(ranking: Ranking, texts: Sequence[str], total_s: float) -> pb.Metadata:
    return pb.Metadata(
        compute_chars=sum(map(len, texts)),
        compute_tokens=ranking.token_count,
        total_time_ns=_ns(total_s),
        tokenization_time_ns=_ns(ranking.tokenize_s),
        queue_time_ns=_ns(ranking.queue_s),
        inference_time_ns=_ns(ranking.inference_s),
    )


def to_text(request: pb.EncodeRequest, limits: Limits) -> tuple[str, Purpose | None]:
    """The text to tokenise, and whose prompt to put in front; raises InvalidInput, naming the field."""
    if not request.inputs:
        raise InvalidInput("inputs: must not be empty", field="inputs")
    check_size("inputs", request.inputs, limits)
    if not request.HasField("prompt_name"):
        return request.inputs, None
    if request.prompt_name not in _PURPOSES:
        name = request.prompt_name[:64]
        raise InvalidInput(f"prompt_name: {name!r} is not one of {', '.join(_PURPOSES)}", field="prompt_name")
    return request.inputs, _PURPOSES[request.prompt_name]


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
        model_type=pb.MODEL_TYPE_RERANKER,
        max_concurrent_requests=concurrent_rpcs_max,
        max_input_length=built.tokens_max,
        max_batch_tokens=built.tokens_max,
        max_batch_requests=1,
        max_client_batch_size=limits.batch_passages_max,
        tokenization_workers=1,
    )


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
