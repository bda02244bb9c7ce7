"""What must hold for every whole answer on the wire."""

from collections.abc import Sequence

from integration.gateway.stack import Client

from gannet.gateway.v1 import answer_pb2
from gannet_gateway.answers.sentences import split_sentences


def check_stream(events: Sequence[answer_pb2.AnswerEvent]) -> tuple[bytes, list[answer_pb2.Citation]]:
    """The invariants of a stream up to wherever it ended; the text that was said, and its citations."""
    assert [event.seq for event in events] == list(range(len(events)))
    assert len({event.answer_id for event in events}) == 1
    kinds = [event.WhichOneof("event") for event in events]
    assert kinds[0] == "started"
    assert [kinds.count(kind) for kind in ("started", "retrieved")] == [1, 1]
    text, citations = b"", []
    for event, kind in zip(events, kinds, strict=True):
        if kind in ("delta", "citation"):
            assert event.seq > kinds.index("retrieved")
        if kind == "delta":
            assert (event.delta.start_byte, bool(event.delta.text)) == (len(text), True)
            text += event.delta.text.encode()
        if kind == "citation":
            assert event.citation.start_byte < event.citation.end_byte <= len(text)
            assert event.citation.sources
            citations.append(event.citation)
    return text, citations


async def check_answer(
    events: Sequence[answer_pb2.AnswerEvent], client: Client, *, quotes: bool = True
) -> answer_pb2.Completed:
    """Every invariant of a whole answer, its sources read back from the service.

    `quotes`: what is cited is said word for word; otherwise each sentence is either cited or flagged.
    """
    text, citations = check_stream(events)
    kinds = [event.WhichOneof("event") for event in events]
    assert (kinds.count("completed"), kinds[-1]) == (1, "completed")
    completed = events[-1].completed
    assert completed.text.encode() == text
    assert list(completed.citations) == citations
    passages = events[kinds.index("retrieved")].retrieved.passages
    for citation in citations:
        for source in citation.sources:
            passage = passages[source.passage_index]
            assert passage.start_byte <= source.start_byte < source.end_byte <= passage.end_byte
            record = await client.document(passage.document, source.start_byte, source.end_byte)
            start = source.start_byte - passage.start_byte
            assert record.text == passage.text.encode()[start : start + len(record.text)]
            if quotes:
                assert record.text == text[citation.start_byte : citation.end_byte]
    if not quotes:
        spans = {(one.start_byte, one.end_byte) for one in split_sentences(completed.text)}
        cited = {(one.start_byte, one.end_byte) for one in citations}
        flagged = {(one.start_byte, one.end_byte) for one in completed.unsupported}
        assert (cited | flagged, cited & flagged) == (spans, set())
    return completed
