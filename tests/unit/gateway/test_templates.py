"""Templates of prompts: what is let in, and what it becomes."""

import pytest

from gannet_gateway.prompts.templates import TEMPLATE_BYTES_MAX, check_template, render
from gannet_service.errors import InvalidInput

USER = "{{ question }} {{ sources }}"


def test_template_with_every_part_that_is_allowed_renders():
    """Text, variables, filters, conditions."""
    source = check_template(
        "user", "{% if language and not (language == 'en') %}{{ language|upper|trim }}: {% endif %}" + USER, "f"
    )
    assert render(source, question="q", sources="s", language="hr") == "HR: q s"
    assert render(source, question="q", sources="s", language="en") == "q s"


def test_template_output_is_not_read_as_a_template():
    """Whatever a document or a question says stays text."""
    assert render(USER, question="{{ sources }}", sources="{% if x %}", language="") == "{{ sources }} {% if x %}"


@pytest.mark.parametrize(
    "source, problem",
    [
        ("", "0 bytes"),
        ("x" * (TEMPLATE_BYTES_MAX + 1), "the limits are 1 to 16384"),
        (USER + "\x00", "NUL"),
        (USER + "{% for i in question %}{{ i }}{% endfor %}", "for is not allowed"),
        (USER + "{{ question.__class__ }}", "getattr is not allowed"),
        (USER + "{{ question['x'] }}", "getitem is not allowed"),
        (USER + "{{ question * 1000000 }}", "mul is not allowed"),
        (USER + "{{ range(9) }}", "call is not allowed"),
        (USER + "{{ question|center(1000000000) }}", "center is not allowed"),
        (USER + "{% set a = question %}", "assign is not allowed"),
        (USER + "{% include 'a' %}", "include is not allowed"),
        (USER + "{% macro m() %}{% endmacro %}", "not allowed"),
        (USER + "{{ secret }}", "secret: no such variable"),
        ("{{ question }}", "sources must be used"),
        ("no variables", "question, sources must be used"),
        (USER + "{{ sources }}" * 31, "33 uses of variables"),
        (USER + "{{", "unexpected"),
    ],
)
def test_template_that_could_do_harm_is_refused(source: str, problem: str):
    """The field, the line and the part that is not allowed are named."""
    with pytest.raises(InvalidInput, match=r"prompt\.user") as caught:
        check_template("user", source, "prompt.user")
    assert problem in caught.value.message
    assert caught.value.field == "prompt.user"


def test_template_of_the_system_message_knows_no_sources():
    """Passages never reach the message that a model obeys."""
    with pytest.raises(InvalidInput, match="sources: no such variable"):
        check_template("system", "{{ sources }}", "prompt.system")
