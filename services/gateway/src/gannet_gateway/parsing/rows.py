"""Rows as text: each is a block of "column: value" lines, and a blank line stands between two."""

import csv
import io
import json
from collections.abc import Iterable, Iterator
from typing import Any

from gannet_gateway.parsing.text import Limits, TextBuffer, Unreadable

# What spreadsheets write, by country.
_DELIMITERS = ",;\t|"


def add_csv(text: str, buffer: TextBuffer, limits: Limits) -> None:
    """Append the rows of comma-separated values whose first row names the columns.

    The delimiter is the one of , ; tab | that the first line has most of. Empty values are left out; values beyond the named columns
    are "column N".

    Raises:
        Unreadable: a quote that is never closed swallows the rest, or the text becomes too long.
    """
    text = text.removeprefix("\ufeff")
    header, _, _ = text.partition("\n")
    delimiter = max(_DELIMITERS, key=header.count)
    csv.field_size_limit(limits.text_bytes_max)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        columns = next(rows, [])
        for row in rows:
            _add_row(((_column(columns, place), value) for place, value in enumerate(row)), buffer)
    except csv.Error as error:
        raise Unreadable(f"not CSV at line {rows.line_num}: {error}") from error


def add_jsonl(text: str, buffer: TextBuffer) -> None:
    """Append the values of JSON lines: of an object its members, those of nested objects as "outer.inner"; others as they are.

    Raises:
        Unreadable: a line is not JSON or nested too deeply, or the text becomes too long.
    """
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        if not line.strip():
            continue
        try:
            members = list(_members("", json.loads(line)))
        except RecursionError as error:
            raise Unreadable(f"line {number} is nested too deeply") from error
        except ValueError as error:
            raise Unreadable(f"not JSON at line {number}: {error}") from error
        _add_row(members, buffer)


def _column(columns: list[str], place: int) -> str:
    name = " ".join(columns[place].split()) if place < len(columns) else ""
    return name or f"column {place + 1}"


def _members(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _members(f"{name}.{key}" if name else key, inner)
    elif isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        for item in value:
            yield from _members(name, item)
    elif isinstance(value, list):
        yield name, ", ".join(_scalar(item) for item in value)
    else:
        yield name, _scalar(value)


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value)


def _add_row(members: Iterable[tuple[str, str]], buffer: TextBuffer) -> None:
    lines = [f"{name}: {value.strip()}" if name else value.strip() for name, value in members if value.strip()]
    if lines:
        buffer.add("\n".join(lines) + "\n\n")
