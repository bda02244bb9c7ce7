"""`gannet search`: the best passages of a collection, as a table."""

from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from gannet_client.cli import session
from gannet_client.cli.ingest import DEFAULT_COLLECTION, Collection
from gannet_client.cli.session import Options
from gannet_client.types import Passage, SearchMode, SearchOptions

SNIPPET_CHARACTERS_MAX = 200

TopK = Annotated[int | None, typer.Option("--top-k", "-k", help="Passages wanted.")]
Mode = Annotated[
    SearchMode | None, typer.Option(help="How candidates are found; default hybrid.", case_sensitive=False)
]
Rerank = Annotated[
    bool | None,
    typer.Option("--rerank/--no-rerank", help="Let the cross-encoder order them; default: the collection's."),
]


def search(
    context: typer.Context,
    query: Annotated[str, typer.Argument(help="What to look for.")],
    *,
    collection: Collection = DEFAULT_COLLECTION,
    top_k: TopK = None,
    mode: Mode = None,
    rerank: Rerank = None,
) -> None:
    """Find the best passages."""

    async def run(options: Options) -> None:
        async with options.client() as client:
            result = await client.search(collection, query, SearchOptions(top_k=top_k, mode=mode, rerank=rerank))
        if options.as_json:
            session.emit(result)
            return
        for skipped in result.degraded:
            session.tell("degraded", f"without {skipped.stage} ({skipped.reason})", style="yellow")
        session.results.print(passage_table(result.passages), soft_wrap=False)
        session.progress.print(
            f"{len(result.passages)} passages in {result.timings.total_us / 1000:.0f} ms", style="dim"
        )

    session.execute(context, run)


def passage_table(passages: tuple[Passage, ...]) -> Table:
    """Rank, score, title, document and the beginning of each passage."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("#", justify="right")
    table.add_column("score", justify="right")
    table.add_column("title", max_width=28)
    table.add_column("document", max_width=32, overflow="fold")
    table.add_column("passage", ratio=1)
    for rank, passage in enumerate(passages, start=1):
        snippet = " ".join(passage.text.split())[:SNIPPET_CHARACTERS_MAX]
        cells = (str(rank), f"{passage.scores.final:.3f}", passage.title, passage.document_id, snippet)
        table.add_row(*(Text(session.printable(cell)) for cell in cells))
    return table
