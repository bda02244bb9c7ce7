"""Writes the configuration reference from the configuration classes: `python -m gannet_service.reference MODULE:CLASS… > FILE`."""

import importlib
import sys
from collections.abc import Sequence
from typing import Any, cast, get_args

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from gannet_service.config import ServiceConfig, variable_name

HEAD = """# Configuration

Written by `make config-docs` from the configuration classes; a test fails when the two differ.

Every process reads environment variables, and under them a TOML file if it is started with `--config FILE` (one table a service,
`[gateway]`, `[embedder]` and so on, with the names of the first column in lower case without their prefix). A name that no setting
has is refused with the nearest one that exists. `--check-config` only checks, `--print-config` prints the values in force with
secrets masked. `gannet up` passes its own environment on to every process that it starts, so `GANNET_GATEWAY_RERANK_DEPTH=40 gannet up`
works. What it sets itself: addresses, ports, folders, the bootstrap key and `EXIT_WITH_PARENT`.

## Command line and SDK

| variable | default | what it is |
|---|---|---|
| `GANNET_HOME` | `~/.gannet` | Folder of `gannet up`: data, models, logs, the API key. Also `--home`. |
| `GANNET_TARGET` | what `gannet up` serves, else `127.0.0.1:7700` | The gateway that commands talk to. Also `--target`. |
| `GANNET_API_KEY` | the key in `GANNET_HOME`, for loopback targets only | Also `--api-key`. |
| `QDRANT_URL` | – | A Qdrant server to use; `gannet up` then starts no embedded one. |
"""


def main(arguments: Sequence[str]) -> None:
    """Print the reference of the classes named."""
    kinds = [_load(argument) for argument in arguments]
    print(HEAD)  # noqa: T201 - this is the output
    print("## All services\n\nThe prefix is the service's, e.g. `GANNET_GATEWAY_PORT`.\n")  # noqa: T201
    print(_table(ServiceConfig, list(ServiceConfig.model_fields), prefix="GANNET_<SERVICE>_"))  # noqa: T201
    for kind in kinds:
        own = [field for field in kind.model_fields if field not in ServiceConfig.model_fields]
        print(f"\n## {kind.service.capitalize()} (`python -m {kind.__module__.split('.')[0]}`)\n")  # noqa: T201
        print(_table(kind, own, prefix=""))  # noqa: T201


def _load(argument: str) -> type[ServiceConfig]:
    module, _, name = argument.partition(":")
    return cast("type[ServiceConfig]", getattr(importlib.import_module(module), name))


def _table(kind: type[ServiceConfig], fields: Sequence[str], *, prefix: str) -> str:
    lines = ["| variable | default | bounds | what it is |", "|---|---|---|---|"]
    for name in fields:
        field = kind.model_fields[name]
        variable = f"{prefix}{variable_name(kind, name)}"
        lines.append(_row(variable, field))
        lines += [_row(f"{variable}[].{inner}", one) for inner, one in _items(field).items()]
    return "\n".join(lines)


def _row(variable: str, field: FieldInfo) -> str:
    cells = [f"`{variable}`", _default(field), _bounds(field), field.description or ""]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _items(field: FieldInfo) -> dict[str, FieldInfo]:
    """The settings of one entry, where a setting is a list of such."""
    for item in get_args(field.annotation):
        if isinstance(item, type) and issubclass(item, BaseModel):
            return dict(item.model_fields)
    return {}


def _default(field: FieldInfo) -> str:
    value: Any = field.default
    if field.is_required():
        return "needed"
    if value is None or value == "":
        return "–"
    if isinstance(value, SecretStr):
        return "(secret)"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _bounds(field: FieldInfo) -> str:
    signs = (("ge", "≥ "), ("gt", "> "), ("le", "≤ "), ("lt", "< "), ("pattern", ""))
    found = [
        f"{sign}{value}" if attribute != "pattern" else f"`{value}`"
        for constraint in field.metadata
        for attribute, sign in signs
        if (value := getattr(constraint, attribute, None)) is not None
    ]
    return ", ".join(found) or "–"


if __name__ == "__main__":
    main(sys.argv[1:])
