"""The command line against the fake gateway."""

import asyncio
import json
from collections.abc import Awaitable, Callable

import grpc
import pytest
from fakes.gateway import API_KEY, Refused
from typer.testing import CliRunner, Result

from gannet_client.cli.main import app
from gannet_client.cli.session import Options
from gannet_client.local.home import Home

Cli = Callable[..., Awaitable[Result]]

TEXT = "# Geese\n\nGannets dive from thirty metres. They eat fish.\n\nPuffins dig burrows.\n"


@pytest.fixture
def cli(target, tmp_path) -> Cli:
    """Run `gannet` with arguments; it has its own event loop, so it gets its own thread."""

    async def run(*arguments: str, target: str = target, key: str = API_KEY) -> Result:
        environment = {"GANNET_TARGET": target, "GANNET_API_KEY": key, "GANNET_HOME": str(tmp_path / "home")}
        return await asyncio.to_thread(CliRunner().invoke, app, list(arguments), env=environment)

    return run


@pytest.fixture
async def filled(cli, tmp_path) -> Cli:
    """A command line whose gateway has one document."""
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "birds.md").write_text(TEXT)
    assert (await cli("ingest", str(folder), "-c", "docs")).exit_code == 0
    return cli


async def test_ingest_broken_files_are_named_and_the_rest_is_stored(cli, state, tmp_path):
    """One table of failures, exit code 1, and every good file stored."""
    (tmp_path / "good.md").write_text(TEXT)
    (tmp_path / "bad.txt").write_bytes(b"\xff")
    (tmp_path / "empty.txt").write_text("")

    result = await cli("ingest", str(tmp_path))
    assert result.exit_code == 1
    assert result.stdout == "1 indexed (3 chunks), 0 unchanged, 2 failed\n"
    assert "bad.txt    not UTF-8 at byte 0" in result.stderr
    assert "empty.txt  no text in it" in result.stderr
    assert set(state.collections["default"].documents) == {"good.md"}


async def test_ingest_json_gives_a_line_a_document_and_a_summary(cli, tmp_path):
    """Programs read one value a line."""
    (tmp_path / "a.md").write_text(TEXT)
    (tmp_path / "b.md").write_text("")

    result = await cli("--json", "ingest", str(tmp_path))
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert {line["document_id"]: line["status"] for line in lines[:-1]} == {"a.md": "indexed", "b.md": "failed"}
    assert lines[-1] == {"summary": {"indexed": 1, "unchanged": 0, "failed": 1, "not_sent": 0, "chunks": 3}}


async def test_ingest_again_is_unchanged(filled, tmp_path):
    """A second run stores nothing new."""
    result = await filled("ingest", str(tmp_path / "docs"), "-c", "docs")

    assert result.stdout == "0 indexed (0 chunks), 1 unchanged, 0 failed\n"


@pytest.mark.parametrize("name", ["none", "empty"])
async def test_ingest_nothing_there_is_a_mistake(cli, tmp_path, name):
    """A wrong path is the user's to correct."""
    (tmp_path / "empty").mkdir()

    assert (await cli("ingest", str(tmp_path / name))).exit_code == 2


async def test_search_shows_a_table(filled):
    """Rank, score, title, document and passage."""
    result = await filled("search", "gannets", "-c", "docs", "-k", "1")

    assert result.exit_code == 0
    assert "birds.md" in result.stdout
    assert "Gannets dive" in result.stdout


async def test_search_json_is_one_value(filled):
    """The whole result, for programs."""
    result = await filled("--json", "search", "gannets", "-c", "docs", "--mode", "sparse")

    (passage,) = json.loads(result.stdout)["passages"]
    assert (passage["start_byte"], passage["scores"]["dense"]) == (9, None)


async def test_ask_streams_text_with_marks_and_quotes(filled):
    """The mark follows its sentence; the footnote quotes the document."""
    result = await filled("ask", "gannets puffins", "-c", "docs")

    assert result.exit_code == 0
    assert result.stdout == (
        "Gannets dive from thirty metres.[1] Puffins dig burrows.[2]\n\n"
        '[1] Geese (birds.md, bytes 9-41)\n    "Gannets dive from thirty metres."\n'
        '[2] Geese (birds.md, bytes 58-78)\n    "Puffins dig burrows."\n'
    )


async def test_ask_json_gives_every_event(filled):
    """Programs see the events of the API."""
    result = await filled("--json", "ask", "gannets", "-c", "docs")

    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert [event["event"] for event in events] == ["started", "retrieved", "heartbeat", "delta", "cited", "completed"]
    assert events[-1]["data"]["finish_reason"] == "STOP"


async def test_ask_no_answer_exits_4(filled):
    """No answer is told apart from an error."""
    result = await filled("ask", "quantum", "-c", "docs")

    assert (result.exit_code, result.stdout) == (4, "")


async def test_ask_resumable_tells_how_to_come_back_and_resume_shows_it_again(filled):
    """Text and footnotes as before, from the answer's id alone."""
    asked = await filled("ask", "gannets puffins", "-c", "docs", "--resumable")
    resumed = await filled("ask", "--resume", "a1")

    assert "gannet ask --resume a1" in asked.stderr
    assert (resumed.exit_code, resumed.stdout) == (0, asked.stdout)


@pytest.mark.parametrize("arguments", [("ask",), ("ask", "why?", "--resume", "a1")])
async def test_ask_without_a_question_or_with_two_ways_is_a_mistake(filled, arguments):
    """Either a question or an answer to come back to."""
    result = await filled(*arguments)

    assert result.exit_code == 2
    assert "either a question or --resume" in result.stderr


async def test_ask_control_characters_of_documents_are_not_written(cli, tmp_path):
    """A document cannot drive the terminal."""
    (tmp_path / "evil.txt").write_text("Gannets \x1b]0;owned\x07 dive.")
    await cli("ingest", str(tmp_path))
    result = await cli("ask", "gannets")

    assert result.exit_code == 0
    assert "\x1b" not in result.stdout
    assert "\x07" not in result.stdout


async def test_documents_list_get_text_delete(filled):
    """A document can be looked at, read byte for byte, and removed."""
    assert "birds.md" in (await filled("documents", "list", "-c", "docs")).stdout
    assert "text_bytes      79" in (await filled("documents", "get", "birds.md", "-c", "docs")).stdout
    assert (await filled("documents", "get", "birds.md", "-c", "docs", "--text")).stdout_bytes == TEXT.encode()
    assert (await filled("documents", "delete", "birds.md", "-c", "docs")).exit_code == 0
    missing = await filled("documents", "get", "birds.md", "-c", "docs")
    assert missing.exit_code == 1
    assert "no document 'birds.md'" in missing.stderr


async def test_collections_create_list_delete(cli):
    """Collections come and go."""
    assert (await cli("collections", "create", "docs", "--chunk-size", "500", "--no-rerank")).exit_code == 0
    listed = await cli("--json", "collections", "list")
    assert [json.loads(line)["chunk_size"] for line in listed.stdout.splitlines()] == [500]
    assert (await cli("collections", "delete", "docs")).exit_code == 0
    assert (await cli("collections", "get", "docs")).exit_code == 1


async def test_status_names_what_does_not_serve(filled, state):
    """Exit code 1 if the gateway does not serve, with a line for each dependency."""
    assert (await filled("status")).exit_code == 0
    state.health |= {"": 2, "dependency:vectors": 2}
    result = await filled("status")

    assert result.exit_code == 1
    assert "vectors" in result.stdout
    assert "not serving" in result.stdout
    assert "docs" in result.stdout


async def test_server_not_there_exits_3(cli):
    """What cannot be reached is told apart from a refusal."""
    result = await cli("search", "gannets", target="127.0.0.1:1")

    assert result.exit_code == 3
    assert result.stderr.startswith("error: cannot reach 127.0.0.1:1")


async def test_server_mistakes_and_refusals_have_their_exit_codes(filled, state):
    """An invalid request is the user's mistake; a dependency that is down is not."""
    assert (await filled("search", " ", "-c", "docs")).exit_code == 2
    state.faults["Search"] += [Refused(grpc.StatusCode.UNAVAILABLE, "no vectors")] * 4
    result = await filled("search", "gannets", "-c", "docs")

    assert result.exit_code == 1
    assert "no vectors" in result.stderr
    assert "Traceback" not in result.stderr


async def test_wrong_key_exits_1(cli):
    """A key that is not known."""
    assert (await cli("collections", "list", key="gnt_other")).exit_code == 1


async def test_json_error_is_one_value_on_stderr(cli):
    """Programs can read errors, too."""
    result = await cli("--json", "collections", "get", "none")

    assert json.loads(result.stderr)["exit_code"] == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("search", "\udcff"),
        ("--api-key", "a\nb", "status"),
        ("--timeout", "0", "status"),
        ("search",),
        ("--home", "/proc/none", "up"),
        ("ingest", "none"),
    ],
)
async def test_mistake_exits_2_without_a_traceback(cli, arguments):
    """What the user has to change is said in a few words."""
    result = await cli(*arguments)

    assert result.exit_code == 2
    assert "Traceback" not in result.output
    assert isinstance(result.exception, SystemExit)


@pytest.mark.parametrize(
    "target, given, expected",
    [
        (None, None, "gnt_home"),
        ("localhost:7700", None, "gnt_home"),
        ("gannet.example.org:443", None, None),
        ("gannet.example.org:443", "gnt_given", "gnt_given"),
    ],
)
def test_home_key_is_used_for_loopback_only(tmp_path, target, given, expected):
    """The local key goes to a server on this machine and to nobody else."""
    (tmp_path / "api-key").write_text("gnt_home\n")
    options = Options(target=target, api_key=given, home=Home(tmp_path), as_json=False, timeout_s=1)

    assert options.resolved_api_key() == expected
