"""Configuration of a service: environment variables and an optional TOML file, checked before anything starts.

A service subclasses `ServiceConfig`, gives it an `env_prefix`, and calls `load()` from its `__main__`. A name that no field has is
refused with the nearest one that exists, in the environment (below the prefix) as in the file: a typo never becomes a default.
"""

import difflib
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NoReturn, TypeVar, cast

from pydantic import Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

EXIT_CONFIG = 2
# One file serves a whole stack; a misspelt table would be a configuration that nobody reads.
TABLES = ("gateway", "embedder", "reranker", "generator", "edge")


class ServiceConfig(BaseSettings):
    """What every server has. Units are in the names; every bound is enforced."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True, validate_default=True)
    service: ClassVar[str] = "service"
    # Fields that are also read from a variable that other software uses; ours wins.
    well_known: ClassVar[Mapping[str, str]] = {"otlp_endpoint": "OTEL_EXPORTER_OTLP_ENDPOINT"}

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(0, ge=0, le=65535, description="Port to listen on; 0 picks a free one and logs it.")
    metrics_port: int = Field(
        0, ge=0, le=65535, description="Port of the Prometheus endpoint `/metrics`; 0 switches it off."
    )
    log_level: str = Field(
        "INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="Least severe level that is logged."
    )
    log_file: Path | None = Field(
        None, description="File for the JSON log lines, rotated at 20 MB, 3 kept; empty logs to stdout."
    )
    otlp_endpoint: str = Field(
        "",
        description="OTLP gRPC endpoint for traces, e.g. `http://collector:4317`; empty exports nothing. Also read from "
        "`OTEL_EXPORTER_OTLP_ENDPOINT`.",
    )
    trace_sample_ratio: float = Field(1.0, ge=0, le=1, description="Share of traces started here that are exported.")
    message_bytes_max: int = Field(16 << 20, ge=1 << 16, le=1 << 28, description="Largest message received, bytes.")
    concurrent_rpcs_max: int = Field(
        512,
        ge=1,
        le=100_000,
        description="RPCs in work at once, but for those whose callers stream; more are refused with RESOURCE_EXHAUSTED.",
    )
    concurrent_streams_max: int = Field(
        512,
        ge=1,
        le=100_000,
        description="RPCs open at once whose callers stream to the server; more are refused with RESOURCE_EXHAUSTED.",
    )
    deadline_default_s: float = Field(
        30.0, gt=0, le=3600, description="Deadline of a unary or server-streaming call whose caller gave none, seconds."
    )
    drain_s: float = Field(
        0.0,
        ge=0,
        le=300,
        description="Time between NOT_SERVING and the refusal of new calls at shutdown, seconds; more than the balancer's probe period.",
    )
    grace_s: float = Field(
        8.0, ge=0, le=300, description="Time that calls in work are given to end at shutdown, seconds."
    )
    connection_age_max_s: float = Field(
        300.0,
        ge=0,
        le=86_400,
        description="Age at which connections are closed so that clients find new replicas, seconds; 0 means never.",
    )
    exit_with_parent: bool = Field(
        False, description="Stop when the process that started this one is gone; set by `gannet up`."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment over file; nothing else is read."""
        del dotenv_settings, file_secret_settings
        toml = settings_cls.model_config.get("toml_file")
        file_source = (_Table(settings_cls, cls.service),) if toml else ()
        return (init_settings, env_settings, _WellKnown(settings_cls, cls.well_known), *file_source)


class _WellKnown(PydanticBaseSettingsSource):
    """Variables that other software uses too."""

    def __init__(self, settings_cls: type[BaseSettings], names: Mapping[str, str]) -> None:
        super().__init__(settings_cls)
        self._names = names

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[str | None, str, bool]:
        """The variable's value, if this field has one."""
        del field
        return os.environ.get(self._names.get(field_name, "")) or None, field_name, False

    def __call__(self) -> dict[str, str]:
        """The fields whose variables are set."""
        return {field: os.environ[name] for field, name in self._names.items() if os.environ.get(name)}


C = TypeVar("C", bound="ServiceConfig")


class _Table(TomlConfigSettingsSource):
    """The table of a TOML file that is named like the service, so that one file serves a whole stack."""

    def __init__(self, settings_cls: type[BaseSettings], service: str) -> None:
        super().__init__(settings_cls)
        known = (*TABLES, service)
        for name in self.toml_data:
            if name not in known:
                raise ValueError(f"unknown table [{name}]{_nearest(name, known)}")
        table: object = self.toml_data.get(service, {})
        if not isinstance(table, dict):
            raise ValueError(f"{service} is not a table; write [{service}] and its settings below")  # noqa: TRY004 - see load()
        self.toml_data = self.init_kwargs = cast("dict[str, object]", table)


def load(kind: type[C], argv: Sequence[str] | None = None) -> C:
    """Read the configuration of `kind`, or explain what is wrong with it and exit.

    Options: `--config FILE` (TOML), `--check-config` (exit 0 or 2), `--print-config` (values in force as JSON, secrets masked).

    Raises:
        SystemExit: 0 after `--check-config`/`--print-config`, 2 for a configuration that cannot be used.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    path = _option(arguments, "--config")
    flags = {flag for flag in ("--check-config", "--print-config") if flag in arguments}
    unknown = [argument for argument in arguments if argument not in flags]
    if unknown:
        _refuse(f"unknown option {unknown[0]!r}; known: --config FILE, --check-config, --print-config")
    try:
        config = _read(kind, path)
    except ValidationError as error:
        _refuse(*(_explain(kind, dict(problem)) for problem in error.errors()))
    except (OSError, ValueError) as error:
        _refuse(f"{path}: {error}")
    if "--print-config" in flags:
        print(json.dumps(config.model_dump(mode="json"), indent=2, sort_keys=True))  # noqa: T201 - this is the output asked for
    if flags:
        raise SystemExit(0)
    return config


def _read(kind: type[C], path: str | None) -> C:
    unknown = unknown_variables(kind, os.environ)
    if unknown:
        _refuse(*unknown)
    if path is not None:
        if not Path(path).is_file():
            raise FileNotFoundError("no such file")
        settings: Any = {**kind.model_config, "toml_file": path}
        kind = cast("type[C]", type(kind.__name__, (kind,), {"model_config": settings, "__module__": kind.__module__}))
    return cast("Callable[[], C]", kind)()


def unknown_variables(kind: type[ServiceConfig], environment: Mapping[str, str]) -> list[str]:
    """A complaint for each variable below the prefix of `kind` that no field has."""
    known = [variable_name(kind, field) for field in kind.model_fields]
    prefix = kind.model_config.get("env_prefix", "")
    names = [name.upper() for name in environment if name.upper().startswith(prefix)]
    return [f"unknown setting {name}{_nearest(name, known)}" for name in sorted(set(names) - set(known))]


def variable_name(kind: type[ServiceConfig], field: str) -> str:
    """The environment variable of a field."""
    return f"{kind.model_config.get('env_prefix', '')}{field}".upper()


def _nearest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _explain(kind: type[ServiceConfig], problem: Mapping[str, object]) -> str:
    location = cast("tuple[str | int, ...]", problem["loc"])
    field = str(location[0]) if location else kind.service
    if problem["type"] == "extra_forbidden" and len(location) == 1:
        return f"unknown setting {kind.service}.{field}{_nearest(field, list(kind.model_fields))}"
    place = ".".join(map(str, (kind.service, field, *location[1:])))
    return f"{variable_name(kind, field)} ({place}): {problem['msg']}"


def _option(arguments: list[str], name: str) -> str | None:
    if name not in arguments:
        return None
    at = arguments.index(name)
    if at + 1 == len(arguments):
        _refuse(f"{name} needs a file")
    value = arguments[at + 1]
    del arguments[at : at + 2]
    return value


def _refuse(*complaints: str) -> NoReturn:
    for complaint in complaints:
        print(f"config: {complaint}", file=sys.stderr)  # noqa: T201 - before logging is set up
    raise SystemExit(EXIT_CONFIG)
