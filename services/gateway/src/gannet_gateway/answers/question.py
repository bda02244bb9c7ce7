"""A question with everything that decides its answer filled in."""

from dataclasses import dataclass

from gannet_gateway.answers.prompt import Template
from gannet_gateway.clients import Sampling
from gannet_gateway.ledger.conversations import Turn
from gannet_gateway.ledger.records import Collection
from gannet_gateway.names import ConversationName
from gannet_gateway.search.query import Query


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What to answer, and how.

    Attributes:
        answer_id: names the answer.
        collection: what to answer from, read once.
        query: the question as it was asked, and how to search for it.
        generators: names of generators in the order in which they are tried; "" is the generator server's first.
        template: what generators that write freely are told.
        sampling: how they choose tokens.
        sentences_max: bound for those that quote; 0 leaves it to them.
        language: code of the language to answer in; empty is the question's.
        conversation: where question and answer become the next turn.
        owner: whose conversation that is.
        turns: its last turns, oldest first.
    """

    answer_id: str
    collection: Collection
    query: Query
    generators: tuple[str, ...]
    template: Template
    sampling: Sampling
    sentences_max: int = 0
    language: str = ""
    conversation: ConversationName | None = None
    owner: str = ""
    turns: tuple[Turn, ...] = ()

    @property
    def history(self) -> tuple[tuple[str, str], ...]:
        """(question, answer) of the turns before, oldest first."""
        return tuple((turn.question, turn.answer) for turn in self.turns)
