"""How to answer, conversations and verified texts, as frozen values."""

from dataclasses import dataclass
from datetime import datetime

from gannet_client.search_types import Passage
from gannet_client.types import CitedSource, FinishReason


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerOptions:
    """How to answer. None and empty leave a choice to the collection or the server.

    Attributes:
        sentences_max: most sentences of a generator that quotes, 1 to 50; 0 is its default.
        generators: names of generators, at most 4, tried in order while nothing has been said.
        temperature: 0 takes the likeliest token, to 2. This and what follows is read by generators that write freely.
        top_p: keep the likeliest tokens whose chances sum to this, above 0 to 1.
        max_tokens: most tokens; 0 is the generator's default.
        stop: strings that end the answer, at most 16.
        seed: makes the choice of tokens repeatable.
        language: code of the language to answer in, ISO 639-1.
        prompt: id of a prompt of the collection, or "id@version".
        conversation: resource name of a conversation: the question may refer to its turns, and becomes the next one.
        resumable: keep the answer for a while, so that a stream that breaks is gone on with.
    """

    sentences_max: int = 0
    generators: tuple[str, ...] = ()
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int = 0
    stop: tuple[str, ...] = ()
    seed: int | None = None
    language: str = ""
    prompt: str = ""
    conversation: str = ""
    resumable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A sentence of a text that was verified, by its bytes, and what supports it; `score` is a likelihood, 0 to 1."""

    start_byte: int
    end_byte: int
    score: float
    supported: bool
    sources: tuple[CitedSource, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """Claims in order, and the passages that were found for them; without any, sources count in the passages that were given."""

    claims: tuple[Claim, ...]
    passages: tuple[Passage, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """What was asked and answered; see `Turn`."""

    name: str
    title: str
    turn_count: int
    create_time: datetime
    update_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A question and its answer; `ordinal` counts from 1."""

    ordinal: int
    answer_id: str
    question: str
    answer: str
    finish_reason: FinishReason
