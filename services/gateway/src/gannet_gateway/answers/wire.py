"""Answers between protobuf and the gateway's own types."""

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing

from google.rpc import code_pb2, error_details_pb2, status_pb2

from gannet.gateway.v1 import answer_pb2
from gannet_gateway.answers.events import Citation, Completed, Delta, Event, Heartbeat, Retrieved, Started
from gannet_gateway.search import wire as search_wire
from gannet_gateway.search.query import Degradation
from gannet_service.errors import DOMAIN, GannetError, InvalidInput, from_status, to_status

SENTENCES_MAX = 50
TOP_K_MAX = 50

_ANSWER_ID = re.compile(r"[0-9a-f]{32}")


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
        case Started(generation=generation):
            message.started.generation = generation
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


def _from_citation(citation: Citation) -> answer_pb2.Citation:
    return answer_pb2.Citation(
        start_byte=citation.start_byte,
        end_byte=citation.end_byte,
        sources=[
            answer_pb2.CitedSource(
                passage_index=source.passage_index, start_byte=source.start_byte, end_byte=source.end_byte
            )
            for source in citation.sources
        ],
        score=citation.score,
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
        ),
        timings=answer_pb2.AnswerTimings(
            search=search_wire.from_timings(completed.search_timings),
            first_delta_us=completed.first_delta_us,
            total_us=completed.total_us,
        ),
    )
