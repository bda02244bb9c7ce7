"""`gannet ask`: an answer as it is made, with footnotes that quote their sources."""

from collections.abc import AsyncIterable
from typing import Annotated

import typer

from gannet_client.cli import session
from gannet_client.cli.ingest import DEFAULT_COLLECTION, Collection
from gannet_client.cli.search import Mode, Rerank, TopK, passage_table
from gannet_client.cli.session import ExitCode, Failed, Options
from gannet_client.errors import ServerError
from gannet_client.footnotes import Footnote, FootnotedText
from gannet_client.types import (
    AnswerEvent,
    Cited,
    Completed,
    Delta,
    FinishReason,
    Retrieved,
    SearchOptions,
    Warned,
)


def ask(
    context: typer.Context,
    question: Annotated[str, typer.Argument(help="What to answer from the documents.")],
    *,
    collection: Collection = DEFAULT_COLLECTION,
    top_k: TopK = None,
    mode: Mode = None,
    rerank: Rerank = None,
    sentences: Annotated[int, typer.Option("--sentences", help="Most sentences; 0: the generator's default.")] = 0,
    show_passages: Annotated[bool, typer.Option("--show-passages", help="Show what the answer is made from.")] = False,
) -> None:
    """Answer a question from the documents, with citations. Exit code 4 if they hold no answer."""

    async def run(options: Options) -> None:
        search = SearchOptions(top_k=top_k, mode=mode, rerank=rerank)
        async with options.client() as client:
            events = client.stream_answer(collection, question, search, sentences_max=sentences)
            if options.as_json:
                finish_reason = await _emit_events(events)
            else:
                finish_reason, _ = await write_answer(events, show_passages=show_passages)
        if finish_reason is FinishReason.NO_ANSWER:
            if not options.as_json:
                session.progress.print(f"no answer to that in collection {collection!r}")
            raise Failed(ExitCode.NO_ANSWER)

    session.execute(context, run)


async def _emit_events(events: AsyncIterable[AnswerEvent]) -> FinishReason:
    finish_reason: FinishReason | None = None
    async for event in events:
        session.emit({"event": type(event).__name__.lower(), "data": event})
        if isinstance(event, Completed):
            finish_reason = event.finish_reason
    return _known(finish_reason)


async def write_answer(
    events: AsyncIterable[AnswerEvent], *, show_passages: bool = False
) -> tuple[FinishReason, list[Footnote]]:
    """Write an answer to stdout as it comes, then its footnotes; give those back."""
    text = FootnotedText()
    finish_reason: FinishReason | None = None
    async for event in events:
        match event:
            case Retrieved():
                text.retrieved(event.passages)
                if show_passages:
                    session.results.print(passage_table(event.passages), soft_wrap=False)
            case Delta():
                _write(text.delta(event.text))
            case Cited():
                _write(text.citation(event.citation), style="cyan")
            case Warned():
                session.tell("warning", event.warning.message, style="yellow")
            case Completed():
                finish_reason = event.finish_reason
            case _:
                pass
    if text.footnotes:
        _write("\n\n")
    for note in text.footnotes:
        where = f"{note.title} ({note.document_id}, bytes {note.start_byte}-{note.end_byte})"
        _write(f"[{note.number}]", style="cyan")
        _write(f' {where}\n    "{note.quote.decode(errors="replace")}"\n')
    return _known(finish_reason), text.footnotes


def _write(text: str, style: str | None = None) -> None:
    session.results.out(session.printable(text), end="", style=style, highlight=False)
    session.results.file.flush()


def _known(finish_reason: FinishReason | None) -> FinishReason:
    if finish_reason is None:
        raise ServerError("the answer has no end")
    return finish_reason
