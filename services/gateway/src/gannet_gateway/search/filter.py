"""The filter language over documents' metadata: a typed subset of AIP-160.

    expression = factor { "AND" factor }
    factor     = term { "OR" term }                 OR binds tighter than AND, as AIP-160 has it
    term       = [ "NOT" ] ( comparison | "(" expression ")" )
    comparison = field ( "=" | "!=" | "<" | "<=" | ">" | ">=" | ":" ) literal  |  field ":" "*"
    field      = "document" | "metadata" "." ( word | string )
    literal    = string | number | "true" | "false"

A literal's type decides: strings compare as keywords, numbers as doubles, and a string after an ordering operator is a date or time (RFC
3339; UTC where it names no zone). A list of strings holds what any of its elements holds; ":" is "=" and reads better there. `field:*`
asks whether the key is there. What is missing, or of another type, equals nothing and is neither above nor below anything, so that "!="
and NOT hold for it.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from gannet_service.errors import InvalidInput

# The embedded Qdrant takes 256 conditions in eight levels; a NOT or a pair of operands is one, too, and the filter is put inside of
# another.
COMPARISONS_MAX = 50
LEVELS_MAX = 6
# Open at once: the parser calls itself for each.
_PARENTHESES_MAX = 16

_TOKEN = re.compile(
    r"""\s*(?:(?P<string>"(?:[^"\\]|\\["\\])*"|'(?:[^'\\]|\\['\\])*')"""
    r"""|(?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?(?![\w.]))"""
    r"""|(?P<word>[A-Za-z_][\w-]*)"""
    r"""|(?P<symbol><=|>=|!=|[=<>:().*])"""
    r"""|(?P<end>$))"""
)
_ORDERINGS = ("<", "<=", ">", ">=")

Literal = str | float | bool | datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """`operator` is one of = < <= > >=; a datetime comes with an ordering only. `key` is None for the document's id."""

    key: str | None
    operator: str
    value: Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Present:
    """The metadata has `key`, and not as an empty list."""

    key: str


@dataclass(frozen=True, slots=True)
class Not:
    """The operand does not hold."""

    operand: "Filter"


@dataclass(frozen=True, slots=True)
class And:
    """All operands hold; two at least."""

    operands: tuple["Filter", ...]


@dataclass(frozen=True, slots=True)
class Or:
    """Any operand holds; two at least."""

    operands: tuple["Filter", ...]


Filter = Comparison | Present | Not | And | Or


def parse(text: str, field: str, *, bytes_max: int) -> Filter | None:
    """The filter that `text` writes; None where it is empty.

    Raises:
        InvalidInput: what is wrong and at which character, or the limit that is exceeded.
    """
    size = len(text.encode())
    if size > bytes_max:
        raise InvalidInput(f"{field}: {size} bytes; the limit is {bytes_max}", field=field)
    if not text.strip():
        return None
    parsed = _Parser(text, field).parse()
    if _levels(parsed) > LEVELS_MAX:
        raise InvalidInput(f"{field}: nested more than {LEVELS_MAX} deep", field=field)
    return parsed


def _levels(node: Filter) -> int:
    match node:
        case Comparison():
            return 0
        case Present():
            return 1
        case Not(operand):
            return 1 + _levels(operand)
        case And(operands) | Or(operands):
            return 1 + max(map(_levels, operands))


class _Parser:
    """Recursive descent over the tokens of one text."""

    def __init__(self, text: str, field: str) -> None:
        self._text = text
        self._field = field
        self._comparisons = 0
        self._parentheses = 0
        self._at = 0  # where the current token ends
        self._start = 0
        self._kind = ""
        self._lexeme = ""
        self._next()

    def parse(self) -> Filter:
        parsed = self._expression()
        if self._kind != "end":
            raise self._wrong("expected AND, OR or the end")
        return parsed

    def _expression(self) -> Filter:
        return self._joined("AND", self._factor, And)

    def _factor(self) -> Filter:
        return self._joined("OR", self._term, Or)

    def _joined(self, word: str, operand: Callable[[], Filter], node: Callable[[tuple[Filter, ...]], Filter]) -> Filter:
        operands = [operand()]
        while self._takes("word", word):
            operands.append(operand())
        return operands[0] if len(operands) == 1 else node(tuple(operands))

    def _term(self) -> Filter:
        if self._takes("word", "NOT"):
            return Not(self._simple())
        return self._simple()

    def _simple(self) -> Filter:
        if not self._takes("symbol", "("):
            return self._comparison()
        self._parentheses += 1
        if self._parentheses > _PARENTHESES_MAX:
            raise self._wrong(f"more than {_PARENTHESES_MAX} parentheses are open")
        inside = self._expression()
        if not self._takes("symbol", ")"):
            raise self._wrong('expected ")"')
        self._parentheses -= 1
        return inside

    def _comparison(self) -> Filter:
        self._comparisons += 1
        if self._comparisons > COMPARISONS_MAX:
            raise self._wrong(f"more than {COMPARISONS_MAX} comparisons")
        key = self._key()
        operator = self._lexeme
        if self._kind != "symbol" or operator not in ("=", "!=", ":", *_ORDERINGS):
            raise self._wrong("expected one of = != < <= > >= :")
        self._next()
        if operator == ":" and self._kind == "symbol" and self._lexeme == "*":
            if key is None:
                raise self._wrong("every passage has a document")
            self._next()
            return Present(key=key)
        value = self._literal(operator, is_document=key is None)
        equal = Comparison(key=key, operator=operator if operator in _ORDERINGS else "=", value=value)
        return Not(equal) if operator == "!=" else equal

    def _key(self) -> str | None:
        if self._takes("word", "document"):
            return None
        if not self._takes("word", "metadata"):
            raise self._wrong('expected "document" or "metadata.KEY"')
        if not self._takes("symbol", "."):
            raise self._wrong('expected "." and a key of the metadata')
        if self._kind not in ("word", "string"):
            raise self._wrong('expected a key of the metadata; in quotes if it is not letters, digits, "_" and "-"')
        key = self._unquoted()
        # Qdrant's paths have no escape.
        if not key or '"' in key or "\\" in key or not key.isprintable():
            raise self._wrong('a key may not be empty or have \'"\', "\\" or control characters')
        self._next()
        return key

    def _literal(self, operator: str, *, is_document: bool) -> Literal:
        value: Literal
        match self._kind, self._lexeme:
            case "string", _ if operator in _ORDERINGS:
                value = self._time()
            case "string", _:
                value = self._unquoted()
            case "number", number:
                value = float(number)
                if not math.isfinite(value):
                    raise self._wrong("a number beyond what a double holds")
            case "word", "true" | "false" if operator not in _ORDERINGS:
                value = self._lexeme == "true"
            case _ if operator in _ORDERINGS:
                raise self._wrong(
                    'expected a number, or a date or time in quotes ("2026-01-31", "2026-01-31T12:00:00Z")'
                )
            case _:
                raise self._wrong("expected a string in quotes, a number, true or false")
        if is_document and not isinstance(value, str):
            raise self._wrong("a document's id is a string, and has no order")
        self._next()
        return value

    def _time(self) -> datetime:
        try:
            time = datetime.fromisoformat(self._unquoted())
            return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)
        except (ValueError, OverflowError) as error:
            raise self._wrong('strings have no order; a date or time is like "2026-01-31T12:00:00Z"') from error

    def _unquoted(self) -> str:
        if self._kind == "word":
            return self._lexeme
        return re.sub(r"\\(.)", r"\1", self._lexeme[1:-1])

    def _takes(self, kind: str, token: str) -> bool:
        if (self._kind, self._lexeme) != (kind, token):
            return False
        self._next()
        return True

    def _next(self) -> None:
        found = _TOKEN.match(self._text, self._at)
        if found is None:
            self._start = len(self._text) - len(self._text[self._at :].lstrip())
            self._lexeme = self._text[self._start]
            raise self._wrong("a quote is not closed" if self._lexeme in "\"'" else "not part of the language")
        assert found.lastgroup is not None  # noqa: S101 - one of the groups matched
        self._kind = found.lastgroup
        self._lexeme = found.group(self._kind)
        self._start, self._at = found.start(self._kind), found.end()

    def _wrong(self, problem: str) -> InvalidInput:
        found = repr(self._lexeme[:40]) if self._lexeme else "the end"
        return InvalidInput(f"{self._field}: at character {self._start + 1}, {found}: {problem}", field=self._field)
