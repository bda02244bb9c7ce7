"""Worker processes: they may die, hang or use up their memory, and cost the file that did it and nothing else."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from fakes.files import pdf
from unit.gateway.ingestion import make_parser

from gannet_gateway.parsing import parser as parsing
from gannet_gateway.parsing.formats import DOCX, JSONL, PDF, PLAIN
from gannet_gateway.parsing.parser import IN_PLACE_BYTES_MAX, Content, Held, Parser
from gannet_service.errors import InvalidInput

GOOD = Held(pdf([["Good."]]))
BIG = Held(b'{"a": "some words of it"}\n' * 400_000)


@dataclass
class Started:
    """The worker processes that were started, in order."""

    pids: list[int] = field(default_factory=list)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Started:
    """Keeps count of workers."""
    kept, start = Started(), parsing._Worker.start

    async def recorded(*arguments: Any) -> Any:
        worker = await start(*arguments)
        kept.pids.append(worker._process.pid)
        return worker

    monkeypatch.setattr(parsing._Worker, "start", recorded)
    return kept


@pytest.fixture
async def make(started: Started) -> AsyncIterator[Callable[..., Parser]]:
    """Makes parsers that are closed with the test; then none of their processes is left."""
    made: list[Parser] = []

    def one(**settings: Any) -> Parser:
        made.append(make_parser(**{"text_bytes_max": 64 << 20, **settings}))
        return made[-1]

    yield one
    for parser in made:
        await parser.close()
    assert [pid for pid in started.pids if is_alive(pid)] == []


def is_alive(pid: int) -> bool:
    """Whether the process is there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def refused(parser: Parser, content: Content, mime_type: str) -> str:
    """Why a content is not taken."""
    with pytest.raises(InvalidInput) as caught:
        await parser.text(content, mime_type)
    assert caught.value.field == "content"
    return caught.value.message


async def test_text_of_small_files_needs_no_worker(make: Callable[..., Parser], started: Started):
    """Nor does plain text of any size; what is larger goes to a worker that stays."""
    parser = make()
    assert await parser.text(Held(b"x" * (1 << 20)), PLAIN) == "x" * (1 << 20)
    assert await parser.text(Held(b'"x"'), JSONL) == "x\n\n"
    assert started.pids == []
    line = b'"' + b"x" * IN_PLACE_BYTES_MAX + b'"'
    assert await parser.text(Held(line), JSONL) == "x" * IN_PLACE_BYTES_MAX + "\n\n"
    assert await parser.text(GOOD, PDF) == "Good.\n"
    assert len(started.pids) == 1


async def test_text_of_many_files_shares_the_workers(make: Callable[..., Parser], started: Started):
    """No more processes than there may be, however many files wait."""
    parser = make(workers_max=2)
    assert await asyncio.gather(*(parser.text(GOOD, PDF) for _ in range(12))) == ["Good.\n"] * 12
    assert len(started.pids) == 2


@pytest.mark.parametrize("kind", [PDF, DOCX])
async def test_text_of_garbage_is_refused_and_the_worker_stays(
    make: Callable[..., Parser], started: Started, kind: str
):
    """A broken file is the file's failure."""
    parser = make()
    assert (await refused(parser, Held(b"%PDF-1.7 or so"), kind)).startswith("content: no")
    assert await parser.text(GOOD, PDF) == "Good.\n"
    assert len(started.pids) == 1


async def test_text_that_hangs_is_refused_alone(make: Callable[..., Parser], started: Started):
    """The time limit is named, the worker replaced, and a file beside it is read."""
    parser = make(timeout_s=0.01)
    assert await refused(parser, BIG, JSONL) == "content: not read within parse_timeout_s = 0.01 seconds"
    parser._worker_limits = parsing.WorkerLimits(timeout_s=30, memory_bytes_max=1 << 30)
    assert await parser.text(GOOD, PDF) == "Good.\n"
    assert len(started.pids) == 2


async def test_text_that_eats_memory_is_refused_alone(make: Callable[..., Parser], started: Started):
    """The kernel refuses the memory, the limit is named, the worker replaced."""
    parser = make(memory_bytes_max=96 << 20)
    expected = f"content: reading it takes more than parse_memory_bytes_max = {96 << 20} bytes"
    assert await refused(parser, BIG, JSONL) == expected
    assert await parser.text(GOOD, PDF) == "Good.\n"
    assert len(started.pids) == 2


@dataclass
class Deadly:
    """A content that kills whoever reads it, the first `deaths` times."""

    started: Started
    deaths: int
    size: int = 100_000

    async def pieces(self) -> AsyncIterator[bytes]:
        """A PDF, and death before its end."""
        yield GOOD.content[:100]
        if self.deaths:
            self.deaths -= 1
            os.kill(self.started.pids[-1], signal.SIGKILL)
        yield GOOD.content[100:]


async def test_text_whose_parser_dies_is_read_by_another_once(make: Callable[..., Parser], started: Started):
    """A worker may have died for another's sake; a file that ends two is to blame."""
    parser = make()
    assert await parser.text(Deadly(started, deaths=1), PDF) == "Good.\n"
    expected = f"content: reading it as {PDF} ended the parser's process (SIGKILL)"
    assert await refused(parser, Deadly(started, deaths=2), PDF) == expected
    assert await parser.text(GOOD, PDF) == "Good.\n"


async def test_text_with_a_worker_that_died_idle_is_read(make: Callable[..., Parser], started: Started):
    """Nobody notices."""
    parser = make()
    await parser.text(GOOD, PDF)
    os.kill(started.pids[0], signal.SIGKILL)
    assert await parser.text(GOOD, PDF) == "Good.\n"


async def test_text_cancelled_ends_its_worker(make: Callable[..., Parser], started: Started):
    """A caller who leaves takes the work along, and what could answer to the next one."""
    parser = make(workers_max=1)
    entered = asyncio.Event()

    class Endless:
        size = 100_000

        async def pieces(self) -> AsyncIterator[bytes]:
            yield b"%PDF"
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(parser.text(Endless(), PDF))
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not is_alive(started.pids[0])
    assert await parser.text(GOOD, PDF) == "Good.\n"


async def test_text_of_a_content_that_cannot_be_fetched_says_so(make: Callable[..., Parser]):
    """Not the file's failure, and not the worker's."""

    class Gone:
        size = 100_000

        async def pieces(self) -> AsyncIterator[bytes]:
            yield b"%PDF"
            raise FileNotFoundError("gone")

    parser = make()
    with pytest.raises(FileNotFoundError):
        await parser.text(Gone(), PDF)
    assert await parser.text(GOOD, PDF) == "Good.\n"


async def test_a_worker_knows_none_of_the_gateways_secrets(
    make: Callable[..., Parser], started: Started, monkeypatch: Any
):
    """Its environment says where to find code and room for files."""
    monkeypatch.setenv("GANNET_GATEWAY_LEDGER_URL", "postgresql://user:secret@host/db")
    await make().text(GOOD, PDF)
    with open(f"/proc/{started.pids[0]}/environ", "rb") as file:  # noqa: ASYNC230, PTH123 - the kernel's
        names = {entry.partition(b"=")[0] for entry in file.read().split(b"\0") if entry}
    assert names <= {b"PYTHONPATH", b"TMPDIR", b"LC_CTYPE"}
