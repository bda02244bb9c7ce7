"""`gannet ask`: an answer as it is made, with footnotes that quote their sources."""

from collections.abc import AsyncGenerator, AsyncIterable
from typing import Annotated

import typer

from gannet_client.answer_types import AnswerOptions
from gannet_client.cli import session
from gannet_client.cli.ingest import DEFAULT_COLLECTION, Collection
from gannet_client.cli.search import Mode, Rerank, TopK, passage_table
from gannet_client.cli.session import ExitCode, Failed, Options, UserMistake
from gannet_client.client import GannetClient
from gannet_client.errors import ServerError
from gannet_client.footnotes import Footnote, FootnotedText
from gannet_client.search_types import SearchOptions
from gannet_client.types import AnswerEvent, Cited, Completed, Delta, FinishReason, Retrieved, Started, Warned

NEW = "new"


def ask(
    context: typer.Context,
    question: Annotated[str, typer.Argument(help="What to answer from the documents.")] = "",
    *,
    collection: Collection = DEFAULT_COLLECTION,
    top_k: TopK = None,
    mode: Mode = None,
    rerank: Rerank = None,
    sentences: Annotated[int, typer.Option("--sentences", help="Most sentences; 0: the generator's default.")] = 0,
    generators: Annotated[
        list[str] | None,
        typer.Option("--generator", help="Who answers; again for who takes over. Default: the collection's."),
    ] = None,
    language: Annotated[str, typer.Option("--language", help="Code of the language to answer in, e.g. hr.")] = "",
    conversation: Annotated[
        str, typer.Option("--conversation", help=f"Go on with this conversation; {NEW!r} begins one and tells its id.")
    ] = "",
    resumable: Annotated[bool, typer.Option("--resumable", help="Survive a connection that breaks.")] = False,
    resume: Annotated[
        str, typer.Option("--resume", help="Show an answer that was asked for with --resumable, by its id.")
    ] = "",
    show_passages: Annotated[bool, typer.Option("--show-passages", help="Show what the answer is made from.")] = False,
) -> None:
    """Answer a question from the documents, with citations. Exit code 4 if they hold no answer."""

    async def run(options: Options) -> None:
        if bool(question) == bool(resume):
            raise UserMistake("give either a question or --resume")
        search = SearchOptions(top_k=top_k, mode=mode, rerank=rerank)
        async with options.client() as client:
            how = AnswerOptions(
                sentences_max=sentences,
                generators=tuple(generators or ()),
                language=language,
                conversation=await _conversation(client, collection, conversation),
                resumable=resumable,
            )
            events = (
                client.resume_answer(resume) if resume else client.stream_answer(collection, question, search, how=how)
            )
            if resumable:
                events = _telling_its_id(events)
            if options.as_json:
                finish_reason = await _emit_events(events)
            else:
                finish_reason, _ = await write_answer(events, show_passages=show_passages)
        if finish_reason is FinishReason.NO_ANSWER:
            if not options.as_json:
                session.progress.print(f"no answer to that in collection {collection!r}")
            raise Failed(ExitCode.NO_ANSWER)

    session.execute(context, run)


async def _conversation(client: GannetClient, collection: str, conversation: str) -> str:
    """The conversation's id or name; a new one is told on stderr."""
    if conversation != NEW:
        return conversation
    made = await client.conversations.create(collection)
    session.tell("conversation", made.name.rpartition("/")[2], style="cyan")
    return made.name


async def _telling_its_id(events: AsyncIterable[AnswerEvent]) -> AsyncGenerator[AnswerEvent]:
    """`events`; how to come back to the answer is told on stderr, first of all."""
    async for event in events:
        if isinstance(event, Started):
            session.tell("answer", f"{event.answer_id} (gannet ask --resume {event.answer_id})", style="cyan")
        yield event


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
    completed: Completed | None = None
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
                completed = event
            case _:
                pass
    _write_footnotes(text)
    if completed is not None:
        said = completed.text.encode()
        for start, end in completed.unsupported:
            session.tell("unsupported", said[start:end].decode(errors="replace"), style="yellow")
    return _known(completed.finish_reason if completed else None), text.footnotes


def _write_footnotes(text: FootnotedText) -> None:
    if text.footnotes:
        _write("\n\n")
    for note in text.footnotes:
        where = f"{note.title} ({note.document_id}, bytes {note.start_byte}-{note.end_byte})"
        _write(f"[{note.number}]", style="cyan")
        _write(f' {where}\n    "{note.quote.decode(errors="replace")}"\n')


def _write(text: str, style: str | None = None) -> None:
    session.results.out(session.printable(text), end="", style=style, highlight=False)
    session.results.file.flush()


def _known(finish_reason: FinishReason | None) -> FinishReason:
    if finish_reason is None:
        raise ServerError("the answer has no end")
    return finish_reason
