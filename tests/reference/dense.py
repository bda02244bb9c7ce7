"""Dense vectors written naively, one component at a time."""

import math
import struct
from collections.abc import Sequence


def shortened(vector: Sequence[float], dims: int, *, normalise: bool) -> list[float]:
    """The first components, divided by their length if that is asked for and there is one."""
    cut = list(vector[:dims])
    length = math.sqrt(sum(component * component for component in cut))
    return [component / length for component in cut] if normalise and length else cut


def int8(data: bytes, scale: float) -> list[float]:
    """The components that int8 bytes stand for."""
    return [level * scale for level in struct.unpack(f"{len(data)}b", data)]


def binary(vector: Sequence[float]) -> bytes:
    """One bit a component, 1 for > 0, highest bit first, the last byte filled up with zeros."""
    bits = "".join("1" if component > 0 else "0" for component in vector)
    bits += "0" * (-len(bits) % 8)
    return bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits), 8))
