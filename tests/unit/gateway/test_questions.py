"""What is looked up for a question before it is answered."""

import pytest
from unit.gateway.fakes import collection_record

from gannet.gateway.v1 import answer_pb2
from gannet_gateway.answers import wire
from gannet_gateway.answers.questions import Questions
from gannet_gateway.config import GatewayConfig
from gannet_gateway.ledger.prompts import Prompt
from gannet_gateway.ledger.records import Collection
from gannet_gateway.names import CollectionName, PromptName


class Shelf:
    """Collections and prompts; remembers how old the collection might be."""

    staleness_s_max = -1.0

    async def collection_settings(self, _name: CollectionName, staleness_s_max: float = 0.0) -> Collection:
        """Always the same one."""
        self.staleness_s_max = staleness_s_max
        return collection_record()

    async def find(self, _name: PromptName, _number: int | None) -> Prompt | None:
        """There is none."""
        return None


@pytest.mark.parametrize(
    "given, understood", [({}, 0.0), ({"seconds": 1, "nanos": 500_000_000}, 1.5), ({"seconds": 60}, 60.0)]
)
async def test_question_is_answered_from_a_generation_as_old_as_its_caller_accepts(
    given: dict[str, int], understood: float
):
    """The latest, unless the caller says otherwise."""
    shelf, config = Shelf(), GatewayConfig()
    request = answer_pb2.AnswerRequest(parent="tenants/acme/collections/docs", query="why?", max_staleness=given)
    await Questions(shelf, None, shelf, config).read(wire.to_asked(request, config), "a" * 32)
    assert shelf.staleness_s_max == understood
