"""`gannet search`: the best passages of a collection, as a table."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from gannet_client.cli import session
from gannet_client.cli.ingest import DEFAULT_COLLECTION, Collection
from gannet_client.cli.session import ExitCode, Failed, Options, UserMistake
from gannet_client.errors import GannetError
from gannet_client.search_types import CacheTier, Passage, Scores, SearchMode, SearchOptions, SearchResult

SNIPPET_CHARACTERS_MAX = 200
BATCH_QUERIES_MAX = 32

TopK = Annotated[int | None, typer.Option("--top-k", "-k", help="Passages wanted.")]
Mode = Annotated[
    SearchMode | None, typer.Option(help="How candidates are found; default hybrid.", case_sensitive=False)
]
Rerank = Annotated[
    bool | None,
    typer.Option("--rerank/--no-rerank", help="Let the cross-encoder order them; default: the collection's."),
]

Filter = Annotated[
    str, typer.Option("--filter", help="Which documents, e.g. 'metadata.year >= 2024 AND metadata.tags:\"grpc\"'.")
]
PerDocument = Annotated[int | None, typer.Option("--max-per-document", help="Most passages of one document.")]
Diversity = Annotated[
    float | None, typer.Option(help="Choose passages unlike each other: 0 (unlike) to 1 (by relevance).")
]
Explain = Annotated[bool, typer.Option("--explain", help="Show each stage's rank and score.")]
QueryLanguage = Annotated[
    str, typer.Option("--language", help="The query's language, ISO 639-1; default: all of the collection's.")
]
MultiQuery = Annotated[
    int | None,
    typer.Option("--multi-query", help="Search for so many other phrasings, too, 1 to 3, which a generator writes."),
]
Staleness = Annotated[
    float, typer.Option("--max-staleness", help="Accept a state that was the latest so many seconds ago, 0 to 60.")
]
Queries = Annotated[
    Path | None,
    typer.Option("--queries", help="File with a query on each line, instead of QUERY; - reads the standard input."),
]


def search(
    context: typer.Context,
    query: Annotated[str | None, typer.Argument(help="What to look for.")] = None,
    *,
    collection: Collection = DEFAULT_COLLECTION,
    top_k: TopK = None,
    mode: Mode = None,
    rerank: Rerank = None,
    narrowed: Filter = "",
    max_per_document: PerDocument = None,
    diversity: Diversity = None,
    explain: Explain = False,
    language: QueryLanguage = "",
    multi_query: MultiQuery = None,
    max_staleness: Staleness = 0.0,
    queries: Queries = None,
) -> None:
    """Find the best passages, for one query or for each line of a file.

    Exit code 1 if one of several queries failed; the others have their results.
    """
    wanted = SearchOptions(
        top_k=top_k,
        mode=mode,
        rerank=rerank,
        filter=narrowed,
        max_per_document=max_per_document,
        diversity=diversity,
        explain=explain,
        language=language,
        multi_query=multi_query,
    )

    async def run(options: Options) -> None:
        asked = _asked(query, queries)
        async with options.client() as client:
            if isinstance(asked, str):
                result = await client.search(collection, asked, wanted, max_staleness_s=max_staleness)
                if options.as_json:
                    session.emit(result)
                else:
                    _show(result, explained=explain)
                return
            failed = False
            for at in range(0, len(asked), BATCH_QUERIES_MAX):
                batch = asked[at : at + BATCH_QUERIES_MAX]
                found = await client.batch_search(collection, batch, wanted, max_staleness_s=max_staleness)
                for one, outcome in zip(batch, found, strict=True):
                    failed |= _tell(one, outcome, options, explained=explain)
        if failed:
            raise Failed(ExitCode.REFUSED)

    session.execute(context, run)


def _asked(query: str | None, queries: Path | None) -> str | list[str]:
    if query is not None and queries is None:
        return query
    if queries is None or query is not None:
        raise UserMistake("give QUERY, or --queries with a file of them")
    text = sys.stdin.read() if str(queries) == "-" else queries.read_text(encoding="utf-8")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise UserMistake(f"{queries}: no query in it")
    return lines


def _tell(query: str, outcome: SearchResult | GannetError, options: Options, *, explained: bool) -> bool:
    """Show what became of one of several queries; whether it failed."""
    failed = isinstance(outcome, GannetError)
    if options.as_json:
        session.emit({"query": query, "error" if failed else "result": outcome})
        return failed
    session.results.print(Text(session.printable(query), style="bold"))
    if isinstance(outcome, GannetError):
        session.tell("error", outcome.message, style="bold red")
    else:
        _show(outcome, explained=explained)
    return failed


def _show(result: SearchResult, *, explained: bool) -> None:
    for skipped in result.degraded:
        session.tell("degraded", f"without {skipped.stage} ({skipped.reason})", style="yellow")
    session.results.print(passage_table(result.passages, explained=explained), soft_wrap=False)
    cached = {CacheTier.LOCAL: ", cached", CacheTier.SHARED: ", cached in Redis"}.get(result.cache_hits.result, "")
    session.progress.print(
        f"{len(result.passages)} passages in {result.timings.total_us / 1000:.0f} ms{cached}", style="dim"
    )


def passage_table(passages: tuple[Passage, ...], *, explained: bool = False) -> Table:
    """Rank, score, title, document and the beginning of each passage; `explained`, what each stage said."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("#", justify="right")
    table.add_column("score", justify="right")
    if explained:
        table.add_column("stages")
    table.add_column("title", max_width=28)
    table.add_column("document", max_width=32, overflow="fold")
    table.add_column("passage", ratio=1)
    for rank, passage in enumerate(passages, start=1):
        snippet = " ".join(passage.text.split())[:SNIPPET_CHARACTERS_MAX]
        stages = [_stages(passage.scores)] if explained else []
        cells = (str(rank), f"{passage.scores.final:.3f}", *stages, passage.title, passage.document_id, snippet)
        table.add_row(*(Text(session.printable(cell)) for cell in cells))
    return table


def _stages(scores: Scores) -> str:
    stages = (("dense", scores.dense, scores.dense_rank), ("bm25", scores.sparse, scores.sparse_rank))
    lines = [
        f"{name} {score:.3f}" + (f" (#{rank})" if rank else "") for name, score, rank in stages if score is not None
    ]
    if scores.rerank is not None:
        lines.append(f"rerank {scores.rerank:.2f}")
    return "\n".join(lines)
