"""FeedbackService on the wire."""

from typing import Any

from gannet.gateway.v1 import feedback_pb2, feedback_pb2_grpc
from gannet_gateway.answers.wire import check_answer_id
from gannet_gateway.feedback import wire
from gannet_gateway.ledger.feedback import FeedbackBook
from gannet_gateway.ledger.ledger import Ledger
from gannet_gateway.names import parse_collection
from gannet_gateway.owner import owner
from gannet_gateway.paging import page_size, read_token, write_token


class FeedbackServicer(feedback_pb2_grpc.FeedbackServiceServicer):
    """See feedback.proto."""

    def __init__(self, ledger: Ledger, book: FeedbackBook) -> None:
        self._ledger = ledger
        self._book = book

    def add_to(self, server: Any) -> None:
        """Serve it."""
        feedback_pb2_grpc.add_FeedbackServiceServicer_to_server(self, server)

    async def CreateFeedback(  # noqa: N802
        self, request: feedback_pb2.CreateFeedbackRequest, context: Any
    ) -> feedback_pb2.Feedback:
        del context
        parent = parse_collection(request.parent, "parent")
        entry = wire.to_feedback(request.feedback, parent, owner())
        return wire.from_feedback(await self._book.add(parent, entry), parent)

    async def ListFeedback(  # noqa: N802
        self, request: feedback_pb2.ListFeedbackRequest, context: Any
    ) -> feedback_pb2.ListFeedbackResponse:
        del context
        parent = parse_collection(request.parent, "parent")
        answer_id = check_answer_id(request.answer_id, "answer_id") if request.answer_id else ""
        await self._ledger.collection_settings(parent)
        scope = f"{parent}/feedback/{answer_id}"
        before = read_token(scope, request.page_token)
        limit = page_size(request.page_size)
        page = await self._book.list(parent, answer_id=answer_id, before=before, limit=limit)
        return feedback_pb2.ListFeedbackResponse(
            feedback=[wire.from_feedback(entry, parent) for entry in page.items],
            next_page_token=write_token(scope, page.next_after),
        )
