"""`gannet demo`: everything once, on text that the machine already has, ending with what to try next."""

import os
import sys
from pathlib import Path

import typer

from gannet_client.cli import session
from gannet_client.cli.ask import write_answer
from gannet_client.cli.ingest import Report, ensure_collection, ingest_files
from gannet_client.cli.session import Options
from gannet_client.cli.up import local_stack
from gannet_client.client import GannetClient
from gannet_client.demo.corpus import write_corpus
from gannet_client.errors import GannetError
from gannet_client.files import find_files
from gannet_client.footnotes import Footnote
from gannet_client.local.home import StackFailed

COLLECTION = "python-docs"
QUESTION = "What is the purpose of the with statement?"
NEXT_QUESTION = "When is the finally clause executed?"
ANY_FREE_PORT = 0


def demo(context: typer.Context) -> None:
    """Start the stack, ingest the Python documentation, ask it a question, check the citations, stop.

    A second run skips what is done.
    """

    async def run(options: Options) -> None:
        home = options.home
        folder = home.root / "demo" / "docs"
        count = write_corpus(folder)
        session.results.print(f"[bold]1[/] wrote {count} documents from this Python's own documentation to {folder}")
        session.results.print("[bold]2[/] starting the stack")
        try:
            async with local_stack(options, ANY_FREE_PORT) as stack:
                client = GannetClient(stack.target, api_key=home.api_key(), timeout_s=options.timeout_s)
                async with client:
                    await show(client, folder)
        except GannetError as error:
            raise StackFailed(f"{error.message} ({error.reason}); the logs are in {home.logs}") from error
        _what_next(options)

    session.execute(context, run)


async def show(client: GannetClient, folder: Path) -> None:
    """Ingest `folder`, ask, and check every quote.

    Raises:
        StackFailed: something is not as it should be.
    """
    session.results.print(f"[bold]3[/] ingesting into collection {COLLECTION!r}")
    report = Report()
    await ensure_collection(client, COLLECTION)
    await ingest_files(client, COLLECTION, find_files([folder]), report)
    session.results.print(f"  {report.indexed} indexed ({report.chunks} chunks), {report.unchanged} unchanged")
    if report.failures:
        document_id, message = report.failures[0]
        raise StackFailed(f"{len(report.failures)} documents failed, the first: {document_id}: {message}")
    session.results.print(f"[bold]4[/] asking: {QUESTION}\n")
    _, footnotes = await write_answer(client.stream_answer(COLLECTION, QUESTION))
    if not footnotes:
        raise StackFailed("the answer has no citation")
    for note in footnotes:
        await _check(client, folder, note)
    session.results.print(
        f"\n[bold]5[/] each of the {len(footnotes)} quotes equals, byte for byte, its document on the server and its file on disk"
    )


async def _check(client: GannetClient, folder: Path, note: Footnote) -> None:
    """Compare a quote with the server's text and with the file.

    Raises:
        StackFailed: it is another text.
    """
    stored = await client.read_text(note.document, note.start_byte, note.end_byte)
    on_disk = (folder / note.document_id).read_bytes()[note.start_byte : note.end_byte]
    if not note.quote == stored == on_disk:
        raise StackFailed(f"citation [{note.number}] does not quote {note.document_id}")


def _what_next(options: Options) -> None:
    program = os.path.relpath(sys.argv[0])
    home = options.home.root
    session.results.out(
        f"""
Authentication was on. The API key is {options.home.api_key()}
(kept in {options.home.api_key_file}, where the command line finds it).

What to try next:
  {program} --home {home} up                 # the same stack until Ctrl-C; then, in another terminal:
  {program} --home {home} ask "{NEXT_QUESTION}" -c {COLLECTION}
  {program} --home {home} ingest PATH -c mine && {program} --home {home} search "anything" -c mine

From Python:
  from gannet_client import GannetClient
  async with GannetClient(api_key="gnt_...") as client:
      answer = await client.answer("{COLLECTION}", "{NEXT_QUESTION}")
""",
        highlight=False,
    )
