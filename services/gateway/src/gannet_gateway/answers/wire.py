"""Answers between protobuf and the gateway's own types."""

import re
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing

from google.rpc import code_pb2, error_details_pb2, status_pb2

from gannet.gateway.v1 import answer_pb2, search_pb2
from gannet_gateway.answers.events import Citation, Completed, Delta, Event, Heartbeat, Retrieved, Source, Started
from gannet_gateway.answers.questions import Asked
from gannet_gateway.answers.sentences import Sentence, split_sentences
from gannet_gateway.answers.verification import Verified
from gannet_gateway.clients import Sampling
from gannet_gateway.config import GatewayConfig
from gannet_gateway.names import parse_collection, parse_conversation, prompt_reference, to_generators
from gannet_gateway.search import wire as search_wire
from gannet_gateway.search.query import Degradation, Mode, Options
from gannet_service.errors import DOMAIN, GannetError, InvalidInput, from_status, to_status

SENTENCES_MAX = 50
TOP_K_MAX = 50

CLAIMS_BYTES_MAX = 16 << 10
CLAIMS_MAX = 50
CLAIM_TOP_K_MAX = 10
GIVEN_MAX = 20
GIVEN_BYTES_MAX = 8192
TEMPERATURE_MAX = 2.0
TOKENS_MAX = 32_768
STOP_MAX = 16
STOP_BYTES_MAX = 256

_LANGUAGE = re.compile(r"[a-z]{2}(?:-[A-Za-z]{2,8})?")
_ANSWER_ID = re.compile(r"[0-9a-f]{32}")


def to_asked(request: answer_pb2.AnswerRequest, config: GatewayConfig) -> Asked:
    """A request, every field checked against its limits."""
    return Asked(
        parent=parse_collection(request.parent, "parent"),
        text=search_wire.check_query(request.query, config.query_bytes_max),
        options=search_wire.to_options(
            request.search, prefix="search", top_k_max=TOP_K_MAX, filter_bytes_max=config.filter_bytes_max
        ),
        sentences_max=check_sentences_max(request.sentences_max),
        generators=to_generators(request.generation.generators, "generation.generators"),
        sampling=to_sampling(request.generation),
        language=check_language(request.generation.language),
        prompt=prompt_reference(request.prompt, "prompt") if request.prompt else ("", None),
        conversation=parse_conversation(request.conversation, "conversation") if request.conversation else None,
        staleness_s_max=search_wire.to_staleness_s(request.max_staleness),
    )


def check_claims(text: str) -> list[Sentence]:
    """The sentences of a text to verify."""
    size = len(text.encode())
    if not 1 <= size <= CLAIMS_BYTES_MAX:
        raise InvalidInput(f"text: {size} bytes; the limits are 1 to {CLAIMS_BYTES_MAX}", field="text")
    sentences = split_sentences(text)
    if not 1 <= len(sentences) <= CLAIMS_MAX:
        raise InvalidInput(f"text: {len(sentences)} sentences; the limits are 1 to {CLAIMS_MAX}", field="text")
    return sentences


def to_claim_options(message: search_pb2.SearchOptions, config: GatewayConfig) -> Options:
    """How to search for a sentence."""
    return search_wire.to_options(
        message, prefix="search", top_k_max=CLAIM_TOP_K_MAX, filter_bytes_max=config.filter_bytes_max
    )


def check_given(passages: Sequence[str]) -> list[str]:
    """Passages that a caller brings along."""
    if len(passages) > GIVEN_MAX:
        raise InvalidInput(f"passages: {len(passages)}; the limit is {GIVEN_MAX}", field="passages")
    for place, passage in enumerate(passages):
        size = len(passage.encode())
        if not 1 <= size <= GIVEN_BYTES_MAX:
            field = f"passages[{place}]"
            raise InvalidInput(f"{field}: {size} bytes; the limits are 1 to {GIVEN_BYTES_MAX}", field=field)
    return list(passages)


def from_verified(verified: Verified, mode: Mode, generation: int) -> answer_pb2.VerifyAnswerResponse:
    """What is known of a text's sentences."""
    return answer_pb2.VerifyAnswerResponse(
        claims=[
            answer_pb2.Claim(
                start_byte=claim.sentence.start_byte,
                end_byte=claim.sentence.end_byte,
                score=claim.score,
                supported=claim.supported,
                sources=[_from_source(source) for source in claim.sources],
            )
            for claim in verified.claims
        ],
        passages=[search_wire.from_passage(passage, mode) for passage in verified.passages],
        generation=generation,
        tokens_read=verified.tokens_read,
    )


def check_sentences_max(value: int) -> int:
    """The bound on the answer's sentences; 0 leaves it to the generator."""
    if value > SENTENCES_MAX:
        raise InvalidInput(f"sentences_max: {value}; the limits are 1 to {SENTENCES_MAX}", field="sentences_max")
    return value


def check_answer_id(value: str, field: str) -> str:
    """`value` if it may name an answer."""
    if not _ANSWER_ID.fullmatch(value):
        raise InvalidInput(f"{field}: {value[:100]!r} is not 32 hexadecimal digits", field=field)
    return value


def pack_error(error: GannetError) -> bytes:
    """An error in bytes."""
    return to_status(error).SerializeToString()


def unpack_error(data: bytes) -> GannetError | None:
    """What `pack_error` was given; None for no bytes."""
    return from_status(status_pb2.Status.FromString(data)) if data else None


def to_sampling(options: answer_pb2.GenerationOptions) -> Sampling:
    """How tokens are chosen, checked."""
    temperature = options.temperature if options.HasField("temperature") else None
    top_p = options.top_p if options.HasField("top_p") else None
    if temperature is not None and not 0 <= temperature <= TEMPERATURE_MAX:  # NaN is not
        problem = f"generation.temperature: {temperature}; the limits are 0 to {TEMPERATURE_MAX:g}"
        raise InvalidInput(problem, field="generation.temperature")
    if top_p is not None and not 0 < top_p <= 1:
        raise InvalidInput(f"generation.top_p: {top_p}; it must be above 0, to 1", field="generation.top_p")
    if options.max_tokens > TOKENS_MAX:
        problem = f"generation.max_tokens: {options.max_tokens}; the limit is {TOKENS_MAX}"
        raise InvalidInput(problem, field="generation.max_tokens")
    if len(options.stop) > STOP_MAX or not all(1 <= len(stop.encode()) <= STOP_BYTES_MAX for stop in options.stop):
        problem = f"generation.stop: at most {STOP_MAX} strings of 1 to {STOP_BYTES_MAX} bytes"
        raise InvalidInput(problem, field="generation.stop")
    return Sampling(
        temperature=temperature,
        top_p=top_p,
        max_tokens=options.max_tokens,
        stop=tuple(options.stop),
        seed=options.seed if options.HasField("seed") else None,
    )


def check_language(code: str) -> str:
    """The code of a language, or nothing."""
    if code and not _LANGUAGE.fullmatch(code):
        raise InvalidInput(f"generation.language: {code[:20]!r} is not an ISO 639-1 code", field="generation.language")
    return code


Message = answer_pb2.AnswerEvent


class Recording:
    """An answer's events on the way to a cache; `is_whole` once it is complete and nothing went less well than it should."""

    def __init__(self, *, bytes_max: int) -> None:
        self.is_whole = False
        self._bytes_max = bytes_max
        self._size_bytes = 0
        self._events: list[Message] | None = []

    def add(self, message: Message) -> None:
        """Take the next event; heartbeats are no part of an answer, and one with a warning is not kept."""
        kind = message.WhichOneof("event")
        self._size_bytes += message.ByteSize()
        if kind == "warning" or self._size_bytes > self._bytes_max:
            self._events = None
        elif kind != "heartbeat" and self._events is not None:
            self._events.append(message)
            self.is_whole = kind == "completed"

    def packed(self) -> bytes:
        """The whole answer, to be given to `replayed`."""
        return answer_pb2.RecordedAnswer(events=self._events).SerializeToString()


def replayed(recorded: bytes, answer_id: str, started: float) -> Iterator[Message]:
    """The events of an answer that was kept, under an id and with times of its own; `started` is a `time.perf_counter()` instant."""
    first_delta_us = 0
    for seq, message in enumerate(answer_pb2.RecordedAnswer.FromString(recorded).events):
        message.seq, message.answer_id = seq, answer_id
        passed_us = round((time.perf_counter() - started) * 1e6)
        if message.HasField("delta"):
            first_delta_us = first_delta_us or max(1, passed_us)
        elif message.HasField("completed"):
            timings = answer_pb2.AnswerTimings(first_delta_us=first_delta_us, total_us=max(first_delta_us, passed_us))
            message.completed.timings.CopyFrom(timings)
            message.completed.cache_hits.append("answer")
        yield message


async def numbered(events: AsyncGenerator[Event], answer_id: str) -> AsyncGenerator[answer_pb2.AnswerEvent]:
    """`events` as messages, numbered from 0. Closing it closes `events`."""
    seq = 0
    async with aclosing(events):
        async for event in events:
            yield from_event(event, seq=seq, answer_id=answer_id)
            seq += 1


async def packed(messages: AsyncGenerator[answer_pb2.AnswerEvent]) -> AsyncGenerator[bytes]:
    """`messages` in bytes. Closing it closes them."""
    async with aclosing(messages):
        async for message in messages:
            yield message.SerializeToString()


async def unpacked(data: AsyncGenerator[bytes]) -> AsyncGenerator[answer_pb2.AnswerEvent]:
    """What `packed` was given."""
    async with aclosing(data):
        async for event in data:
            yield answer_pb2.AnswerEvent.FromString(event)


def from_event(event: Event, *, seq: int, answer_id: str) -> answer_pb2.AnswerEvent:
    """One event of the stream."""
    message = answer_pb2.AnswerEvent(seq=seq, answer_id=answer_id)
    match event:
        case Started():
            message.started.CopyFrom(_from_started(event))
        case Retrieved(passages=passages, mode=mode):
            message.retrieved.SetInParent()
            message.retrieved.passages.extend(search_wire.from_passage(passage, mode) for passage in passages)
        case Delta(text=text, start_byte=start_byte):
            message.delta.text = text
            message.delta.start_byte = start_byte
        case Citation():
            message.citation.CopyFrom(_from_citation(event))
        case Heartbeat():
            message.heartbeat.SetInParent()
        case Degradation():
            message.warning.CopyFrom(_from_degradation(event))
        case Completed():
            message.completed.CopyFrom(_from_completed(event))
    return message


def _from_started(started: Started) -> answer_pb2.Started:
    return answer_pb2.Started(
        generation=started.generation,
        rewritten_queries=started.rewritten_queries,
        models=[
            answer_pb2.AnswerModel(role=model.role, model=model.model, digest=model.digest) for model in started.models
        ],
    )


def _from_citation(citation: Citation) -> answer_pb2.Citation:
    return answer_pb2.Citation(
        start_byte=citation.start_byte,
        end_byte=citation.end_byte,
        sources=[_from_source(source) for source in citation.sources],
        score=citation.score,
    )


def _from_source(source: Source) -> answer_pb2.CitedSource:
    return answer_pb2.CitedSource(
        passage_index=source.passage_index, start_byte=source.start_byte, end_byte=source.end_byte
    )


def _from_degradation(degradation: Degradation) -> status_pb2.Status:
    status = status_pb2.Status(
        code=code_pb2.UNAVAILABLE, message=f"{degradation.stage} was skipped: {degradation.reason}"
    )
    info = error_details_pb2.ErrorInfo(reason="STAGE_SKIPPED", domain=DOMAIN)
    info.metadata["stage"] = degradation.stage
    info.metadata["reason"] = degradation.reason
    status.details.add().Pack(info)
    return status


def _from_completed(completed: Completed) -> answer_pb2.Completed:
    return answer_pb2.Completed(
        text=completed.text,
        citations=[_from_citation(citation) for citation in completed.citations],
        finish_reason=answer_pb2.FinishReason.Value(completed.reason),
        usage=answer_pb2.Usage(
            passages=completed.passages,
            sentences_scored=completed.sentences_scored,
            tokens_read=completed.tokens_read,
            prompt_tokens=completed.prompt_tokens,
            completion_tokens=completed.completion_tokens,
        ),
        timings=answer_pb2.AnswerTimings(
            search=search_wire.from_timings(completed.search_timings),
            first_delta_us=completed.first_delta_us,
            total_us=completed.total_us,
            queue_us=completed.queue_us,
            verify_us=completed.verify_us,
        ),
        generator=completed.generator,
        model=completed.model,
        unsupported=[answer_pb2.TextSpan(start_byte=start, end_byte=end) for start, end in completed.unsupported],
    )
