"""`tei.v1` as a foreign client sees it: every RPC over a socket, from a client generated from the contract."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import tei_client
from grpc_tools import protoc

from gannet.embedder.v1 import embedder_pb2
from gannet.embedder.v1.embedder_pb2_grpc import EmbedderStub
from gannet.reranker.v1 import reranker_pb2
from gannet.reranker.v1.reranker_pb2_grpc import RerankerStub

PROTOS = Path(__file__).parents[3] / "protos/gannet/tei/v1"
TEXT = "A gannet dives as deep as 22 metres below the surface."
QUERY = "How deep does a gannet dive?"
TEXTS = ["The lighthouse was built in 1903.", TEXT, "Gannets nest on cliffs."]
LONG = "sea " * 300 + "rock " * 300

Call = tuple[str, list[dict[str, Any]]]
Outcomes = list[tuple[list[dict[str, Any]], dict[str, str] | None]]


@pytest.fixture(scope="session")
def tei(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Outcomes]:
    """Makes calls, "Service/Method" and requests each, from a process of its own; what came, and the error."""
    stubs = tmp_path_factory.mktemp("tei")
    outputs = (f"--python_out={stubs}", f"--grpc_python_out={stubs}")
    assert protoc.main(["protoc", f"--proto_path={PROTOS}", *outputs, "tei.proto"]) == 0

    def make(address: str, *calls: Call) -> Outcomes:
        named = []
        for name, requests in calls:
            service, method = name.split("/")
            named.append({"service": service, "method": method, "requests": requests})
        ran = subprocess.run(
            [sys.executable, tei_client.__file__, stubs, address],
            input=json.dumps(named),
            capture_output=True,
            text=True,
            check=True,
        )
        return [(outcome["replies"], outcome["error"]) for outcome in json.loads(ran.stdout)]

    return make


def only(outcomes: Outcomes) -> dict[str, Any]:
    """The one reply of the one call."""
    (((reply,), error),) = outcomes
    assert error is None
    return reply


def test_tei_info_of_each_server_describes_its_model(tei, embedder_address, reranker_address):
    """The model, its digest, its kind and the limits in force."""
    embedder, reranker = (only(tei(address, ("Info/Info", [{}]))) for address in (embedder_address, reranker_address))
    assert (embedder["model_id"], embedder["model_dtype"]) == ("all-minilm-l6-v2", "int8")
    # The first value of an enum is not written.
    assert "model_type" not in embedder
    assert (embedder["max_input_length"], embedder["max_client_batch_size"]) == (256, 16)
    assert (reranker["model_id"], reranker["model_type"]) == ("reranker-minilm-l6-qa", "MODEL_TYPE_RERANKER")
    assert len(bytes.fromhex(reranker["model_sha"])) == 32
    assert embedder["version"]


async def test_tei_embed_gives_the_vectors_of_our_own_contract(tei, embedder_address, open_channel):
    """Same model, same bits: normalised unless told otherwise, cut to dimensions, cut at either side."""
    ours = EmbedderStub(open_channel(embedder_address))
    cases = [
        ({"inputs": TEXT}, {}),
        ({"inputs": TEXT, "normalize": False}, {"normalise": False}),
        ({"inputs": TEXT, "dimensions": 64}, {"dims": 64}),
        ({"inputs": LONG, "truncate": True}, {}),
        (
            {"inputs": LONG, "truncate": True, "truncation_direction": "TRUNCATION_DIRECTION_LEFT"},
            {"truncation_side": embedder_pb2.TRUNCATION_SIDE_START},
        ),
        ({"inputs": TEXT, "prompt_name": "query"}, {}),
    ]
    replies = tei(embedder_address, *(("Embed/Embed", [request]) for request, _ in cases))
    for (request, fields), (((reply,), error)) in zip(cases, replies, strict=True):
        assert error is None
        expected = await ours.Embed(
            embedder_pb2.EmbedRequest(
                texts=[request["inputs"]], purpose=embedder_pb2.PURPOSE_PASSAGE, want_dense=True, **fields
            )
        )
        vector = np.frombuffer(expected.results[0].dense.data, "<f4")
        np.testing.assert_array_equal(np.array(reply["embeddings"], np.float32), vector)
        metadata = reply["metadata"]
        assert metadata["compute_chars"] == len(request["inputs"])
        assert metadata["compute_tokens"] == expected.results[0].token_count
        assert int(metadata["total_time_ns"]) >= int(metadata["inference_time_ns"]) > 0
        assert int(metadata["tokenization_time_ns"]) > 0


async def test_tei_sparse_and_token_vectors_are_ours(tei, embedder_address, open_channel):
    """EmbedSparse is BM25 by prompt, EmbedAll the model's vector of every token."""
    ours = EmbedderStub(open_channel(embedder_address))
    replies = tei(
        embedder_address,
        ("Embed/EmbedSparse", [{"inputs": TEXT}]),
        ("Embed/EmbedSparse", [{"inputs": TEXT, "prompt_name": "query"}]),
        ("Embed/EmbedAll", [{"inputs": TEXT}]),
    )
    ((passage,), _), ((query,), _), ((tokens,), _) = replies
    for reply, purpose in ((passage, embedder_pb2.PURPOSE_PASSAGE), (query, embedder_pb2.PURPOSE_QUERY)):
        request = embedder_pb2.EmbedRequest(texts=[TEXT], purpose=purpose, want_sparse=True, want_tokens=True)
        (expected,) = (await ours.Embed(request)).results
        terms = {value["index"]: value["value"] for value in reply["sparse_embeddings"]}
        assert [*terms] == list(expected.sparse.indices)
        np.testing.assert_allclose([*terms.values()], np.frombuffer(expected.sparse.values, "<f4"), rtol=1e-6)
    rows = np.array([token["embeddings"] for token in tokens["token_embeddings"]], np.float32)
    np.testing.assert_array_equal(rows.ravel(), np.frombuffer(expected.token_vectors.data, "<f4"))
    assert len(rows) == expected.token_count


@pytest.mark.parametrize("method", ["Embed", "EmbedSparse", "EmbedAll"])
def test_tei_embed_streams_answer_in_order_until_the_first_error(tei, embedder_address, method):
    """A stream gives what single calls give; an error ends it after what came before."""
    single, (streamed, error), (some, refused) = tei(
        embedder_address,
        (f"Embed/{method}", [{"inputs": TEXTS[2]}]),
        (f"Embed/{method}Stream", [{"inputs": text} for text in TEXTS]),
        (f"Embed/{method}Stream", [{"inputs": TEXTS[0]}, {"inputs": ""}, {"inputs": TEXTS[1]}]),
    )
    assert error is None
    assert [reply["metadata"]["compute_chars"] for reply in streamed] == [len(text) for text in TEXTS]
    last, alone = streamed[2], single[0][0]
    assert {key: last[key] for key in last if key != "metadata"} == {
        key: alone[key] for key in alone if key != "metadata"
    }
    assert len(some) == 1
    assert refused["code"] == "INVALID_ARGUMENT"
    assert "inputs" in refused["message"]


def test_tei_tokenize_and_decode_go_there_and_back_on_both_servers(tei, embedder_address, reranker_address):
    """Pieces stand at their bytes; special tokens come if asked for; decoding gives the text back."""
    text = "diving at Café 日本"
    for address in (embedder_address, reranker_address):
        plain, special, stream = tei(
            address,
            ("Tokenize/Tokenize", [{"inputs": text}]),
            ("Tokenize/Tokenize", [{"inputs": text, "add_special_tokens": True, "prompt_name": "query"}]),
            ("Tokenize/TokenizeStream", [{"inputs": part} for part in TEXTS]),
        )
        tokens = plain[0][0]["tokens"]
        assert "".join(token["text"] for token in tokens) == text.replace(" ", "")
        for token in tokens:
            assert text.encode()[token["start"] : token["stop"]].decode() == token["text"]
        around = special[0][0]["tokens"]
        assert [around[0]["text"], around[-1]["text"]] == ["[CLS]", "[SEP]"]
        assert around[0]["special"]
        assert "start" not in around[0]
        assert [token["id"] for token in around[1:-1]] == [token["id"] for token in tokens]
        assert len(stream[0]) == len(TEXTS)
        ids = [token["id"] for token in around]
        decoded, kept, streamed = tei(
            address,
            ("Tokenize/Decode", [{"ids": ids, "skip_special_tokens": True}]),
            ("Tokenize/Decode", [{"ids": ids}]),
            ("Tokenize/DecodeStream", [{"ids": ids[:3]}, {"ids": ids[:2]}]),
        )
        assert decoded[0][0]["text"] == "diving at cafe 日 本"
        assert kept[0][0]["text"].startswith("[CLS]")
        assert [reply["text"] for reply in streamed[0]] == ["[CLS] diving at", "[CLS] diving"]


async def test_tei_rerank_gives_the_scores_of_our_own_contract(tei, reranker_address, open_channel):
    """Sorted, sigmoid unless raw, with the text if asked; a stream of texts is ranked as one request."""
    ours = RerankerStub(open_channel(reranker_address))
    raw, mapped, stream = tei(
        reranker_address,
        ("Rerank/Rerank", [{"query": QUERY, "texts": TEXTS, "raw_scores": True}]),
        ("Rerank/Rerank", [{"query": QUERY, "texts": TEXTS, "return_text": True}]),
        ("Rerank/RerankStream", [{"query": QUERY, "text": text, "raw_scores": True} for text in TEXTS]),
    )
    for reply, sigmoid in ((raw, False), (mapped, True)):
        expected = await ours.Rerank(reranker_pb2.RerankRequest(query=QUERY, passages=TEXTS, sigmoid=sigmoid))
        ranks = reply[0][0]["ranks"]
        assert [rank.get("index", 0) for rank in ranks] == [result.index for result in expected.results]
        np.testing.assert_allclose(
            [rank["score"] for rank in ranks], [one.score for one in expected.results], rtol=1e-6
        )
        assert [rank.get("text") for rank in ranks] == [
            TEXTS[one.index] if sigmoid else None for one in expected.results
        ]
    assert stream[0][0]["ranks"] == raw[0][0]["ranks"]
    assert raw[0][0]["metadata"]["compute_chars"] == len(QUERY) + sum(map(len, TEXTS))


async def test_tei_predict_pair_gives_the_pairs_score(tei, reranker_address, open_channel):
    """One prediction a pair, alone and in a stream; a model of pairs classifies no single text."""
    ours = RerankerStub(open_channel(reranker_address))
    pairs = [{"inputs": [QUERY, text], "raw_scores": True} for text in TEXTS]
    single, stream, no_single, no_stream = tei(
        reranker_address,
        ("Predict/PredictPair", [{"inputs": [QUERY, TEXT]}]),
        ("Predict/PredictPairStream", pairs),
        ("Predict/Predict", [{"inputs": TEXT}]),
        ("Predict/PredictStream", [{"inputs": TEXT}]),
    )
    results = (await ours.Rerank(reranker_pb2.RerankRequest(query=QUERY, passages=TEXTS))).results
    logits = {result.index: result.score for result in results}
    (prediction,) = single[0][0]["predictions"]
    assert prediction["label"] == "LABEL_0"
    assert prediction["score"] == pytest.approx(1 / (1 + np.exp(-logits[1])), rel=1e-5)
    scores = [reply["predictions"][0]["score"] for reply in stream[0]]
    assert scores == pytest.approx([logits[place] for place in range(3)], rel=1e-5)
    assert no_single[1]["code"] == no_stream[1]["code"] == "UNIMPLEMENTED"
    assert "PredictPair" in no_single[1]["message"]


@pytest.mark.parametrize(
    "server, method, request_",
    [
        ("reranker", "Embed/Embed", {"inputs": TEXT}),
        ("reranker", "Embed/EmbedAllStream", {"inputs": TEXT}),
        ("embedder", "Rerank/Rerank", {"query": QUERY, "texts": TEXTS}),
        ("embedder", "Rerank/RerankStream", {"query": QUERY, "text": TEXT}),
        ("embedder", "Predict/Predict", {"inputs": TEXT}),
        ("embedder", "Predict/PredictPair", {"inputs": [QUERY, TEXT]}),
    ],
)
def test_tei_what_a_server_has_no_model_for_is_unimplemented(tei, request, server, method, request_):
    """The embedder does not rank, and the reranker does not embed."""
    address = request.getfixturevalue(f"{server}_address")
    ((_, error),) = tei(address, (method, [request_]))
    assert error["code"] == "UNIMPLEMENTED"


def test_tei_wrong_requests_are_invalid_arguments_that_name_the_field(tei, embedder_address, reranker_address):
    """What is too long is only cut if that is asked for; nothing that is wrong reaches a model."""
    wrong = [
        (embedder_address, "Embed/Embed", {"inputs": LONG}, "tokens"),
        (embedder_address, "Embed/Embed", {"inputs": "x" * 4097}, "inputs"),
        (embedder_address, "Embed/Embed", {}, "inputs"),
        (embedder_address, "Embed/Embed", {"inputs": "x", "dimensions": 0}, "dimensions"),
        (embedder_address, "Embed/Embed", {"inputs": "x", "dimensions": 385}, "dimensions"),
        (embedder_address, "Embed/Embed", {"inputs": "x", "prompt_name": "poem"}, "prompt_name"),
        (embedder_address, "Embed/Embed", {"inputs": "x", "truncation_direction": 5}, "truncation_direction"),
        (embedder_address, "Embed/EmbedAll", {"inputs": LONG}, "tokens"),
        (embedder_address, "Embed/EmbedSparse", {"inputs": ""}, "inputs"),
        (embedder_address, "Tokenize/Tokenize", {"inputs": ""}, "inputs"),
        (embedder_address, "Tokenize/Decode", {"ids": [7] * 65_537}, "ids"),
        (reranker_address, "Rerank/Rerank", {"query": QUERY}, "texts"),
        (reranker_address, "Rerank/Rerank", {"query": "", "texts": TEXTS}, "query"),
        (reranker_address, "Rerank/Rerank", {"query": QUERY, "texts": ["x"] * 17}, "texts"),
        (reranker_address, "Rerank/Rerank", {"query": QUERY, "texts": [LONG]}, "tokens"),
        (reranker_address, "Predict/PredictPair", {"inputs": [QUERY]}, "inputs"),
        (reranker_address, "Predict/PredictPair", {"inputs": [QUERY, ""]}, "inputs[1]"),
        (reranker_address, "Tokenize/Tokenize", {"inputs": "x", "prompt_name": "poem"}, "prompt_name"),
    ]
    for address in (embedder_address, reranker_address):
        mine = [case for case in wrong if case[0] == address]
        outcomes = tei(address, *((method, [request]) for _, method, request, _ in mine))
        for (_, method, _, word), (replies, error) in zip(mine, outcomes, strict=True):
            assert (method, replies, error["code"]) == (method, [], "INVALID_ARGUMENT")
            assert word in error["message"]


def test_tei_rerank_stream_of_too_many_or_no_texts_is_refused(tei, reranker_address):
    """A stream holds as many texts as a request."""
    many, none = tei(
        reranker_address,
        ("Rerank/RerankStream", [{"query": QUERY, "text": TEXT}] * 17),
        ("Rerank/RerankStream", []),
    )
    assert many[1]["code"] == none[1]["code"] == "INVALID_ARGUMENT"
