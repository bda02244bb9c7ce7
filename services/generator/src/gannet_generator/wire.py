"""Protobuf to and from what the generators work with; `limits.py` checks what comes of it."""

from __future__ import annotations  # the type of an enum's values is in the stubs only

from collections.abc import Sequence

from gannet.generator.v1 import generator_pb2 as pb
from gannet_generator.generation import (
    Citation,
    Delta,
    Description,
    Finished,
    Message,
    Reason,
    Request,
    Role,
    Sampling,
    Source,
    SourceSpan,
    TokenCounts,
    TokenLogprob,
)
from gannet_generator.verification import Verification
from gannet_service.errors import InvalidInput

_ROLES: dict[int, Role] = {pb.ROLE_SYSTEM: "system", pb.ROLE_USER: "user", pb.ROLE_ASSISTANT: "assistant"}
_REASONS: dict[Reason, pb.FinishReason.ValueType] = {
    "stop": pb.FINISH_REASON_STOP,
    "length": pb.FINISH_REASON_LENGTH,
    "no_answer": pb.FINISH_REASON_NO_ANSWER,
    "stop_string": pb.FINISH_REASON_STOP_STRING,
    "content_filter": pb.FINISH_REASON_CONTENT_FILTER,
}


def to_request(request: pb.GenerateRequest, *, sentences_max: int) -> Request:
    """The request; `sentences_max` applies where it says nothing."""
    return Request(
        question=request.question,
        sources=to_sources(request.sources),
        sentences_max=request.sentences_max or sentences_max,
        messages=to_messages(request.messages),
        tokens_max=request.max_tokens,
        tokens_min=request.min_tokens,
        sampling=_sampling(request),
        stop=tuple(request.stop),
        logprobs=request.logprobs if request.HasField("logprobs") else None,
    )


def to_sources(sources: Sequence[pb.Source]) -> list[Source]:
    """The passages, in order."""
    return [Source(text=source.text, title=source.title) for source in sources]


def to_messages(messages: Sequence[pb.Message]) -> list[Message]:
    """The conversation, in order; raises InvalidInput, naming the field, for a role that is none."""
    for place, message in enumerate(messages):
        if message.role not in _ROLES:
            field = f"messages[{place}].role"
            raise InvalidInput(f"{field}: {message.role} is no role", field=field)
    return [Message(role=_ROLES[message.role], content=message.content) for message in messages]


def _sampling(request: pb.GenerateRequest) -> Sampling:
    return Sampling(
        temperature=request.temperature if request.HasField("temperature") else None,
        top_p=request.top_p if request.HasField("top_p") else None,
        top_k=request.top_k if request.HasField("top_k") else None,
        min_p=request.min_p if request.HasField("min_p") else None,
        seed=request.seed if request.HasField("seed") else None,
        repetition_penalty=request.repetition_penalty if request.HasField("repetition_penalty") else None,
        presence_penalty=request.presence_penalty if request.HasField("presence_penalty") else None,
        frequency_penalty=request.frequency_penalty if request.HasField("frequency_penalty") else None,
    )


def from_delta(delta: Delta) -> pb.GenerateResponse:
    """One message of the stream."""
    logprobs = [_logprob(one) for one in delta.logprobs]
    return pb.GenerateResponse(delta=pb.Delta(text=delta.text, token_ids=delta.token_ids, logprobs=logprobs))


def _logprob(one: TokenLogprob) -> pb.TokenLogprob:
    top = [_logprob(other) for other in one.top]
    return pb.TokenLogprob(token=one.token, token_id=one.token_id, logprob=one.logprob, top=top)


def from_citation(citation: Citation) -> pb.GenerateResponse:
    """One message of the stream."""
    message = pb.Citation(
        start_byte=citation.start_byte,
        end_byte=citation.end_byte,
        sources=[_span(span) for span in citation.spans],
        score=citation.logit,
    )
    return pb.GenerateResponse(citation=message)


def _span(span: SourceSpan) -> pb.SourceSpan:
    return pb.SourceSpan(source_index=span.source_index, start_byte=span.start_byte, end_byte=span.end_byte)


def from_finished(finished: Finished, *, generator: str, first_token_us: int, total_us: int) -> pb.GenerateResponse:
    """The last message of the stream."""
    message = pb.Finished(
        reason=_REASONS[finished.reason],
        timings=pb.Timings(queue_us=round(finished.queue_s * 1e6), first_token_us=first_token_us, total_us=total_us),
        seed=finished.seed,
        model=finished.model,
        generator=generator,
        token_ids=finished.token_ids,
        logprobs=[_logprob(one) for one in finished.logprobs],
    )
    if finished.reading is not None:
        message.best_score = finished.reading.best_logit
        message.sentences_scored = finished.reading.sentences
        message.tokens_read = finished.reading.tokens
    if finished.usage is not None:
        usage = finished.usage
        message.usage.CopyFrom(pb.Usage(prompt_tokens=usage.prompt_tokens, completion_tokens=usage.completion_tokens))
    return pb.GenerateResponse(finished=message)


def from_counts(counts: TokenCounts) -> pb.CountTokensResponse:
    """The reply to CountTokens."""
    return pb.CountTokensResponse(prompt_tokens=counts.prompt, text_tokens=counts.texts, exact=counts.exact)


def from_verification(verification: Verification) -> pb.VerifyResponse:
    """The reply to Verify."""
    verdicts = [
        pb.Verdict(
            score=verdict.score,
            supported=verdict.supported,
            spans=[pb.ScoredSpan(span=_span(scored.span), score=scored.score) for scored in verdict.spans],
        )
        for verdict in verification.verdicts
    ]
    return pb.VerifyResponse(verdicts=verdicts, tokens_read=verification.tokens)


def from_description(name: str, description: Description) -> pb.GeneratorInfo:
    """One generator in Info."""
    return pb.GeneratorInfo(
        name=name,
        kind=description.kind,
        model=description.model,
        model_digest=description.model_digest,
        precision=description.precision,
        threshold=description.threshold,
        free_text=description.free_text,
        context_tokens_max=description.context_tokens_max,
        tokens_max=description.tokens_max,
    )
