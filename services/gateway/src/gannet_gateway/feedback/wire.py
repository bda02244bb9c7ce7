"""Feedback between protobuf and the gateway's own types."""

from gannet.gateway.v1 import feedback_pb2
from gannet_gateway.answers.wire import check_answer_id
from gannet_gateway.documents.wire import to_timestamp
from gannet_gateway.ledger.feedback import Feedback
from gannet_gateway.names import CollectionName, parse_collection
from gannet_service.errors import InvalidInput

COMMENT_BYTES_MAX = 4096
QUERY_BYTES_MAX = 8192
PASSAGE_BYTES_MAX = 1024


def to_feedback(message: feedback_pb2.Feedback, parent: CollectionName, owner: str) -> Feedback:
    """One judgement, every field checked against its limits."""
    answer_id = passage = ""
    match message.WhichOneof("target"):
        case "answer_id":
            answer_id = check_answer_id(message.answer_id, "feedback.answer_id")
        case "passage":
            passage = _check_passage(message.passage, parent)
        case _:
            raise InvalidInput("feedback.target: an answer_id or a passage is required", field="feedback.target")
    if message.rating not in (feedback_pb2.RATING_UP, feedback_pb2.RATING_DOWN):
        raise InvalidInput(f"feedback.rating: {message.rating} is not UP or DOWN", field="feedback.rating")
    return Feedback(
        owner=owner,
        answer_id=answer_id,
        passage=passage,
        rating=feedback_pb2.Rating.Name(message.rating),
        comment=_check_text(message.comment, "feedback.comment", COMMENT_BYTES_MAX),
        query=_check_text(message.query, "feedback.query", QUERY_BYTES_MAX),
    )


def from_feedback(entry: Feedback, parent: CollectionName) -> feedback_pb2.Feedback:
    """One judgement."""
    message = feedback_pb2.Feedback(
        name=f"{parent}/feedback/{entry.id}",
        rating=feedback_pb2.Rating.Value(entry.rating),
        comment=entry.comment,
        query=entry.query,
        create_time=to_timestamp(entry.created_at_s),
    )
    if entry.answer_id:
        message.answer_id = entry.answer_id
    else:
        message.passage = entry.passage
    return message


def _check_passage(name: str, parent: CollectionName) -> str:
    field = "feedback.passage"
    head, document, rest = _check_text(name, field, PASSAGE_BYTES_MAX).partition("/documents/")
    if not document or "/chunks/" not in rest or parse_collection(head, field) != parent:
        raise InvalidInput(f"{field}: {name[:200]!r} is not a passage of {parent}", field=field)
    return f"{parent}/documents/{rest}"


def _check_text(text: str, field: str, bytes_max: int) -> str:
    size = len(text.encode())
    if size > bytes_max or "\x00" in text:
        raise InvalidInput(f"{field}: {size} bytes; the limit is {bytes_max}, without NUL", field=field)
    return text
