"""Templates of prompts: a small part of Jinja, whose output is never much longer than what goes into it.

Loops, calls, arithmetic and attributes are refused when a template is stored, so rendering one takes time in the order of its text. It
runs in Jinja's sandbox all the same.
"""

from collections.abc import Mapping
from functools import lru_cache

from jinja2 import StrictUndefined, Template, TemplateError, nodes
from jinja2.meta import find_undeclared_variables
from jinja2.sandbox import ImmutableSandboxedEnvironment

from gannet_service.errors import InvalidInput

TEMPLATE_BYTES_MAX = 16 << 10
# Each use of a variable may repeat its value, and that of `sources` is long.
USES_MAX = 32
FILTERS = frozenset({"trim", "upper", "lower"})
VARIABLES: Mapping[str, frozenset[str]] = {
    "system": frozenset({"language"}),
    "user": frozenset({"question", "sources", "language"}),
}
REQUIRED: Mapping[str, frozenset[str]] = {"system": frozenset(), "user": frozenset({"question", "sources"})}

_ENVIRONMENT = ImmutableSandboxedEnvironment(
    undefined=StrictUndefined, autoescape=False, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=False
)
_ALLOWED = (
    nodes.Template,
    nodes.Output,
    nodes.TemplateData,
    nodes.Name,
    nodes.If,
    nodes.Const,
    nodes.Filter,
    nodes.Compare,
    nodes.Operand,
    nodes.And,
    nodes.Or,
    nodes.Not,
)


def check_template(role: str, source: str, field: str) -> str:
    """`source` if it may be the template of the "system" or the "user" message.

    Raises:
        InvalidInput: naming `field`, and what is wrong.
    """
    size = len(source.encode())
    if not 1 <= size <= TEMPLATE_BYTES_MAX or "\x00" in source:
        raise InvalidInput(f"{field}: {size} bytes; the limits are 1 to {TEMPLATE_BYTES_MAX}, without NUL", field=field)
    try:
        tree = _ENVIRONMENT.parse(source)
    except TemplateError as error:
        raise InvalidInput(f"{field}: {error}", field=field) from error
    uses = 0
    for node in tree.find_all(nodes.Node):
        uses += isinstance(node, nodes.Name)
        if not isinstance(node, _ALLOWED) or (isinstance(node, nodes.Filter) and node.name not in FILTERS):
            what = getattr(node, "name", None) or type(node).__name__.lower()
            problem = f"{field}: line {node.lineno}: {what} is not allowed; see Prompt"
            raise InvalidInput(problem, field=field)
    used = find_undeclared_variables(tree)
    if unknown := used - VARIABLES[role]:
        raise InvalidInput(f"{field}: {', '.join(sorted(unknown))}: no such variable", field=field)
    if missing := REQUIRED[role] - used:
        raise InvalidInput(f"{field}: {', '.join(sorted(missing))} must be used", field=field)
    if uses > USES_MAX:
        raise InvalidInput(f"{field}: {uses} uses of variables; the limit is {USES_MAX}", field=field)
    return source


def render(source: str, **variables: str) -> str:
    """The text of a template that `check_template` let pass."""
    return _compiled(source).render(variables)


@lru_cache(maxsize=256)
def _compiled(source: str) -> Template:
    return _ENVIRONMENT.from_string(source)
