"""Everything that answers, and what belongs to answers: conversations, feedback, prompts."""

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from gannet_gateway.answers.answer import Answerer
from gannet_gateway.answers.cached import AnswerCache
from gannet_gateway.answers.questions import Questions
from gannet_gateway.answers.resume import Keeping, ResumableAnswers
from gannet_gateway.answers.servicer import AnswerServicer
from gannet_gateway.answers.shared_log import SharedLog
from gannet_gateway.answers.verification import Verifier
from gannet_gateway.cache.build import Caches
from gannet_gateway.cache.prompts import PromptReader
from gannet_gateway.cache.reader import CollectionReader
from gannet_gateway.clients import Generator
from gannet_gateway.config import GatewayConfig
from gannet_gateway.conversations.servicer import ConversationServicer
from gannet_gateway.feedback.servicer import FeedbackServicer
from gannet_gateway.ledger.conversations import Bounds, Conversations
from gannet_gateway.ledger.engine import Database
from gannet_gateway.ledger.feedback import FeedbackBook
from gannet_gateway.ledger.ledger import Ledger
from gannet_gateway.ledger.prompts import Prompts
from gannet_gateway.prompts.servicer import PromptServicer
from gannet_gateway.search.clients import Reranker
from gannet_gateway.search.search import Searcher

# A gateway that says nothing for so many heartbeats is gone.
HEARTBEATS_MISSED = 4

Servicer = AnswerServicer | ConversationServicer | FeedbackServicer | PromptServicer


class Answering(NamedTuple):
    """What to serve, and how to end it."""

    servicers: tuple[Servicer, ...]
    close: Callable[[], Awaitable[None]]


def answering(
    config: GatewayConfig,
    database: Database,
    *,
    ledger: Ledger,
    reader: CollectionReader,
    searcher: Searcher,
    generator: Generator,
    reranker: Reranker,
    caches: Caches,
    charge_tokens: Callable[[str, int], Awaitable[None]],
) -> Answering:
    """The servicers, over what the gateway has opened; `charge_tokens` counts what a tenant's answer took."""
    conversations = Conversations(database, Bounds.of(config))
    prompts = Prompts(database, versions_max=config.prompt_versions_max)
    answerer = Answerer(searcher, generator, conversations, config)
    questions = Questions(reader, conversations, PromptReader(prompts.find, database.version), config)
    cache = AnswerCache(caches.answers, generator, reranker) if caches.answers else None
    resumable = ResumableAnswers(_keeping(config), _shared_log(config, caches))
    servicers = (
        AnswerServicer(
            questions,
            answerer,
            cache=cache,
            verifier=Verifier(searcher, generator, config),
            resumable=resumable,
            config=config,
            charge_tokens=charge_tokens,
        ),
        ConversationServicer(ledger, conversations),
        FeedbackServicer(ledger, FeedbackBook(database, entries_max=config.feedback_max)),
        PromptServicer(ledger, prompts),
    )
    return Answering(servicers, resumable.close)


def _keeping(config: GatewayConfig) -> Keeping:
    return Keeping(
        grace_s=config.resume_grace_s,
        keep_s=config.resume_keep_s,
        answers_max=config.resumable_answers_max,
        bytes_max=config.resumable_bytes_max,
    )


def _shared_log(config: GatewayConfig, caches: Caches) -> SharedLog | None:
    if caches.shared is None:
        return None
    return SharedLog(
        caches.shared,
        keep_s=config.resume_keep_s,
        attended_s=max(1.0, config.resume_grace_s),
        silence_max_s=HEARTBEATS_MISSED * config.heartbeat_s,
    )
