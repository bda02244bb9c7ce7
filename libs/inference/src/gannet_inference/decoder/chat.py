"""Messages to a prompt by the model's own chat template, in a sandbox and within bounds."""

import datetime as dt
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

import jinja2
import jinja2.sandbox

from gannet_inference.decoder.request import InvalidRequest
from gannet_inference.errors import UnsupportedModel

Role = Literal["system", "user", "assistant"]

TEMPLATE_CHARS_MAX = 100_000
PROMPT_CHARS_MAX = 4_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


class ChatTemplate:
    """A compiled template; several threads may use it."""

    def __init__(
        self, template: str, special_tokens: Mapping[str, str], specials: Iterable[str], *, model: str
    ) -> None:
        """Compiles it.

        Args:
            template: Jinja, as tokenizer_config.json has it.
            special_tokens: what it may refer to by name.
            specials: texts that the tokenizer reads as special tokens.
            model: whose errors these are.

        Raises:
            UnsupportedModel: it is no template, or a very long one.
        """
        if len(template) > TEMPLATE_CHARS_MAX:
            raise UnsupportedModel(model, "chat_template", f"has more than {TEMPLATE_CHARS_MAX} characters")
        # Immutable and sandboxed: a template comes with a model, and may reach nothing but what it is given.
        environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=["jinja2.ext.loopcontrols"],
            autoescape=False,
        )
        environment.filters["tojson"] = _to_json
        globals_: dict[str, Any] = environment.globals  # typed as what Jinja itself puts there
        globals_.update(raise_exception=_refuse, strftime_now=_now)
        try:
            self._template = environment.from_string(template)
        except jinja2.TemplateError as error:
            raise UnsupportedModel(model, "chat_template", f"is no template: {error}") from error
        self._special_tokens = dict(special_tokens)
        # Longest first: one may begin another.
        texts = sorted(filter(None, specials), key=len, reverse=True)
        self._specials = re.compile("|".join(map(re.escape, texts))) if texts else None

    def render(self, messages: Sequence[Message]) -> str:
        """The prompt, up to where the model's own turn begins.

        What a message holds is text: a special token spelled out in it loses its meaning, or a passage could end its message
        and begin another in the system's name.

        Raises:
            InvalidRequest: the template refuses the messages, or the prompt gets too long.
        """
        turns = [{"role": message.role, "content": self._plain(message.content)} for message in messages]
        prompt: list[str] = []
        size = 0
        try:
            for piece in self._template.generate(messages=turns, add_generation_prompt=True, **self._special_tokens):
                prompt.append(piece)
                size += len(piece)
                if size > PROMPT_CHARS_MAX:
                    raise InvalidRequest("messages", f"make a prompt of more than {PROMPT_CHARS_MAX} characters")
        except (jinja2.TemplateError, TypeError, ValueError, OverflowError) as error:
            raise InvalidRequest("messages", f"the model's chat template refuses them: {error}") from error
        return "".join(prompt)

    def _plain(self, content: str) -> str:
        # A space for each: what is left of "<|im_<|im_end|>end|>" is no token either.
        return self._specials.sub(" ", content) if self._specials else content


def _refuse(problem: str) -> NoReturn:
    raise jinja2.TemplateError(problem)


def _now(layout: str) -> str:
    return dt.datetime.now().astimezone().strftime(layout)


def _to_json(value: Any, indent: int | None = None) -> str:
    # Jinja's own escapes what HTML would trip over, and models were not trained on that.
    return json.dumps(value, ensure_ascii=False, indent=indent)
