"""Protobuf to and from what the generator works with; every limit of a request is checked here."""

from __future__ import annotations  # the type of an enum's values is in the stubs only

from dataclasses import dataclass

from gannet.generator.v1 import generator_pb2 as pb
from gannet_generator.answering import Finished
from gannet_generator.extract import Citation, Delta
from gannet_service.errors import InvalidInput

# The contract's bound, GenerateRequest.sentences_max.
SENTENCES_MAX = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a request may hold."""

    sources_max: int
    text_bytes_max: int


def check(request: pb.GenerateRequest, limits: Limits) -> None:
    """Refuse a request that breaks a limit.

    Raises:
        InvalidInput: naming the field and the limit.
    """
    if not request.question.strip():
        raise InvalidInput("question: must not be empty", field="question")
    _check_size("question", request.question, limits.text_bytes_max)
    count = len(request.sources)
    if not 1 <= count <= limits.sources_max:
        raise InvalidInput(f"sources: {count} sources, must be 1 to {limits.sources_max}", field="sources")
    for place, source in enumerate(request.sources):
        _check_size(f"sources[{place}].text", source.text, limits.text_bytes_max)
    if request.sentences_max > SENTENCES_MAX:
        raise InvalidInput(
            f"sentences_max: {request.sentences_max}, must be 1 to {SENTENCES_MAX}, or 0", field="sentences_max"
        )


def _check_size(field: str, text: str, bytes_max: int) -> None:
    size = len(text.encode())
    if size > bytes_max:
        raise InvalidInput(f"{field}: {size} bytes, must be at most {bytes_max}", field=field, reason="TEXT_TOO_LONG")


def to_response(event: Delta | Citation | Finished) -> pb.GenerateResponse:
    """One message of the stream."""
    match event:
        case Delta():
            return pb.GenerateResponse(delta=pb.Delta(text=event.text))
        case Citation():
            spans = [
                pb.SourceSpan(source_index=span.source_index, start_byte=span.start_byte, end_byte=span.end_byte)
                for span in event.spans
            ]
            citation = pb.Citation(
                start_byte=event.start_byte, end_byte=event.end_byte, sources=spans, score=event.logit
            )
            return pb.GenerateResponse(citation=citation)
        case Finished():
            finished = pb.Finished(
                reason=_reason(event),
                best_score=event.best_logit,
                sentences_scored=event.sentences_scored,
                tokens_read=event.tokens_read,
            )
            return pb.GenerateResponse(finished=finished)


def _reason(finished: Finished) -> pb.FinishReason.ValueType:
    if not finished.answered:
        return pb.FINISH_REASON_NO_ANSWER
    return pb.FINISH_REASON_LENGTH if finished.limited else pb.FINISH_REASON_STOP
