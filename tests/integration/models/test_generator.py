"""The generator's contract over a socket."""

import grpc
import pytest

from gannet.generator.v1 import generator_pb2 as pb
from gannet.generator.v1.generator_pb2_grpc import GeneratorStub
from gannet_service.errors import InvalidInput, NotFound

QUESTION = "How deep does a gannet dive?"
DEPTH = "A gannet dives as deep as 22 metres below the surface."
CLIFFS = "Gannets nest on cliffs — often “thousands” of them together."
SOURCES = [
    f"# Breeding\n\n{CLIFFS} The lighthouse was built in 1903.",
    f"Diving\n======\n\nCafé notes. {DEPTH} Its deepest recorded dive, in pursuit of fish, reached 34 metres.",
    f"{DEPTH} The weather was fine.",
]


@pytest.fixture
def generator(generator_address, open_channel) -> GeneratorStub:
    """A stub of the running generator."""
    return GeneratorStub(open_channel(generator_address))


def ask(question=QUESTION, sources=SOURCES, sentences_max=0) -> pb.GenerateRequest:
    """A request with the sources of this module, unless told otherwise."""
    return pb.GenerateRequest(
        question=question,
        sources=[pb.Source(text=text, title="Never quoted") for text in sources],
        sentences_max=sentences_max,
    )


async def events_of(call) -> list[tuple[str, object]]:
    """The stream's events, each with its name."""
    return [(reply.WhichOneof("event"), getattr(reply, reply.WhichOneof("event"))) async for reply in call]


async def test_info_of_the_default_generator_names_it_and_its_limits(generator):
    """Info says how answers are made, by which model, and what a request may hold."""
    info = await generator.Info(pb.InfoRequest())
    assert (info.generator, info.model) == ("extractive", "reranker-minilm-l6-qa")
    assert info.precision in ("int8", "fp32")
    assert (info.sources_max, info.text_bytes_max, info.sentences_max) == (4, 4096, 3)
    assert len(bytes.fromhex(info.model_digest)) == 32


async def test_info_lists_the_generators_and_what_verifies(generator):
    """The default server has one generator, which quotes; claims are verified by the same model."""
    info = await generator.Info(pb.InfoRequest())
    (only,) = info.generators
    assert (only.name, only.kind, only.model, only.free_text) == ("extractive", "extractive", info.model, False)
    assert (only.model_digest, only.threshold) == (info.model_digest, info.threshold)
    assert (info.verify_model, info.verify_model_digest) == (info.model, info.model_digest)
    assert 0 < info.verify_threshold < 1


async def test_generate_streams_the_answer_with_citations_that_quote_byte_for_byte(generator):
    """Deltas and citations alternate, each citation's bytes stand in the answer and in each source, and Finished comes last."""
    events = await events_of(generator.Generate(ask()))
    names = [name for name, _ in events]
    assert names == ["delta", "citation"] * (len(events) // 2) + ["finished"]
    answer = b""
    for name, event in events:
        if name == "delta":
            assert event.text
            answer += event.text.encode()
        elif name == "citation":
            assert event.end_byte == len(answer)
            assert event.sources
            for span in event.sources:
                source = SOURCES[span.source_index].encode()
                assert source[span.start_byte : span.end_byte] == answer[event.start_byte : event.end_byte]
    assert answer.decode().startswith(DEPTH)
    assert b"Never quoted" not in answer


async def test_generate_with_a_sentence_in_two_sources_cites_both_at_once(generator):
    """The same sentence is said once, and its citation names every place it stands, best source first."""
    events = await events_of(generator.Generate(ask(sentences_max=1)))
    (citation,) = [event for name, event in events if name == "citation"]
    assert [span.source_index for span in citation.sources] == [1, 2]


async def test_generate_with_a_title_reads_it(generator):
    """What "it" is can be told from the title alone, and the sentence scores higher for it."""
    scores = []
    for title in ("The lighthouse", "The gannet"):
        source = pb.Source(text="It dives as deep as 22 metres below the surface.", title=title)
        events = await events_of(generator.Generate(pb.GenerateRequest(question=QUESTION, sources=[source])))
        scores.append(events[-1][1].best_score)
    assert scores[1] > scores[0]


async def test_generate_finishes_with_what_it_read(generator):
    """The end says why it ended, the best logit, and how much the model read."""
    events = await events_of(generator.Generate(ask(sentences_max=50)))
    finished = events[-1][1]
    info = await generator.Info(pb.InfoRequest())
    citations = [event for name, event in events if name == "citation"]
    assert finished.reason == pb.FINISH_REASON_STOP
    assert finished.best_score == citations[0].score == max(citation.score for citation in citations)
    assert min(citation.score for citation in citations) >= info.threshold
    # The heading, the two-word sentence and the repeated one are not read.
    assert finished.sentences_scored == 5
    assert finished.tokens_read > 5 * 10


async def test_generate_with_fewer_sentences_than_there_are_ends_by_length(generator):
    """sentences_max bounds the answer, and the end says that there was more."""
    sources = [DEPTH, "When hunting, gannets usually dive to a depth of 10 metres."]
    events = await events_of(generator.Generate(ask(sources=sources, sentences_max=1)))
    assert [name for name, _ in events] == ["delta", "citation", "finished"]
    assert events[-1][1].reason == pb.FINISH_REASON_LENGTH


async def test_generate_of_an_unanswerable_question_says_nothing(generator):
    """No delta and no citation: an explicit end, with a best score below the threshold."""
    events = await events_of(generator.Generate(ask(question="Who was the first president of France?")))
    info = await generator.Info(pb.InfoRequest())
    assert [name for name, _ in events] == ["finished"]
    assert events[0][1].reason == pb.FINISH_REASON_NO_ANSWER
    assert events[0][1].best_score < info.threshold


@pytest.mark.parametrize("source", ["", "```\nprint('what is a gannet')\n```\n", "Heading only\n============\n"])
async def test_generate_without_any_sentence_says_nothing(generator, source):
    """Sources without a sentence have no answer, and the model reads nothing."""
    events = await events_of(generator.Generate(ask(sources=[source])))
    assert [name for name, _ in events] == ["finished"]
    finished = events[0][1]
    assert (finished.reason, finished.best_score) == (pb.FINISH_REASON_NO_ANSWER, 0.0)
    assert (finished.sentences_scored, finished.tokens_read) == (0, 0)


async def test_generate_twice_gives_the_same_stream(generator):
    """The answer is a function of the request; only the times differ."""
    answers = []
    for _ in range(2):
        events = await events_of(generator.Generate(ask()))
        timings = events[-1][1].timings
        assert 0 <= timings.queue_us <= timings.first_token_us <= timings.total_us
        events[-1][1].ClearField("timings")
        answers.append(events)
    assert answers[0] == answers[1]


async def test_generate_by_name_tells_who_answered(generator):
    """The name of Info selects the generator, and the end of the stream says which it was."""
    request = ask()
    request.generator = "extractive"
    events = await events_of(generator.Generate(request))
    finished = events[-1][1]
    assert (finished.generator, finished.model) == ("extractive", "reranker-minilm-l6-qa")


async def test_generate_by_an_unknown_name_is_not_found(generator, refusal):
    """The refusal names those that there are."""
    request = ask()
    request.generator = "fluent"
    error = await refusal(events_of(generator.Generate(request)))
    assert (type(error), error.field) == (NotFound, "generator")
    assert "extractive" in error.message


async def test_count_tokens_of_texts_counts_each_alone(generator):
    """Words of the vocabulary are a token each, and nothing is added to them."""
    request = pb.CountTokensRequest(texts=["the bird", "", "the bird can fly"])
    request.messages.add(role=pb.ROLE_USER, content="the bird")
    counts = await generator.CountTokens(request)
    assert (list(counts.text_tokens), counts.prompt_tokens, counts.exact) == ([2, 0, 4], 2, True)


async def test_verify_supports_what_the_sources_say_and_nothing_else(generator):
    """A claim from the sources is supported where it stands; one with another number, and one about something else, are not."""
    claims = [
        "A gannet dives as deep as 22 metres.",
        "A gannet dives as deep as 58 metres.",
        "Paris lies on the Seine.",
    ]
    sources = [pb.Source(text=text, title="Gannet") for text in SOURCES]
    response = await generator.Verify(pb.VerifyRequest(claims=claims, sources=sources, spans_max=1))
    assert [verdict.supported for verdict in response.verdicts] == [True, False, False]
    (best,) = response.verdicts[0].spans
    source = SOURCES[best.span.source_index].encode()
    assert source[best.span.start_byte : best.span.end_byte].decode() == DEPTH
    assert best.score == response.verdicts[0].score
    assert response.tokens_read > 0


@pytest.mark.parametrize(
    "request_, field",
    [
        (ask(question=""), "question"),
        (ask(question=" \t"), "question"),
        (ask(question="é" * 2049), "question"),
        (ask(question="x" * 10_000_000), "question"),
        (ask(sources=[]), "sources"),
        (ask(sources=["x"] * 5), "sources"),
        (ask(sources=["x", "x" * 4097]), "sources[1].text"),
        (ask(sentences_max=51), "sentences_max"),
    ],
)
async def test_generate_with_a_wrong_field_is_refused_by_its_name(generator, refusal, request_, field):
    """Every fault is INVALID_ARGUMENT with the field in the details, and nothing is streamed before it."""
    error = await refusal(events_of(generator.Generate(request_)))
    assert (type(error), error.field) == (InvalidInput, field)


async def test_generate_with_a_message_of_no_role_is_refused_by_its_place(generator, refusal):
    """A role that is left out is named, also to a generator that does not read messages."""
    request = ask()
    request.messages.add(role=pb.ROLE_USER, content="x")
    request.messages.add(content="x")
    error = await refusal(events_of(generator.Generate(request)))
    assert (type(error), error.field) == (InvalidInput, "messages[1].role")


async def test_generate_of_invalid_utf8_is_refused_by_the_fields_name(generator_address, open_channel, refusal):
    """Bytes that are no text are the caller's fault, and the field is named."""
    raw = open_channel(generator_address).unary_stream("/gannet.generator.v1.Generator/Generate")

    async def drain() -> None:
        async for _ in raw(b"\x0a\x01x\x12\x04\x0a\x02\xff\xfe"):
            pass

    error = await refusal(drain())
    assert (type(error), error.field) == (InvalidInput, "sources.text")


async def test_generate_past_its_deadline_is_deadline_exceeded(generator):
    """A deadline that cannot be met ends the stream with its own status."""
    text = " ".join(f"Number {place} is a sentence about gannets that dive." for place in range(70))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await events_of(generator.Generate(ask(sources=[text]), timeout=0.01))
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
