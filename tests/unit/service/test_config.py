import json
from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import SecretStr
from pydantic_settings import SettingsConfigDict

from gannet_service.config import EXIT_CONFIG, ServiceConfig, load, unknown_variables, variable_name


class TinyConfig(ServiceConfig):
    """A service with a secret."""

    model_config = SettingsConfigDict(env_prefix="TINY_")
    service: ClassVar[str] = "tiny"

    api_key: SecretStr | None = None


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """What is said about a configuration that cannot be used."""
    with pytest.raises(SystemExit) as caught:
        load(TinyConfig, argv)
    assert caught.value.code == EXIT_CONFIG
    return capsys.readouterr().err


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    """A configuration file to be."""
    return tmp_path / "gannet.toml"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the machine exports does not count."""
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)


def test_load_without_settings_gives_defaults():
    """Loopback, any port, no deadline longer than half a minute."""
    config = load(TinyConfig, [])
    assert (config.host, config.port, config.deadline_default_s) == ("127.0.0.1", 0, 30.0)


@pytest.mark.parametrize("field", sorted(TinyConfig.model_fields))
def test_every_field_is_read_from_its_variable(field: str, monkeypatch: pytest.MonkeyPatch):
    """The name that is documented is the name that works, aliases or not."""
    values = {
        "host": "::1",
        "log_level": "DEBUG",
        "log_file": "x.log",
        "otlp_endpoint": "http://c:4317",
        "exit_with_parent": "true",
        "api_key": "k",
        "trace_sample_ratio": "0.5",
        "message_bytes_max": "70000",
    }
    monkeypatch.setenv(variable_name(TinyConfig, field), values.get(field, "9"))
    assert getattr(load(TinyConfig, []), field) != TinyConfig.model_fields[field].default


@pytest.mark.parametrize("field", sorted(TinyConfig.model_fields))
def test_variable_without_prefix_is_not_read(field: str, monkeypatch: pytest.MonkeyPatch):
    """`HOST` or `PORT` of some other program never reach a service."""
    monkeypatch.setenv(field.upper(), "7")
    assert getattr(load(TinyConfig, []), field) == TinyConfig.model_fields[field].default


def test_otel_variable_sets_the_endpoint_unless_ours_does(monkeypatch: pytest.MonkeyPatch, toml: Path):
    """Our own variable comes first, then the standard one, then the file."""
    toml.write_text('[tiny]\notlp_endpoint = "http://file:4317"\n')
    assert load(TinyConfig, ["--config", str(toml)]).otlp_endpoint == "http://file:4317"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://standard:4317")
    assert load(TinyConfig, ["--config", str(toml)]).otlp_endpoint == "http://standard:4317"
    monkeypatch.setenv("TINY_OTLP_ENDPOINT", "http://ours:4317")
    assert load(TinyConfig, ["--config", str(toml)]).otlp_endpoint == "http://ours:4317"


def test_unknown_variable_is_refused_with_the_nearest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """A typo never becomes a default."""
    monkeypatch.setenv("TINY_LOG_LEVLE", "DEBUG")
    assert refused(capsys) == "config: unknown setting TINY_LOG_LEVLE; did you mean TINY_LOG_LEVEL?\n"


def test_unknown_variables_of_other_programs_are_left_alone():
    """Only names below the prefix are ours."""
    assert unknown_variables(TinyConfig, {"PATH": "/bin", "TINYX": "1", "tiny_port": "1"}) == []


def test_unknown_name_in_the_file_is_refused_with_the_nearest(capsys: pytest.CaptureFixture[str], toml: Path):
    """In the file as in the environment."""
    toml.write_text("[tiny]\nmetric_port = 1\n")
    assert (
        refused(capsys, "--config", str(toml))
        == "config: unknown setting tiny.metric_port; did you mean metrics_port?\n"
    )


def test_unknown_table_in_the_file_is_refused_with_the_nearest(capsys: pytest.CaptureFixture[str], toml: Path):
    """A misspelt table would be a configuration that nobody reads."""
    toml.write_text("[gatewey]\nport = 1\n")
    assert "unknown table [gatewey]; did you mean gateway?" in refused(capsys, "--config", str(toml))


def test_tables_of_other_services_are_left_alone(toml: Path):
    """One file serves a whole stack."""
    toml.write_text("[tiny]\nport = 7\n[gateway]\nport = 8\nwhatever = 1\n")
    assert load(TinyConfig, ["--config", str(toml)]).port == 7


def test_environment_wins_over_the_file(monkeypatch: pytest.MonkeyPatch, toml: Path):
    """What is set for one start beats what is written down."""
    toml.write_text("[tiny]\nport = 7\n")
    monkeypatch.setenv("TINY_PORT", "8")
    assert load(TinyConfig, ["--config", str(toml)]).port == 8


@pytest.mark.parametrize(
    "name, value, complaint",
    [
        ("TINY_PORT", "65536", "TINY_PORT (tiny.port): Input should be less than or equal to 65535"),
        (
            "TINY_CONCURRENT_RPCS_MAX",
            "0",
            "TINY_CONCURRENT_RPCS_MAX (tiny.concurrent_rpcs_max): Input should be greater",
        ),
        ("TINY_DEADLINE_DEFAULT_S", "nan", "TINY_DEADLINE_DEFAULT_S (tiny.deadline_default_s): Input should be"),
        ("TINY_LOG_LEVEL", "LOUD", "TINY_LOG_LEVEL (tiny.log_level): String should match"),
    ],
)
def test_value_out_of_bounds_is_refused_by_name(
    name: str, value: str, complaint: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """The variable and the bound are named."""
    monkeypatch.setenv(name, value)
    assert refused(capsys).startswith(f"config: {complaint}")


@pytest.mark.parametrize("content", ["port = ", "tiny = 3\n", "[tiny]\nport = 'x'\n", b"\xff"])
def test_broken_file_is_refused(content: str | bytes, capsys: pytest.CaptureFixture[str], toml: Path):
    """Not TOML, not a table, not a number, not UTF-8: one line, no traceback."""
    toml.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert refused(capsys, "--config", str(toml)).count("\n") == 1


@pytest.mark.parametrize("argv", [["--config"], ["--config", "/no/such/file"], ["--port", "7"]])
def test_broken_options_are_refused(argv: list[str], capsys: pytest.CaptureFixture[str]):
    """A missing file, or an option that does not exist."""
    assert refused(capsys, *argv).startswith("config: ")


def test_print_config_masks_secrets(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """The values in force as JSON, and exit code 0."""
    monkeypatch.setenv("TINY_API_KEY", "hunter2")
    with pytest.raises(SystemExit) as caught:
        load(TinyConfig, ["--print-config"])
    printed = capsys.readouterr().out
    assert caught.value.code == 0
    assert "hunter2" not in printed
    assert json.loads(printed)["api_key"] == "**********"


def test_check_config_of_good_settings_exits_zero(capsys: pytest.CaptureFixture[str]):
    """And says nothing."""
    with pytest.raises(SystemExit) as caught:
        load(TinyConfig, ["--check-config"])
    assert (caught.value.code, capsys.readouterr().out) == (0, "")


def test_check_config_of_bad_settings_exits_two(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """The same complaint as at a start."""
    monkeypatch.setenv("TINY_PORT", "-1")
    assert "TINY_PORT" in refused(capsys, "--check-config")
