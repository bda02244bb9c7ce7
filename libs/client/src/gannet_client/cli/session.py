"""What all commands share: options, exit codes, and the way from an error to a line on stderr."""

import asyncio
import dataclasses
import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, IntEnum
from typing import Any

import typer
from rich.console import Console
from rich.text import Text

from gannet_client.client import DEFAULT_TARGET, GannetClient
from gannet_client.errors import GannetError, InvalidInput, Unauthenticated, Unavailable
from gannet_client.local.home import Home, StackFailed
from gannet_client.transport import RetryPolicy

# Somebody is waiting at a terminal: about 1 s of attempts before "cannot reach".
RETRY = RetryPolicy(attempts_max=4)
LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "[::1]")

results = Console(highlight=False, soft_wrap=True)
progress = Console(stderr=True, highlight=False)


class ExitCode(IntEnum):
    """What the exit code of a command means."""

    OK = 0
    REFUSED = 1
    MISTAKE = 2
    UNREACHABLE = 3
    NO_ANSWER = 4
    INTERRUPTED = 130


class UserMistake(Exception):
    """The user has to change something; the message says what."""


class Failed(Exception):
    """The command has told what went wrong; only the exit code is left to give."""

    def __init__(self, code: ExitCode) -> None:
        super().__init__(code.name)
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options in front of the command."""

    target: str | None
    api_key: str | None
    home: Home
    as_json: bool
    timeout_s: float

    def resolved_target(self) -> str:
        """Where to connect: the given target, the stack that runs in the home, or the default."""
        return self.target or self.home.running_target() or DEFAULT_TARGET

    def resolved_api_key(self) -> str | None:
        """The given key, or the home's own for a server on this machine: it is nobody else's business."""
        if self.api_key:
            return self.api_key
        host = self.resolved_target().rpartition(":")[0]
        return self.home.api_key() if host in LOOPBACK_HOSTS else None

    def client(self) -> GannetClient:
        """A client; make it inside the event loop."""
        key = self.resolved_api_key()
        return GannetClient(self.resolved_target(), api_key=key, timeout_s=self.timeout_s, retry=RETRY)


def options_of(context: typer.Context) -> Options:
    """The options that the application's callback has left."""
    options = context.obj
    if not isinstance(options, Options):
        raise TypeError("a command ran without the application's callback")
    return options


def execute(context: typer.Context, command: Callable[[Options], Coroutine[Any, Any, None]]) -> None:
    """Run a command and turn what it raises into one line on stderr and an exit code.

    Raises:
        typer.Exit: with the exit code, unless all went well.
    """
    options = options_of(context)
    try:
        asyncio.run(command(options))
    except GannetError as error:
        code, message = explain(error, options)
    except UnicodeEncodeError:
        code, message = ExitCode.MISTAKE, "an argument is not valid UTF-8"
    except (UserMistake, OSError) as error:
        code, message = ExitCode.MISTAKE, str(error)
    except StackFailed as error:
        code, message = ExitCode.REFUSED, str(error)
    except Failed as error:
        raise typer.Exit(error.code) from error
    except (KeyboardInterrupt, asyncio.CancelledError) as error:
        raise typer.Exit(ExitCode.INTERRUPTED) from error
    else:
        return
    if options.as_json:
        progress.out(json.dumps({"error": message, "exit_code": int(code)}))
    else:
        tell("error", message, style="bold red")
    raise typer.Exit(code)


def explain(error: GannetError, options: Options) -> tuple[ExitCode, str]:
    """The exit code and the message for an error of the SDK."""
    if isinstance(error, Unavailable) and error.is_connection_lost:
        target = options.resolved_target()
        return ExitCode.UNREACHABLE, f"cannot reach {target}: is it running? (`gannet up` starts one on this machine)"
    if isinstance(error, Unauthenticated) and options.resolved_api_key() is None:
        return ExitCode.REFUSED, f"{error.message}: give --api-key or set GANNET_API_KEY"
    message = error.message or error.reason
    if isinstance(error, InvalidInput):
        return ExitCode.MISTAKE, message
    return ExitCode.REFUSED, f"{message} ({error.reason}, request {error.request_id})"


def emit(value: object) -> None:
    """Write one value as a line of JSON to stdout."""
    results.out(json.dumps(value, ensure_ascii=False, default=_plain))


def _plain(value: object) -> object:
    """What JSON has in the place of one of our values."""
    if isinstance(value, GannetError):
        return {"reason": value.reason, "message": value.message}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"no JSON for {type(value)}")


# Text from documents must not move the cursor or rename the window.
_CONTROLS = {
    number: "\N{REPLACEMENT CHARACTER}" for number in (*range(32), *range(127, 160)) if chr(number) not in "\n\t"
}


def printable(text: str) -> str:
    """`text` without control characters other than line ends and tabs."""
    return text.translate(_CONTROLS)


def tell(what: str, message: str, *, style: str) -> None:
    """Write a line to stderr for the user to read."""
    progress.print(Text.assemble((f"{what}: ", style), printable(message)), soft_wrap=True)
