"""Conversations, feedback and prompts over a socket."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from integration.gateway.stack import COLLECTION, TIMEOUT_S, Client, refusal

from gannet.gateway.v1 import (
    collections_pb2,
    collections_pb2_grpc,
    conversations_pb2,
    conversations_pb2_grpc,
    feedback_pb2,
    feedback_pb2_grpc,
    prompts_pb2,
    prompts_pb2_grpc,
)
from gannet_service.errors import InvalidInput, NotFound, PermissionDenied

ANSWER_ID = "0123456789abcdef" * 2


def calls(client: Client, stub: Any) -> Callable[[str, Any], Any]:
    """Makes calls of a service with the client's credentials."""
    service = stub(client.channel)

    def call(method: str, request: Any) -> Any:
        return getattr(service, method)(request, metadata=client.metadata, timeout=TIMEOUT_S)

    return call


@pytest.fixture
async def conversation(client: Client) -> AsyncIterator[conversations_pb2.Conversation]:
    """One conversation of the first tenant."""
    call = calls(client, conversations_pb2_grpc.ConversationServiceStub)
    made = await call(
        "CreateConversation",
        conversations_pb2.CreateConversationRequest(parent=COLLECTION, conversation={"title": "Ptice"}),
    )
    yield made
    await call("DeleteConversation", conversations_pb2.DeleteConversationRequest(name=made.name))


async def test_conversation_is_created_read_listed_and_deleted(client: Client):
    """By its name, and gone after."""
    call = calls(client, conversations_pb2_grpc.ConversationServiceStub)
    parent = conversations_pb2.CreateConversationRequest(parent=COLLECTION, conversation={"title": "Ptice"})
    made = [await call("CreateConversation", parent) for _ in range(2)]
    assert made[0].name.startswith("tenants/first/collections/docs/conversations/")
    assert await call("GetConversation", conversations_pb2.GetConversationRequest(name=made[0].name)) == made[0]
    listing = conversations_pb2.ListConversationsRequest(parent=COLLECTION, page_size=1)
    first = await call("ListConversations", listing)
    listing.page_token = first.next_page_token
    second = await call("ListConversations", listing)
    listed = [*first.conversations, *second.conversations]
    assert sorted(one.name for one in listed) == sorted(one.name for one in made)
    for one in made:
        await call("DeleteConversation", conversations_pb2.DeleteConversationRequest(name=one.name))
        gone = await refusal(call("ListTurns", conversations_pb2.ListTurnsRequest(parent=one.name)))
        assert isinstance(gone, NotFound)


async def test_conversation_of_another_tenant_is_refused(other: Client, conversation: conversations_pb2.Conversation):
    """Under its own name it is forbidden, under the caller's tenant it does not exist."""
    call = calls(other, conversations_pb2_grpc.ConversationServiceStub)
    request = conversations_pb2.GetConversationRequest(name=conversation.name)
    assert isinstance(await refusal(call("GetConversation", request)), PermissionDenied)
    request.name = request.name.replace("tenants/first", "tenants/-")
    assert isinstance(await refusal(call("GetConversation", request)), NotFound)


async def test_feedback_on_an_answer_and_a_passage_is_kept(client: Client):
    """Listed newest first, with the names as this tenant writes them."""
    call = calls(client, feedback_pb2_grpc.FeedbackServiceStub)
    passage = f"{COLLECTION}/documents/a/b.md/chunks/1-0"
    for target in ({"answer_id": ANSWER_ID, "comment": "ne"}, {"passage": passage, "query": "why?"}):
        entry = feedback_pb2.Feedback(rating=feedback_pb2.RATING_DOWN, **target)
        await call("CreateFeedback", feedback_pb2.CreateFeedbackRequest(parent=COLLECTION, feedback=entry))
    listed = await call("ListFeedback", feedback_pb2.ListFeedbackRequest(parent=COLLECTION))
    assert [one.passage or one.answer_id for one in listed.feedback] == [
        "tenants/first/collections/docs/documents/a/b.md/chunks/1-0",
        ANSWER_ID,
    ]
    of_answer = feedback_pb2.ListFeedbackRequest(parent=COLLECTION, answer_id=ANSWER_ID)
    assert [one.comment for one in (await call("ListFeedback", of_answer)).feedback] == ["ne"]


@pytest.mark.parametrize(
    "feedback, field",
    [
        ({"rating": 1}, "feedback.target"),
        ({"rating": 1, "answer_id": "x"}, "feedback.answer_id"),
        ({"answer_id": ANSWER_ID}, "feedback.rating"),
        ({"rating": 7, "answer_id": ANSWER_ID}, "feedback.rating"),
        ({"rating": 1, "passage": "tenants/-/collections/else/documents/a/chunks/1-0"}, "feedback.passage"),
        ({"rating": 1, "answer_id": ANSWER_ID, "comment": "x" * 4097}, "feedback.comment"),
        ({"rating": 1, "answer_id": ANSWER_ID, "query": "\x00"}, "feedback.query"),
    ],
)
async def test_feedback_that_says_nothing_is_refused(feedback: dict[str, Any], field: str, client: Client):
    """The field is named."""
    call = calls(client, feedback_pb2_grpc.FeedbackServiceStub)
    request = feedback_pb2.CreateFeedbackRequest(parent=COLLECTION, feedback=feedback)
    error = await refusal(call("CreateFeedback", request))
    assert (type(error), error.field) == (InvalidInput, field)


async def test_prompts_are_versioned(client: Client):
    """Created twice, read by version and without one, listed, deleted."""
    call = calls(client, prompts_pb2_grpc.PromptServiceStub)
    prompt = {"system": "Answer in {{ language }}.", "user": "{{ sources }} {{ question }}"}
    request = prompts_pb2.CreatePromptRequest(parent=COLLECTION, prompt_id="strict", prompt=prompt)
    first, second = [await call("CreatePrompt", request) for _ in range(2)]
    name = "tenants/first/collections/docs/prompts/strict"
    assert [first.name, second.name] == [f"{name}@1", f"{name}@2"]
    for asked, expected in ((f"{name}@1", first), (name, second)):
        assert await call("GetPrompt", prompts_pb2.GetPromptRequest(name=asked)) == expected
    listed = await call("ListPrompts", prompts_pb2.ListPromptsRequest(parent=COLLECTION))
    assert list(listed.prompts) == [second]
    error = await refusal(call("DeletePrompt", prompts_pb2.DeletePromptRequest(name=first.name)))
    assert isinstance(error, InvalidInput)
    await call("DeletePrompt", prompts_pb2.DeletePromptRequest(name=name))
    assert isinstance(await refusal(call("GetPrompt", prompts_pb2.GetPromptRequest(name=name))), NotFound)


async def test_prompt_with_a_bad_template_is_refused(client: Client):
    """The field is named."""
    call = calls(client, prompts_pb2_grpc.PromptServiceStub)
    prompt = {"system": "s", "user": "{{ question.__class__ }} {{ sources }}"}
    request = prompts_pb2.CreatePromptRequest(parent=COLLECTION, prompt_id="bad", prompt=prompt)
    error = await refusal(call("CreatePrompt", request))
    assert (type(error), error.field) == (InvalidInput, "prompt.user")


async def test_follow_up_in_a_conversation_is_answered_from_what_it_is_about(
    client: Client, conversation: conversations_pb2.Conversation
):
    """The second question names nothing, and finds the first one's subject; both are turns."""
    call = calls(client, conversations_pb2_grpc.ConversationServiceStub)
    first = await client.answer("When is the yield expression used?", conversation=conversation.name)
    second = await client.answer("And what does it return?", conversation=conversation.name)
    assert list(first[0].started.rewritten_queries) == []
    assert list(second[0].started.rewritten_queries) == ["yield expression used And what does it return?"]
    assert second[1].retrieved.passages[0].document.endswith("/yield.md")
    listed = await call("ListTurns", conversations_pb2.ListTurnsRequest(parent=conversation.name))
    assert [turn.question for turn in listed.turns] == [
        "When is the yield expression used?",
        "And what does it return?",
    ]
    assert [turn.answer_id for turn in listed.turns] == [first[0].answer_id, second[0].answer_id]
    assert listed.turns[0].answer == first[-1].completed.text
    assert (
        await call("GetConversation", conversations_pb2.GetConversationRequest(name=conversation.name))
    ).turn_count == 2


async def test_answer_in_another_tenants_conversation_is_refused(
    other: Client, conversation: conversations_pb2.Conversation
):
    """As if there were none."""
    await other.create("docs")
    name = conversation.name.replace("tenants/first", "tenants/-")
    assert isinstance(await refusal(other.answer("Why?", conversation=name)), NotFound)
    await other.delete_collection(COLLECTION)


async def test_collection_with_a_generator_that_is_not_there_warns_and_answers(client: Client):
    """The chain of the collection, until another one is set; the request's own chain replaces it."""
    await client.create("chained", generators=["none", "extractive"])
    parent = "tenants/-/collections/chained"
    await client.upload([("a.txt", "The gannet dives from 30 metres.")], parent)
    assert list((await client.collection(parent)).generators) == ["none", "extractive"]
    events = await client.answer("How deep does the gannet dive?", parent)
    warnings = [event.warning.message for event in events if event.WhichOneof("event") == "warning"]
    assert warnings == ["generator/none was skipped: NOT_FOUND"]
    assert (events[-1].completed.generator, events[-1].completed.text) == (
        "extractive",
        "The gannet dives from 30 metres.",
    )
    update = collections_pb2.UpdateCollectionRequest(collection={"name": parent, "generators": ["extractive"]})
    update.update_mask.paths.append("generators")
    collections = calls(client, collections_pb2_grpc.CollectionServiceStub)
    assert list((await collections("UpdateCollection", update)).generators) == ["extractive"]
    events = await client.answer("How deep does the gannet dive?", parent)
    assert not any(event.WhichOneof("event") == "warning" for event in events)
    update.collection.generators.append("no name")
    error = await refusal(collections("UpdateCollection", update))
    assert (type(error), error.field) == (InvalidInput, "collection.generators")
    error = await refusal(client.answer("Why?", parent, generation={"generators": ["none"]}))
    assert (type(error), error.field) == (NotFound, "generation.generators")
    await client.delete_collection(parent)
