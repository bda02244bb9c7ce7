"""From what was asked to a question with everything looked up: collection, conversation, prompt, generators."""

from dataclasses import dataclass

from gannet_gateway.answers.prompt import BUILT_IN, Template
from gannet_gateway.answers.question import Question
from gannet_gateway.answers.standalone import TURNS_MAX
from gannet_gateway.cache.keys import normalised
from gannet_gateway.cache.prompts import PromptReader
from gannet_gateway.cache.reader import CollectionReader
from gannet_gateway.clients import Sampling
from gannet_gateway.config import GatewayConfig
from gannet_gateway.ledger.conversations import Conversations
from gannet_gateway.ledger.records import Collection
from gannet_gateway.names import CollectionName, ConversationName, PromptName
from gannet_gateway.owner import owner
from gannet_gateway.search.query import Options, Query
from gannet_service.errors import InvalidInput, NotFound

TOP_K_DEFAULT = 5
CLAIM_TOP_K_DEFAULT = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request, checked by itself; `prompt` is a prompt's id and version, and empty where it names none.

    `staleness_s_max` is how old the generation may be that is answered from, seconds.
    """

    parent: CollectionName
    text: str
    options: Options
    sentences_max: int
    generators: tuple[str, ...]
    sampling: Sampling
    language: str
    prompt: tuple[str, int | None]
    conversation: ConversationName | None
    staleness_s_max: float = 0.0


class Questions:
    """Looks up what a request names."""

    def __init__(
        self, reader: CollectionReader, conversations: Conversations, prompts: PromptReader, config: GatewayConfig
    ) -> None:
        self._reader = reader
        self._conversations = conversations
        self._prompts = prompts
        self._config = config

    async def read(self, asked: Asked, answer_id: str) -> Question:
        """The question that `asked` stands for.

        Raises:
            NotFound: the collection, the conversation or the prompt does not exist.
            Overloaded: the conversation has no room for another turn.
            InvalidInput: options that do not go together.
        """
        collection = await self._reader.collection_settings(asked.parent, asked.staleness_s_max)
        turns = ()
        if asked.conversation is not None:
            if asked.conversation.parent != asked.parent:
                raise InvalidInput(f"conversation: it is not about {asked.parent}", field="conversation")
            conversation = await self._conversations.get(asked.conversation, owner())
            self._conversations.check_room(conversation, len(asked.text.encode()))
            turns = await self._conversations.recent(asked.conversation, limit=TURNS_MAX)
        return Question(
            answer_id=answer_id,
            collection=collection,
            query=Query.of(
                normalised(asked.text), asked.options, collection, self._config, top_k_default=TOP_K_DEFAULT
            ),
            generators=asked.generators or collection.generators or self._config.generators or ("",),
            template=await self._template(asked),
            sampling=asked.sampling,
            sentences_max=asked.sentences_max,
            language=asked.language,
            conversation=asked.conversation,
            owner=owner(),
            turns=turns,
        )

    async def search(self, parent: CollectionName, text: str, options: Options) -> tuple[Collection, Query]:
        """A collection, and how to search it for the sentences of `text`; raises NotFound."""
        collection = await self._reader.collection_settings(parent)
        return collection, Query.of(text, options, collection, self._config, top_k_default=CLAIM_TOP_K_DEFAULT)

    async def _template(self, asked: Asked) -> Template:
        prompt_id, version = asked.prompt
        name = PromptName(asked.parent.tenant, asked.parent.collection, prompt_id or BUILT_IN.name)
        found = await self._prompts.find(name, version)
        if found is not None:
            return Template(name=prompt_id, version=found.version, system=found.system, user=found.user)
        if prompt_id:
            raise NotFound(f"{name} does not exist in that version", field="prompt")
        return BUILT_IN
