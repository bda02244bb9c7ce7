"""`python -m gannet_inference`: output for people and machines, exit codes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from fakes.decoder import manifest_of, write_folder

from gannet_inference.models_cli import main


@pytest.fixture
def manifest(tiny_model, tmp_path):
    """A user's manifest with the tiny model; gives the options that name it."""
    entry = tiny_model()
    text = (
        f'[models.tiny]\nkind = "bi-encoder"\nsource = {{folder = "{entry.source.folder}"}}\n'
        'licence = "none"\ntokens_max = 12\nprecision = "fp32"\n'
    )
    (tmp_path / "models.toml").write_text(text, encoding="utf-8")
    return ["--manifest", str(tmp_path / "models.toml"), "--models-dir", str(tmp_path / "models")]


def test_build_named_model_writes_json_to_stdout_and_progress_to_stderr(manifest, capsys):
    """A machine reads one object per model; a person sees what takes time."""
    assert main(["build", "tiny", "--json", *manifest]) == 0

    output = capsys.readouterr()
    built = json.loads(output.out)
    assert (built["name"], built["precision"], built["dim"]) == ("tiny", "fp32", 16)
    assert output.err == "tiny: building fp32\n"


def test_build_also_builds_the_further_precisions(manifest, capsys):
    """A model that two servers open in two precisions is built in both."""
    file = Path(manifest[manifest.index("--manifest") + 1])
    file.write_text(file.read_text() + 'also = ["int8"]\n')

    assert main(["build", "tiny", "--json", *manifest]) == 0
    assert [json.loads(line)["precision"] for line in capsys.readouterr().out.splitlines()] == ["fp32", "int8"]


def test_build_other_precision_on_request(manifest, capsys):
    """--precision overrides the model's own."""
    assert main(["build", "tiny", "--precision", "int8", *manifest]) == 0

    assert "tiny: int8 ready in" in capsys.readouterr().err


def test_build_of_a_decoder_checks_its_files(tmp_path, capsys):
    """Nothing is built of an export; that a file is missing is said now and not when a server starts."""
    write_folder(tmp_path / "tiny")
    (tmp_path / "models.toml").write_text(manifest_of(tmp_path / "tiny"))
    options = ["build", "tiny-writer", "--manifest", str(tmp_path / "models.toml"), "--models-dir", str(tmp_path)]

    assert main(options) == 0
    assert "tiny-writer: ready in" in capsys.readouterr().err

    (tmp_path / "tiny" / "tokenizer.json").unlink()
    assert main(options) == 2
    assert "tokenizer.json: there is no such file" in capsys.readouterr().err


def test_list_shows_every_model(manifest, capsys):
    """All models of the merged manifest, with nothing built."""
    assert main(["list", *manifest]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["all-minilm-l6-v2", "reranker-minilm-l6-qa", "tiny"]


@pytest.mark.parametrize(
    "arguments,problem",
    [
        (["build", "tiyn"], "error: model 'tiyn': name: no such model"),
        (["build", "--manifest", "/absent.toml"], "error: model '*': /absent.toml:"),
    ],
)
def test_users_mistake_is_one_line_and_exit_code_2(manifest, capsys, arguments, problem):
    """No traceback for a mistake in a name or a path."""
    assert main([arguments[0], *manifest, *arguments[1:]]) == 2

    error = capsys.readouterr().err
    assert error.startswith(problem)
    assert error.count("\n") == 1


def test_models_dir_that_cannot_be_made_is_one_line_and_exit_code_2(manifest, capsys, tmp_path):
    """So is a folder that cannot be written."""
    (tmp_path / "file").write_text("", encoding="utf-8")

    assert main(["build", "tiny", *manifest, "--models-dir", str(tmp_path / "file")]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_module_runs_from_the_command_line(manifest):
    """`python -m gannet_inference` passes the exit code on."""
    command = [sys.executable, "-m", "gannet_inference", "build", "absent", *manifest]

    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
