"""The folder that holds everything of a local stack: models, data, logs, the API key, and what is running."""

import fcntl
import json
import os
import secrets
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

API_KEY_PREFIX = "gnt_"


class StackFailed(Exception):
    """The local stack cannot run; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Home:
    """Where things are. Nothing is created by looking."""

    root: Path

    @property
    def models(self) -> Path:
        """The built models."""
        return self.root / "models"

    @property
    def data(self) -> Path:
        """The gateway's ledger and blobs, and the vectors."""
        return self.root / "data"

    @property
    def logs(self) -> Path:
        """JSON lines by service, and what each wrote to its standard error."""
        return self.root / "logs"

    @property
    def api_key_file(self) -> Path:
        """The key that the local gateway knows from its first start."""
        return self.root / "api-key"

    @property
    def stack_file(self) -> Path:
        """What is running, while it is serving."""
        return self.root / "run" / "stack.json"

    @property
    def lock_file(self) -> Path:
        """Held by the one `gannet up` of this home."""
        return self.root / "run" / "lock"

    def api_key(self) -> str | None:
        """The local key, if there is one."""
        with suppress(OSError, UnicodeDecodeError):
            return self.api_key_file.read_text(encoding="ascii").strip() or None
        return None

    def ensure_api_key(self) -> str:
        """The local key, made on the first call and readable by its owner only."""
        key = self.api_key()
        if key is None:
            key = API_KEY_PREFIX + secrets.token_urlsafe(32)
            self.root.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.api_key_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(key + "\n")
        return key

    def running_target(self) -> str | None:
        """The gateway's address, if a stack says that it is running."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            stack: Any = json.loads(self.stack_file.read_text(encoding="utf-8"))
            return str(stack["target"])
        return None

    def write_stack(self, stack: dict[str, object]) -> None:
        """Say what is running; readers see the old file or the new one."""
        temporary = self.stack_file.with_suffix(".tmp")
        temporary.write_text(json.dumps(stack, indent=2) + "\n", encoding="utf-8")
        temporary.replace(self.stack_file)

    @contextmanager
    def locked(self) -> Generator[None]:
        """Be the one stack of this home.

        Raises:
            StackFailed: another one is.
        """
        self.lock_file.parent.mkdir(parents=True, exist_ok=True)
        with self.lock_file.open("a", encoding="utf-8") as file:
            try:
                # The kernel lets go of it when the process ends, however it ends.
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                message = f"another gannet runs a stack in {self.root}: stop it, or choose another folder with --home"
                raise StackFailed(message) from None
            try:
                yield
            finally:
                self.stack_file.unlink(missing_ok=True)
