"""The generator's settings: what is refused before anything starts, and by which name."""

import json

import pytest

from gannet_generator.config import GeneratorConfig
from gannet_service.config import load

WELL = {"base_url": "http://127.0.0.1:8000/v1", "model": "wader"}


def refused(monkeypatch, capsys, upstreams: list[dict[str, object]]) -> str:
    """What the start says of these upstreams."""
    monkeypatch.setenv("GANNET_GENERATOR_UPSTREAMS", json.dumps(upstreams))
    with pytest.raises(SystemExit) as exit_:
        load(GeneratorConfig, [])
    assert exit_.value.code == 2
    return capsys.readouterr().err


def test_upstream_of_three_lines_has_a_name_and_bounds(monkeypatch):
    """Base URL, model and key file are all that has to be said."""
    monkeypatch.setenv("GANNET_GENERATOR_UPSTREAMS", json.dumps([{**WELL, "key_file": "/run/key"}]))
    (upstream,) = load(GeneratorConfig, []).upstreams
    assert (upstream.name, upstream.tokens_default, upstream.attempts_max) == ("upstream", 1024, 3)


@pytest.mark.parametrize(
    "change, complaint",
    [
        ({"base_url": "localhost:8000"}, "generator.upstreams.0.base_url"),
        ({"model": ""}, "generator.upstreams.0.model"),
        ({"key": "sk-1"}, "generator.upstreams.0.key"),
        ({"name": "Fluent one"}, "generator.upstreams.0.name"),
        ({"attempts_max": 0}, "generator.upstreams.0.attempts_max"),
        ({"tokens_max": 10}, "tokens_default 1024 is more than tokens_max 10"),
        ({"name": "extractive"}, "more than one generator is called extractive"),
    ],
)
def test_upstream_that_cannot_be_is_refused_by_the_settings_name(monkeypatch, capsys, change, complaint):
    """The complaint names the entry and the setting in it."""
    assert complaint in refused(monkeypatch, capsys, [WELL | change])


def test_default_generator_stays_the_one_that_quotes_until_another_is_named(monkeypatch):
    """An upstream that is added takes nothing over by being there."""
    monkeypatch.setenv("GANNET_GENERATOR_UPSTREAMS", json.dumps([WELL]))
    assert load(GeneratorConfig, []).default_generator == "extractive"
    monkeypatch.setenv("GANNET_GENERATOR_DEFAULT_GENERATOR", "upstream")
    assert load(GeneratorConfig, []).default_generator == "upstream"


def test_default_generator_that_is_not_served_is_refused(monkeypatch, capsys):
    """The complaint names those that are; a decoder is one only where there is a model for it."""
    monkeypatch.setenv("GANNET_GENERATOR_DEFAULT_GENERATOR", "decoder")
    assert "default_generator 'decoder' is not one of extractive, upstream" in refused(monkeypatch, capsys, [WELL])


def test_upstreams_of_one_name_are_refused(monkeypatch, capsys):
    """A request could not tell them apart."""
    assert "more than one generator is called upstream" in refused(monkeypatch, capsys, [WELL, WELL])
