"""What a request may hold: every bound is refused by the field's name, by generators that quote and by those that write."""

import math

import pytest

from gannet_generator.generation import Description, Message, Request, Sampling, Source
from gannet_generator.limits import Limits, check_count, check_generate, check_verify
from gannet_service.errors import InvalidInput

LIMITS = Limits(sources_max=2, text_bytes_max=8, prompt_bytes_max=16, claims_max=2)
QUOTES = Description(kind="extractive", model="m")
WRITES = Description(kind="upstream", model="m", tokens_max=100)
USER = Message(role="user", content="ask")
SOURCE = Source(text="text", title="")


def quoting(**fields) -> Request:
    """A request to quote, fine unless fields say otherwise."""
    return Request(**{"question": "why", "sources": [SOURCE]} | fields)


def writing(**fields) -> Request:
    """A request to write, fine unless fields say otherwise."""
    return Request(**{"messages": [USER]} | fields)


@pytest.mark.parametrize(
    "fields, field",
    [
        ({"question": " "}, "question"),
        ({"question": "x" * 9}, "question"),
        ({"sources": []}, "sources"),
        ({"sources": [SOURCE] * 3}, "sources"),
        ({"sources": [SOURCE, Source(text="ü" * 5, title="")]}, "sources[1].text"),
        ({"sentences_max": 51}, "sentences_max"),
    ],
)
def test_request_to_quote_beyond_a_bound_is_refused(fields, field):
    """The error names the field."""
    check_generate(quoting(), LIMITS, QUOTES)
    with pytest.raises(InvalidInput) as refused:
        check_generate(quoting(**fields), LIMITS, QUOTES)
    assert refused.value.field == field


@pytest.mark.parametrize(
    "fields, field",
    [
        ({"messages": []}, "messages"),
        ({"messages": [USER] * 257}, "messages"),
        ({"messages": [USER, Message(role="assistant", content="so")]}, "messages"),
        (
            {
                "messages": [
                    Message(role="user", content="x" * 9),
                    Message(role="user", content="ü" * 4),
                ]
            },
            "messages",
        ),
        ({"sources": [SOURCE] * 3}, "sources"),
        ({"tokens_max": 101}, "max_tokens"),
        ({"tokens_min": 101}, "min_tokens"),
        ({"tokens_max": 5, "tokens_min": 6}, "min_tokens"),
        ({"sampling": Sampling(temperature=2.1)}, "temperature"),
        ({"sampling": Sampling(temperature=-0.1)}, "temperature"),
        ({"sampling": Sampling(temperature=math.nan)}, "temperature"),
        ({"sampling": Sampling(top_p=0.0)}, "top_p"),
        ({"sampling": Sampling(top_p=1.1)}, "top_p"),
        ({"sampling": Sampling(top_k=1001)}, "top_k"),
        ({"sampling": Sampling(min_p=-0.1)}, "min_p"),
        ({"sampling": Sampling(repetition_penalty=0.0)}, "repetition_penalty"),
        ({"sampling": Sampling(presence_penalty=-2.1)}, "presence_penalty"),
        ({"sampling": Sampling(frequency_penalty=math.inf)}, "frequency_penalty"),
        ({"logprobs": 21}, "logprobs"),
        ({"stop": ["x"] * 17}, "stop"),
        ({"stop": ["x", ""]}, "stop[1]"),
        ({"stop": ["x" * 257]}, "stop[0]"),
    ],
)
def test_request_to_write_beyond_a_bound_is_refused(fields, field):
    """The error names the field; question and sources may be absent."""
    check_generate(writing(), LIMITS, WRITES)
    with pytest.raises(InvalidInput) as refused:
        check_generate(writing(**fields), LIMITS, WRITES)
    assert refused.value.field == field


def test_request_at_every_bound_is_taken():
    """A bound itself is allowed, by the one kind of generator and by the other."""
    both = quoting(
        question="x" * 8,
        sources=[SOURCE] * 2,
        sentences_max=50,
        messages=[Message(role="user", content="x" * 16)],
        tokens_max=100,
        tokens_min=100,
        sampling=Sampling(
            temperature=2.0,
            top_p=1.0,
            top_k=1000,
            min_p=1.0,
            seed=2**64 - 1,
            repetition_penalty=2.0,
            presence_penalty=-2.0,
            frequency_penalty=2.0,
        ),
        stop=["x" * 256] * 16,
        logprobs=20,
    )
    check_generate(both, LIMITS, QUOTES)
    check_generate(both, LIMITS, WRITES)


def test_request_to_quote_that_also_says_how_to_write_is_taken():
    """One request serves a chain of generators: what this one does not read is no fault."""
    check_generate(quoting(messages=[USER], tokens_max=5000, sampling=Sampling(temperature=1.0)), LIMITS, QUOTES)


@pytest.mark.parametrize(
    "messages, texts, field",
    [
        ([Message(role="user", content="x" * 17)], [], "messages"),
        ([], ["x"] * 1025, "texts"),
        ([], ["x", "x" * 9], "texts[1]"),
    ],
)
def test_count_beyond_a_bound_is_refused(messages, texts, field):
    """The error names the field."""
    with pytest.raises(InvalidInput) as refused:
        check_count(messages, texts, LIMITS)
    assert refused.value.field == field


@pytest.mark.parametrize(
    "fields, field",
    [
        ({"claims": []}, "claims"),
        ({"claims": ["x"] * 3}, "claims"),
        ({"claims": ["x", " "]}, "claims[1]"),
        ({"claims": ["x" * 9]}, "claims[0]"),
        ({"sources": []}, "sources"),
        ({"sources": [Source(text="x" * 9, title="")]}, "sources[0].text"),
        ({"spans_max": 17}, "spans_max"),
    ],
)
def test_verify_beyond_a_bound_is_refused(fields, field):
    """The error names the field."""
    with pytest.raises(InvalidInput) as refused:
        check_verify(**{"claims": ["so"], "sources": [SOURCE], "spans_max": 0, "limits": LIMITS} | fields)
    assert refused.value.field == field
