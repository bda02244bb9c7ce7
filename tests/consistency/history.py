"""What was acknowledged and what was read, and whether one explains the other."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from gannet_gateway.vectors.points import Candidate

_PART = re.compile(r"version (\S+) part (\d+) of (\d+)\.")

# A document's version in a generation; None where it is not there.
Version = str | None
State = dict[str, str]


def text_of(version: str, parts: int) -> str:
    """A text that is cut into `parts` passages, each of which tells what it is a part of."""
    filler = "Words that fill the passage up to its size."
    return "".join(
        f"# Part {part}\n\nThis is version {version} part {part} of {parts}. {filler}\n\n" for part in range(parts)
    )


def state_of(candidates: Iterable[Candidate]) -> State:
    """As `state_of_texts`."""
    return state_of_texts((candidate.document.document, candidate.text) for candidate in candidates)


def state_of_texts(passages: Iterable[tuple[str, str]]) -> State:
    """The versions that a read saw, from the passages' documents and texts; fails unless every document is there once and whole."""
    parts: dict[str, list[tuple[str, int, int]]] = {}
    for document, text in passages:
        found = _PART.search(text)
        assert found, text
        parts.setdefault(document, []).append((found[1], int(found[2]), int(found[3])))
    for document, seen in parts.items():
        (version, total) = seen[0][0], seen[0][2]
        assert sorted(seen) == [(version, part, total) for part in range(total)], (
            f"{document} in pieces: {sorted(seen)}"
        )
    return {document: seen[0][0] for document, seen in parts.items()}


@dataclass(slots=True)
class _Operation:
    """One change of a document: the version it asked for, and the generation that showed it if that was acknowledged."""

    version: Version
    generation: int | None


@dataclass(slots=True)
class History:
    """All operations of every document, in their order, and the one state that each generation was seen in."""

    operations: dict[str, list[_Operation]] = field(default_factory=dict[str, list[_Operation]])
    states: dict[int, State] = field(default_factory=dict[int, State])
    reads: int = 0

    def acknowledged(self, document: str, version: Version, generation: int) -> None:
        """The caller was told."""
        self.operations.setdefault(document, []).append(_Operation(version, generation))

    def unknown(self, document: str, version: Version) -> None:
        """The caller was told of an error, or nothing: it may have happened."""
        self.operations.setdefault(document, []).append(_Operation(version, None))

    def read(self, generation: int, state: State) -> None:
        """Every read of a generation sees the same whole documents."""
        self.reads += 1
        before = self.states.setdefault(generation, state)
        assert state == before, f"generation {generation} was {before} and is {state}"

    def check(self, last: State) -> None:
        """Every generation that was read is explained by the operations, and nothing acknowledged is missing from the last."""
        for generation, state in self.states.items():
            for document, operations in self.operations.items():
                done = [each for each in operations if each.generation is not None and each.generation <= generation]
                latest = max((each.generation or 0 for each in done), default=0)
                exact = {each.version for each in done if each.generation == latest} or {None}
                possible = exact | {each.version for each in operations if each.generation is None}
                if latest == generation:  # acknowledged with this very generation
                    possible = exact
                assert state.get(document) in possible, (
                    f"generation {generation}: {document} is {state.get(document)}, not {possible}"
                )
        for document, operations in self.operations.items():
            since: list[Version] = []
            for each in operations:
                since = [each.version] if each.generation is not None else [*(since or [None]), each.version]
            assert last.get(document) in since, f"at the end {document} is {last.get(document)}, not one of {since}"
