"""What a chain of generators gives, piece by piece."""

from dataclasses import dataclass

from gannet_gateway.answers.markers import MarkedText
from gannet_gateway.clients import Cited, Done, Said

NO_ANSWER = "FINISH_REASON_NO_ANSWER"


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A generator that was not used, or failed before its first word, and why."""

    generator: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The answer is said. `marked` holds a free text's marks, and is None where the generator quoted and cited by itself."""

    done: Done
    marked: MarkedText | None


Piece = Said | Cited | Skipped | Ended
