"""Lets every RPC that this server does not serve say so, instead of failing like a bug."""

from typing import Any, NoReturn, TypeVar

from gannet_service.errors import Unimplemented

T = TypeVar("T", bound=type)


def refuse_the_rest(servicer: T) -> T:
    """Class decorator: every RPC of the generated base class that `servicer` does not define answers UNIMPLEMENTED by name."""
    base = servicer.__mro__[1]
    for name in vars(base):
        if not name.startswith("_") and name not in vars(servicer):
            setattr(servicer, name, _refusal(f"{base.__name__.removesuffix('Servicer')}.{name}"))
    return servicer


def _refusal(method: str) -> Any:
    async def refuse(_self: object, _request: object, _context: object) -> NoReturn:
        raise Unimplemented(f"{method} is not served by the embedded Qdrant; a Qdrant server has it")

    return refuse
