"""Search options and results between the SDK's types and messages."""

from gannet.gateway.v1 import search_pb2
from gannet_client import search_wire
from gannet_client.cli.search import passage_table
from gannet_client.search_types import FusionMethod, SearchMode, SearchOptions


def test_search_options_of_nothing_is_an_empty_message():
    """What is not said is left to the server."""
    assert search_wire.search_options(SearchOptions()) == search_pb2.SearchOptions()


def test_search_options_all_reach_their_fields():
    """Every option, and zero where zero says something."""
    options = SearchOptions(
        top_k=3,
        mode=SearchMode.HYBRID,
        fusion=FusionMethod.RELATIVE_SCORE,
        dense_weight=2.0,
        filter='metadata.a = "b"',
        dense_score_min=0.0,
        max_per_document=2,
        diversity=0.0,
        exact=True,
        neighbours=1,
        explain=True,
        feedback_passages=4,
        feedback_weight=0.5,
        language="hr",
        multi_query=2,
        multi_query_weight=0.25,
        multi_query_generator="writer",
    )
    assert search_wire.search_options(options) == search_pb2.SearchOptions(
        top_k=3,
        mode="SEARCH_MODE_HYBRID",
        fusion={"method": "FUSION_METHOD_RELATIVE_SCORE", "dense_weight": 2.0},
        filter='metadata.a = "b"',
        dense_score_min=0.0,
        max_per_document=2,
        diversity={"balance": 0.0},
        exact=True,
        neighbours=1,
        explain=True,
        feedback={"passages": 4, "weight": 0.5},
        language="hr",
        multi_query={"queries": 2, "weight": 0.25, "generator": "writer"},
    )


def test_search_result_explained_has_ranks_neighbours_and_a_token():
    """And the table of the command line shows what each stage said."""
    scores = search_pb2.Scores(final=0.5, dense=0.75, dense_rank=2, rerank=-1.5)
    message = search_pb2.Passage(name="p", scores=scores, neighbours=[search_pb2.Passage(name="q", text="around")])
    result = search_wire.search_result(search_pb2.SearchResponse(passages=[message], next_page_token="t"))  # noqa: S106
    (passage,) = result.passages
    assert (passage.scores.dense_rank, passage.scores.sparse_rank, passage.scores.sparse) == (2, None, None)
    assert ([one.text for one in passage.neighbours], result.next_page_token) == (["around"], "t")
    (cell,) = passage_table(result.passages, explained=True).columns[2].cells
    assert str(cell) == "dense 0.750 (#2)\nrerank -1.50"
