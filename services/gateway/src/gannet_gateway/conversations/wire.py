"""Conversations between protobuf and the gateway's own types."""

from gannet.gateway.v1 import answer_pb2, conversations_pb2
from gannet_gateway.documents.wire import to_timestamp
from gannet_gateway.ledger.conversations import Conversation, Turn
from gannet_service.errors import InvalidInput

TITLE_BYTES_MAX = 200


def check_title(title: str) -> str:
    """The title if it may be one."""
    size = len(title.encode())
    if size > TITLE_BYTES_MAX or "\x00" in title:
        problem = f"conversation.title: {size} bytes; the limit is {TITLE_BYTES_MAX}, without NUL"
        raise InvalidInput(problem, field="conversation.title")
    return title


def from_conversation(conversation: Conversation) -> conversations_pb2.Conversation:
    """A conversation."""
    return conversations_pb2.Conversation(
        name=str(conversation.name),
        title=conversation.title,
        turn_count=conversation.turn_count,
        create_time=to_timestamp(conversation.created_at_s),
        update_time=to_timestamp(conversation.updated_at_s),
    )


def from_turn(turn: Turn) -> conversations_pb2.Turn:
    """A turn."""
    return conversations_pb2.Turn(
        ordinal=turn.ordinal,
        answer_id=turn.answer_id,
        question=turn.question,
        answer=turn.answer,
        finish_reason=answer_pb2.FinishReason.Value(turn.finish_reason),
        generation=turn.generation,
        create_time=to_timestamp(turn.created_at_s),
    )
