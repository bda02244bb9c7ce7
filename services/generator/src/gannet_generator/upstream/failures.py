"""An upstream's failures in the words of the error table.

A refused key is the operator's to mend and no client's; it is PermissionDenied under a reason of its own, so that neither a retry nor
the caller's credentials are tried for it.
"""

import math

import openai

from gannet_service.errors import DependencyUnavailable, GannetError, InvalidInput, Overloaded, PermissionDenied

_RETRY_AFTER_S_DEFAULT = 1.0
_RETRY_AFTER_S_MAX = 300.0
_MESSAGE_CHARS_MAX = 200


class Interrupted(DependencyUnavailable):
    """The upstream failed in a way that another attempt may not: it could not be reached, broke off, or had a fault of its own."""


def translated(name: str, error: Exception) -> GannetError:
    """What a failure of the client or of the stream stands for; `name` is the generator's."""
    match error:
        case openai.APITimeoutError() | TimeoutError():
            return DependencyUnavailable(f"{name}: no answer in time", reason="UPSTREAM_TIMEOUT")
        case openai.APIStatusError():
            return _refused(name, error)
        case openai.APIConnectionError():
            return Interrupted(f"{name}: cannot be reached, or broke off", reason="UPSTREAM_UNREACHABLE")
        case openai.APIError() if not isinstance(error, openai.APIResponseValidationError):
            return Interrupted(f"{name}: {_said(error)}", reason="UPSTREAM_FAILED")
        case _:
            return broken(name, f"a stream that cannot be read ({type(error).__name__})")


def broken(name: str, what: str) -> GannetError:
    """The upstream does not keep to the protocol."""
    return DependencyUnavailable(f"{name}: {what}", reason="UPSTREAM_BROKEN")


def _refused(name: str, error: openai.APIStatusError) -> GannetError:
    status = error.status_code
    message = f"{name}: {status}: {_said(error)}"
    if status == 429 and error.code != "insufficient_quota":
        return Overloaded(message, reason="UPSTREAM_OVERLOADED", retry_after_s=_retry_after_s(error))
    if status in (401, 403):
        return PermissionDenied(
            f"{name}: the upstream refuses the server's key ({status})", reason="UPSTREAM_KEY_REFUSED"
        )
    if status in (400, 413, 422):
        return InvalidInput(message, field="messages", reason="UPSTREAM_REFUSED")
    if status >= 500 or status == 408:
        return Interrupted(message, reason="UPSTREAM_FAILED")
    # An unknown model, a wrong path, a quota that is used up: the same again would fail the same.
    return DependencyUnavailable(message, reason="UPSTREAM_REFUSED")


def _said(error: openai.APIError) -> str:
    """The upstream's own words, short enough to pass on."""
    return " ".join(error.message.split())[:_MESSAGE_CHARS_MAX]


def _retry_after_s(error: openai.APIStatusError) -> float:
    try:
        given = float(error.response.headers.get("retry-after", ""))
    except ValueError:
        return _RETRY_AFTER_S_DEFAULT
    return min(given, _RETRY_AFTER_S_MAX) if math.isfinite(given) and given > 0 else _RETRY_AFTER_S_DEFAULT
