"""Everything that answers, and what belongs to answers: conversations, feedback, prompts."""

from gannet_gateway.answers.answer import Answerer
from gannet_gateway.answers.servicer import AnswerServicer
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
from gannet_gateway.search.search import Searcher

Servicer = AnswerServicer | ConversationServicer | FeedbackServicer | PromptServicer


def answering(
    config: GatewayConfig,
    database: Database,
    *,
    ledger: Ledger,
    reader: CollectionReader,
    searcher: Searcher,
    generator: Generator,
) -> tuple[Servicer, ...]:
    """The servicers, over what the gateway has opened."""
    conversations = Conversations(database, Bounds.of(config))
    prompts = Prompts(database, versions_max=config.prompt_versions_max)
    answerer = Answerer(searcher, generator, heartbeat_s=config.heartbeat_s)
    return (
        AnswerServicer(reader, answerer, config),
        ConversationServicer(ledger, conversations),
        FeedbackServicer(ledger, FeedbackBook(database, entries_max=config.feedback_max)),
        PromptServicer(ledger, prompts),
    )
