"""Answers through an upstream, against a server on a real socket that behaves well, badly, and not at all."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace

import pytest
from fakes.openai_server import DONE, Cut, OpenAiServer, Reply, Stall, chunk, event, refusal, serving, usage

from gannet_generator.generation import Delta, Event, Finished, Message, Request, Sampling, TokenLogprob, Usage
from gannet_generator.upstream.generator import Upstream, UpstreamGenerator
from gannet_generator.upstream.key import KeyFile
from gannet_service.errors import DependencyUnavailable, GannetError, InvalidInput, Overloaded, PermissionDenied

UPSTREAM = Upstream(
    name="fluent",
    base_url="",
    model="wader",
    tokens_max=200,
    tokens_default=100,
    tokens_field="max_tokens",
    context_tokens_max=0,
    streams_max=2,
    queue_max=1,
    attempts_max=3,
    backoff_s=0.0,
    connect_timeout_s=5.0,
    first_token_timeout_s=20.0,
    next_token_timeout_s=20.0,
)
ASK = Request(messages=[Message(role="user", content="How deep?")])
WELL = Reply(steps=[chunk(), chunk("22 "), chunk("metres"), chunk(finish="stop"), usage(7, 2), DONE])


@pytest.fixture
async def server() -> AsyncIterator[OpenAiServer]:
    """A server that answers well unless told otherwise."""
    async with serving() as server:
        server.replies = [WELL]
        yield server


@pytest.fixture
async def make(server: OpenAiServer) -> AsyncIterator:
    """Makes generators that ask the server and are closed with the test."""
    made: list[UpstreamGenerator] = []

    def generator(*, key: KeyFile | None = None, **changes) -> UpstreamGenerator:
        upstream = replace(UPSTREAM, **{"base_url": server.base_url} | changes)
        made.append(UpstreamGenerator(upstream, key or KeyFile(None)))
        return made[-1]

    yield generator
    for one in made:
        await one.close()


async def answer(generator: UpstreamGenerator, request: Request = ASK) -> list[Event]:
    """Every event of an answer."""
    return [event async for event in generator.generate(request)]


async def failure(generator: UpstreamGenerator, request: Request = ASK) -> tuple[str, GannetError]:
    """What was said before an answer failed, and how it failed."""
    said = ""
    try:
        async for piece in generator.generate(request):
            said += piece.text if isinstance(piece, Delta) else ""
    except GannetError as error:
        return said, error
    raise AssertionError(f"nothing failed after {said!r}")


async def test_answer_passes_on_what_the_upstream_says(server, make):
    """Text as it comes, then the end with the upstream's usage and its own name for the model."""
    first, second, finished = await answer(make())
    assert (first, second) == (Delta(text="22 "), Delta(text="metres"))
    assert isinstance(finished, Finished)
    assert (finished.reason, finished.model) == ("stop", "wader-7b")
    assert finished.usage == Usage(prompt_tokens=7, completion_tokens=2)


async def test_request_carries_what_was_asked_for_and_nothing_else(server, make):
    """Servers differ in what they know: an option that is not given is not sent, and 0 is not absent."""
    await answer(make())
    await answer(
        make(tokens_field="max_completion_tokens"),
        Request(
            messages=[Message(role="system", content="Be brief."), *ASK.messages],
            tokens_max=9,
            tokens_min=2,
            sampling=Sampling(temperature=0.0, top_k=5, seed=2**63 + 1),
            stop=["\n"],
            logprobs=0,
        ),
    )
    plain, full = (asked.body for asked in server.asked)
    streamed = {"model": "wader", "stream": True, "stream_options": {"include_usage": True}}
    question = {"role": "user", "content": "How deep?"}
    assert plain == {**streamed, "messages": [question], "max_tokens": 100}
    assert full == {
        **streamed,
        "messages": [{"role": "system", "content": "Be brief."}, question],
        "max_completion_tokens": 9,
        "min_tokens": 2,
        "temperature": 0.0,
        "top_k": 5,
        "seed": 1,
        "stop": ["\n"],
        "logprobs": True,
    }


@pytest.mark.parametrize("size", [1, 2, 3, 7])
async def test_characters_split_over_packets_come_whole(server, make, size):
    """The bytes of a character, and the two halves of one that JSON escapes in two, may come apart."""
    whole = "Tölpel 鳥 🐦!"
    halves = b"".join(event({"choices": [{"delta": {"content": half}}]}) for half in ("\ud83d", "\udc26"))
    raw = event({"choices": [{"delta": {"content": whole}}]}).decode().encode() + halves + chunk(finish="stop") + DONE
    raw = raw.replace(b"T\\u00f6lpel \\u9ce5 \\ud83d\\udc26!", whole.encode())
    server.replies = [Reply(steps=[raw[at : at + size] for at in range(0, len(raw), size)])]
    events = await answer(make())
    assert [one.text for one in events if isinstance(one, Delta)] == [whole, "🐦"]


async def test_half_a_character_that_stays_alone_is_replaced(server, make):
    """What is passed on is always valid text."""
    server.replies = [Reply(steps=[chunk("a\udc26"), chunk("b\ud83d"), chunk(finish="length"), DONE])]
    *deltas, finished = await answer(make())
    assert "".join(delta.text for delta in deltas) == "a\ufffdb\ufffd"
    assert finished.reason == "length"


async def test_log_probabilities_come_with_the_text(server, make):
    """Tokens are bytes, and those of chunks without text wait for the next text."""
    top = [{"token": "22", "bytes": [50, 50], "logprob": -0.5}, {"token": "3", "bytes": None, "logprob": -2}]
    first = {"content": [{"token": "", "bytes": [], "logprob": 0, "top_logprobs": []}]}
    second = {"content": [{**top[0], "top_logprobs": top}]}
    server.replies = [
        Reply(steps=[chunk("", logprobs=first), chunk("22", logprobs=second), chunk(finish="stop"), DONE])
    ]
    delta, _ = await answer(make(), replace(ASK, logprobs=2))
    best, other = (
        TokenLogprob(token=token, token_id=0, logprob=logprob) for token, logprob in ((b"22", -0.5), (b"3", -2.0))
    )
    assert delta.logprobs == (TokenLogprob(token=b"", token_id=0, logprob=0.0), replace(best, top=(best, other)))
    assert server.asked[0].body["top_logprobs"] == 2


async def test_stop_string_is_told_from_the_end_where_the_upstream_tells(server, make):
    """VLLM names the string in `stop_reason`."""
    server.replies = [Reply(steps=[chunk("a"), chunk(finish="stop", stop_reason="\n"), DONE])]
    events = await answer(make(), replace(ASK, stop=["\n"]))
    assert events[-1].reason == "stop_string"


@pytest.mark.parametrize(
    "bad",
    [
        Reply(steps=[Cut()]),
        Reply(steps=[chunk(), Cut()]),
        Reply(steps=[chunk(), DONE]),
        Reply(steps=[chunk(), event({"error": {"message": "out of memory"}})]),
        refusal(500, "a bug"),
        refusal(503, "loading the model"),
    ],
    ids=["cut", "cut after the role", "ended without a reason", "error event", "500", "503"],
)
async def test_failure_before_the_first_token_is_tried_again(server, make, bad):
    """Nobody has read anything yet, so another attempt is as good as the first; two bad ones, and the third is the answer."""
    server.replies = [bad, bad, WELL]
    events = await answer(make())
    assert [one.text for one in events if isinstance(one, Delta)] == ["22 ", "metres"]
    assert len(server.asked) == 3


async def test_attempts_are_bounded(server, make):
    """The last failure is the one that is told, with the upstream's own words."""
    server.replies = [refusal(503, "loading the model")]
    said, error = await failure(make())
    assert (said, type(error).code, error.reason) == ("", DependencyUnavailable.code, "UPSTREAM_FAILED")
    assert "loading the model" in error.message
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    "steps, reason",
    [
        ([chunk("22 "), Cut()], "UPSTREAM_UNREACHABLE"),
        ([chunk("22 "), DONE], "UPSTREAM_BROKE_OFF"),
        ([chunk("22 "), event({"error": {"message": "out of memory"}})], "UPSTREAM_FAILED"),
        ([chunk("22 "), b"data: {not json\n\n"], "UPSTREAM_BROKEN"),
    ],
)
async def test_failure_after_the_first_token_is_told_and_not_tried_again(server, make, steps, reason):
    """What was said stands, the status says what happened, and the upstream was asked once."""
    server.replies = [Reply(steps=steps), WELL]
    said, error = await failure(make())
    assert (said, error.code, error.reason) == ("22 ", DependencyUnavailable.code, reason)
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "garbage",
    [
        b"data: {not json\n\n",
        event([1, 2]),
        event("text"),
        event({"choices": "none"}),
        event({"choices": None}),
        event({"choices": [{"delta": {"content": 7}}]}),
        event({"choices": [{"delta": {"content": "a"}, "logprobs": {"content": [{"logprob": "x"}]}}]}),
        b"data: \xff\xfe\n\n",
    ],
)
async def test_garbage_is_refused_by_its_name(server, make, garbage):
    """A stream that is no such stream is the upstream's fault, whatever is in it, and is not asked for again."""
    server.replies = [Reply(steps=[garbage, DONE])]
    said, error = await failure(make())
    assert (said, type(error), error.reason) == ("", DependencyUnavailable, "UPSTREAM_BROKEN")
    assert len(server.asked) == 1


async def test_answer_without_any_text_is_a_failure(server, make):
    """An empty answer is none: the next generator of a chain may do better."""
    server.replies = [Reply(steps=[chunk(), chunk(finish="length"), DONE])]
    _, error = await failure(make())
    assert (type(error), error.reason) == (DependencyUnavailable, "UPSTREAM_SAID_NOTHING")


async def test_answer_that_ignores_its_bound_is_stopped(server, make):
    """An upstream that never ends does not fill anybody's memory."""
    server.replies = [Reply(steps=[chunk("x" * 65), chunk("x" * 64), Stall()])]
    said, error = await failure(make(), replace(ASK, tokens_max=2))
    assert (len(said), error.reason) == (65, "UPSTREAM_BROKEN")
    await server.until_left(1)


@pytest.mark.parametrize(
    "reply, kind, reason",
    [
        (refusal(400, "context too long"), InvalidInput, "UPSTREAM_REFUSED"),
        (refusal(401, "bad key sk-secret"), PermissionDenied, "UPSTREAM_KEY_REFUSED"),
        (refusal(403, "no"), PermissionDenied, "UPSTREAM_KEY_REFUSED"),
        (refusal(404, "no such model"), DependencyUnavailable, "UPSTREAM_REFUSED"),
        (refusal(429, "slow down"), Overloaded, "UPSTREAM_OVERLOADED"),
        (refusal(429, "pay first", code="insufficient_quota"), DependencyUnavailable, "UPSTREAM_REFUSED"),
    ],
)
async def test_refusal_is_told_in_our_words_and_not_tried_again(server, make, reply, kind, reason):
    """Each status has its error; a refused key's message, which may quote the key, is not passed on."""
    server.replies = [reply]
    _, error = await failure(make())
    assert (type(error), error.reason) == (kind, reason)
    assert "sk-secret" not in error.message
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "header, retry_after_s", [("7", 7.0), ("0.5", 0.5), ("99999", 300.0), ("nan", 1.0), ("soon", 1.0), ("-1", 1.0)]
)
async def test_rate_limit_says_when_to_come_back(server, make, header, retry_after_s):
    """Retry-After becomes RetryInfo, within bounds."""
    server.replies = [refusal(429, "slow down", headers={"retry-after": header})]
    _, error = await failure(make())
    assert error.retry_after_s == retry_after_s


async def test_stall_before_the_first_token_is_a_timeout(server, make):
    """A role is no token; the stream is closed, and no second attempt takes as long again."""
    server.replies = [Reply(steps=[chunk(), Stall()])]
    _, error = await failure(make(first_token_timeout_s=1.0, next_token_timeout_s=600.0))
    assert (type(error), error.reason) == (DependencyUnavailable, "UPSTREAM_TIMEOUT")
    await server.until_left(1)
    assert len(server.asked) == 1


async def test_stall_between_two_tokens_is_a_timeout(server, make):
    """What was said stands, and the stream is closed."""
    server.replies = [Reply(steps=[chunk("22 "), Stall()])]
    said, error = await failure(make(next_token_timeout_s=0.05))
    assert (said, error.reason) == ("22 ", "UPSTREAM_TIMEOUT")
    await server.until_left(1)


async def test_stall_after_the_end_is_no_failure(server, make):
    """The answer is whole; only its usage is missing."""
    server.replies = [Reply(steps=[chunk("22"), chunk(finish="stop"), Cut()])]
    *_, finished = await answer(make())
    assert (finished.reason, finished.usage) == ("stop", None)


async def test_closing_the_answer_closes_the_upstreams_stream(server, make):
    """Whoever stops listening stops the upstream's work, and frees the place."""
    server.replies = [Reply(steps=[chunk("22 "), Stall()])]
    generator = make(streams_max=1, queue_max=0)
    async with aclosing(generator.generate(ASK)) as events:
        await anext(events)
    await server.until_left(1)
    server.replies = [WELL]
    assert len(await answer(generator)) == 3


async def test_cancelling_before_the_first_token_closes_the_upstreams_stream(server, make):
    """A caller who leaves while the upstream thinks stops it, too."""
    server.replies = [Reply(steps=[Stall()])]
    task = asyncio.create_task(answer(make()))
    await server.until_asked(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await server.until_left(1)


async def test_streams_beyond_the_bound_wait_and_then_are_refused(server, make):
    """One answer in work, one waits, the third is told to come back; the one that waits is answered when the first is done."""
    server.replies = [Reply(steps=[chunk("22 "), Stall()]), WELL]
    generator = make(streams_max=1, queue_max=1)
    first = generator.generate(ASK)
    await anext(first)
    second = asyncio.create_task(answer(generator))
    await asyncio.sleep(0)
    _, error = await failure(generator)
    assert (type(error), len(server.asked)) == (Overloaded, 1)
    assert error.retry_after_s == 1.0
    await first.aclose()
    assert len(await second) == 3


async def test_unreachable_upstream_is_unavailable(make):
    """Nothing listens there."""
    _, error = await failure(make(base_url="http://127.0.0.1:9/v1"))
    assert (error.code, error.reason) == (DependencyUnavailable.code, "UPSTREAM_UNREACHABLE")


async def test_key_is_read_again_when_its_file_changes(server, make, tmp_path):
    """A rotated key needs no restart, and a file that is gone for a moment leaves the last key in force."""
    file = tmp_path / "key"
    file.write_text("first\n")
    generator = make(key=KeyFile(file))
    await answer(generator)
    (tmp_path / "new").write_text("second, longer\n")
    (tmp_path / "new").rename(file)
    await answer(generator)
    file.unlink()
    await answer(generator)
    assert [asked.headers["authorization"] for asked in server.asked] == [
        "Bearer first",
        "Bearer second, longer",
        "Bearer second, longer",
    ]


@pytest.mark.parametrize("content", ["", " \n", "two\nlines", "schlüssel"])
def test_key_file_without_a_key_is_refused_at_start(tmp_path, content):
    """An empty or broken secret is found before the first request."""
    file = tmp_path / "key"
    file.write_text(content)
    with pytest.raises(ValueError, match="no key"):
        KeyFile(file)


async def test_token_counts_are_estimates_that_say_so(make):
    """The upstream's tokenizer is not here."""
    counts = await make().count_tokens([Message(role="user", content="x" * 30)], ["", "ü" * 6])
    assert (counts.prompt, list(counts.texts), counts.exact) == (18, [0, 4], False)
