"""`gannet search`: the best passages of a collection, as a table."""

from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from gannet_client.cli import session
from gannet_client.cli.ingest import DEFAULT_COLLECTION, Collection
from gannet_client.cli.session import Options
from gannet_client.types import Passage, Scores, SearchMode, SearchOptions

SNIPPET_CHARACTERS_MAX = 200

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


def search(
    context: typer.Context,
    query: Annotated[str, typer.Argument(help="What to look for.")],
    *,
    collection: Collection = DEFAULT_COLLECTION,
    top_k: TopK = None,
    mode: Mode = None,
    rerank: Rerank = None,
    narrowed: Filter = "",
    max_per_document: PerDocument = None,
    diversity: Diversity = None,
    explain: Explain = False,
) -> None:
    """Find the best passages."""
    wanted = SearchOptions(
        top_k=top_k,
        mode=mode,
        rerank=rerank,
        filter=narrowed,
        max_per_document=max_per_document,
        diversity=diversity,
        explain=explain,
    )

    async def run(options: Options) -> None:
        async with options.client() as client:
            result = await client.search(collection, query, wanted)
        if options.as_json:
            session.emit(result)
            return
        for skipped in result.degraded:
            session.tell("degraded", f"without {skipped.stage} ({skipped.reason})", style="yellow")
        session.results.print(passage_table(result.passages, explained=explain), soft_wrap=False)
        session.progress.print(
            f"{len(result.passages)} passages in {result.timings.total_us / 1000:.0f} ms", style="dim"
        )

    session.execute(context, run)


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
