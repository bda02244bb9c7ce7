"""PromptService on the wire."""

from typing import Any

from google.protobuf.empty_pb2 import Empty

from gannet.gateway.v1 import prompts_pb2, prompts_pb2_grpc
from gannet_gateway.documents.wire import to_timestamp
from gannet_gateway.ledger.ledger import Ledger
from gannet_gateway.ledger.prompts import Prompt, Prompts
from gannet_gateway.names import PromptName, check_collection_id, parse_collection, parse_prompt
from gannet_gateway.paging import page_size, read_token, write_token
from gannet_gateway.prompts.templates import check_template
from gannet_service.errors import InvalidInput, NotFound


class PromptServicer(prompts_pb2_grpc.PromptServiceServicer):
    """See prompts.proto."""

    def __init__(self, ledger: Ledger, prompts: Prompts) -> None:
        self._ledger = ledger
        self._prompts = prompts

    def add_to(self, server: Any) -> None:
        """Serve it."""
        prompts_pb2_grpc.add_PromptServiceServicer_to_server(self, server)

    async def CreatePrompt(self, request: prompts_pb2.CreatePromptRequest, context: Any) -> prompts_pb2.Prompt:  # noqa: N802
        del context
        parent = parse_collection(request.parent, "parent")
        name = PromptName(parent.tenant, parent.collection, check_collection_id(request.prompt_id, "prompt_id"))
        system = check_template("system", request.prompt.system, "prompt.system")
        user = check_template("user", request.prompt.user, "prompt.user")
        return _to_wire(await self._prompts.create(name, system=system, user=user))

    async def GetPrompt(self, request: prompts_pb2.GetPromptRequest, context: Any) -> prompts_pb2.Prompt:  # noqa: N802
        del context
        name, version = parse_prompt(request.name, "name")
        found = await self._prompts.find(name, version)
        if found is None:
            raise NotFound(f"{name} does not exist in that version", field="name")
        return _to_wire(found)

    async def ListPrompts(  # noqa: N802
        self, request: prompts_pb2.ListPromptsRequest, context: Any
    ) -> prompts_pb2.ListPromptsResponse:
        del context
        parent = parse_collection(request.parent, "parent")
        await self._ledger.collection_settings(parent)
        scope = f"{parent}/prompts"
        after = read_token(scope, request.page_token)
        page = await self._prompts.list(parent, after=after, limit=page_size(request.page_size))
        return prompts_pb2.ListPromptsResponse(
            prompts=[_to_wire(prompt) for prompt in page.items], next_page_token=write_token(scope, page.next_after)
        )

    async def DeletePrompt(self, request: prompts_pb2.DeletePromptRequest, context: Any) -> Empty:  # noqa: N802
        del context
        name, version = parse_prompt(request.name, "name")
        if version is not None:
            raise InvalidInput("name: versions never change; name the prompt without one", field="name")
        await self._prompts.delete(name)
        return Empty()


def _to_wire(prompt: Prompt) -> prompts_pb2.Prompt:
    return prompts_pb2.Prompt(
        name=f"{prompt.name}@{prompt.version}",
        version=prompt.version,
        system=prompt.system,
        user=prompt.user,
        create_time=to_timestamp(prompt.created_at_s),
    )
