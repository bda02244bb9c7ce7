import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.message import Message
from qdrant_client import models
from unit.gateway.fakes import COLLECTION, document_record

from gannet.reranker.v1 import reranker_pb2
from gannet_gateway.ledger.records import Claim, Publish, Purpose
from gannet_gateway.search.clients import Reranker
from gannet_gateway.vectors.index import UPSERT_POINTS_MAX, Index, VectorsMissing, VectorsRefused, ask
from gannet_gateway.vectors.points import GENERATION_NEVER, PassagePoint, Sparse
from gannet_service.errors import DependencyUnavailable


class Client:
    """Notes every request."""

    def __init__(self, version: str = "1.19.0") -> None:
        self.version = version
        self.requests: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    async def info(self) -> Any:
        """The server's version."""
        return SimpleNamespace(version=self.version)

    async def upsert(self, *arguments: Any, **options: Any) -> None:
        """Noted."""
        self.requests.append(("upsert", arguments, options))

    async def delete(self, *arguments: Any, **options: Any) -> None:
        """Noted."""
        self.requests.append(("delete", arguments, options))

    async def set_payload(self, *arguments: Any, **options: Any) -> None:
        """Noted."""
        self.requests.append(("set_payload", arguments, options))


def index(client: Client) -> Index:
    """An index over it."""
    return Index(client, timeout_s=5, replication_factor=1)


def point(ordinal: int) -> PassagePoint:
    """A passage."""
    sparse = Sparse(indices=np.array([2], np.uint32), values=np.array([1.5], np.float32))
    return PassagePoint(
        document=COLLECTION.document("a"),
        revision=3,
        attempt="t3",
        ordinal=ordinal,
        text="t",
        start_byte=0,
        end_byte=1,
        title="",
        metadata={},
        dense=np.array([1, 0], np.float32),
        sparse=sparse,
    )


async def test_upsert_waits_until_passages_are_durable():
    """In bounded batches, each acknowledged by the disk and not by the queue."""
    client = Client()
    await index(client).upsert("m", [point(ordinal) for ordinal in range(UPSERT_POINTS_MAX + 1)])
    assert [len(arguments[1]) for _, arguments, _ in client.requests] == [UPSERT_POINTS_MAX, 1]
    for _, _, options in client.requests:
        assert options == {"wait": True, "ordering": models.WriteOrdering.STRONG}
    stored = client.requests[0][1][1][0]
    assert stored.payload["gen_from"] == stored.payload["gen_to"] == GENERATION_NEVER == 2**53 - 1
    assert stored.id == point(0).id != point(1).id != replace(point(1), attempt="other").id


class BusyClient(Client):
    """Answers an upsert when it is let, and refuses those that hold a passage of an attempt in `refused`."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: dict[str, grpc.StatusCode] = {}
        self.gate = asyncio.Event()
        self.entered = asyncio.Event()

    async def upsert(self, *arguments: Any, **options: Any) -> None:
        """As the real one; noted when it is done."""
        self.entered.set()
        await self.gate.wait()
        await super().upsert(*arguments, **options)
        for stored in arguments[1]:
            if (code := self.refused.get(stored.payload["attempt"])) is not None:
                raise grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), "no")

    @property
    def upserts(self) -> list[tuple[str, list[str]]]:
        """The Qdrant collection and the attempts of each but the first."""
        every = [arguments for method, arguments, _ in self.requests if method == "upsert"]
        return [(name, [stored.payload["attempt"] for stored in points]) for name, points in every[1:]]


async def staging(client: BusyClient, *wanted: tuple[str, str, int]) -> "list[asyncio.Future[None]]":
    """Upserts of (Qdrant collection, attempt, passages) that came while another one was in work."""
    stored = index(client)
    busy = asyncio.ensure_future(stored.upsert("m", [point(0)]))
    await client.entered.wait()
    asked = [
        asyncio.ensure_future(stored.upsert(name, [replace(point(at), attempt=attempt) for at in range(count)]))
        for name, attempt, count in wanted
    ]
    for _ in range(3):
        await asyncio.sleep(0)
    client.gate.set()
    await busy
    return asked


async def test_upserts_of_documents_share_a_request():
    """What came while one was in work goes together, up to the bound; different models' passages never do."""
    client = BusyClient()
    asked = await staging(client, ("m", "a", 2), ("n", "b", 1), ("m", "c", 1), ("m", "d", UPSERT_POINTS_MAX))
    await asyncio.gather(*asked)
    assert client.upserts == [("m", ["a", "a", "c"]), ("n", ["b"]), ("m", ["d"] * UPSERT_POINTS_MAX)]


async def test_upsert_that_the_store_refuses_is_repeated_for_each_document():
    """The one that is to blame fails alone, as something that may go well another time."""
    client = BusyClient()
    client.refused["b"] = grpc.StatusCode.INVALID_ARGUMENT
    results = await asyncio.gather(*await staging(client, *(("m", each, 1) for each in "abc")), return_exceptions=True)
    assert [type(result) for result in results] == [type(None), VectorsRefused, type(None)]
    assert client.upserts == [("m", ["a", "b", "c"]), ("m", ["a"]), ("m", ["b"]), ("m", ["c"])]


async def test_upsert_to_a_store_that_is_down_is_not_repeated():
    """Every document of the request hears it."""
    client = BusyClient()
    client.refused["b"] = grpc.StatusCode.UNAVAILABLE
    results = await asyncio.gather(*await staging(client, ("m", "a", 1), ("m", "b", 1)), return_exceptions=True)
    assert [type(result) for result in results] == [DependencyUnavailable] * 2
    assert client.upserts == [("m", ["a", "b"])]


async def test_undoing_waits_for_the_upsert_in_work():
    """Who is cancelled leaves at once; what is staged for them is removed after it was written, not before."""
    client = BusyClient()
    stored = index(client)
    writing = asyncio.ensure_future(stored.upsert("m", [point(0)]))
    await client.entered.wait()
    writing.cancel()
    await asyncio.wait([writing])
    undoing = asyncio.ensure_future(stored.delete_staged("m", CLAIM))
    await asyncio.sleep(0)
    client.gate.set()
    await undoing
    assert [method for method, _, _ in client.requests] == ["upsert", "delete"]


CLAIM = Claim(document=COLLECTION.document("a"), revision=3, attempt="t3", holder="h", purpose=Purpose.WRITE, live=None)
PUBLISH = Publish(
    collection=COLLECTION,
    generation=7,
    holder="h",
    staged=(
        document_record(COLLECTION.document("a"), attempt="t3"),
        document_record(COLLECTION.document("b"), attempt="t4"),
    ),
    retired=(document_record(COLLECTION.document("a"), attempt="t2"),),
)
SCOPE = {"tenant": "acme", "collection": "docs"}


def conditions(chosen: models.Filter) -> dict[str, Any]:
    """What a filter demands, by field."""
    found: dict[str, Any] = {}
    for each in chosen.must:
        found[each.key] = each.range.lte if each.range else getattr(each.match, "value", None) or each.match.any
    return found


async def test_deletes_name_tenant_and_collection():
    """A document of the same name elsewhere is not touched, nor is what a publish has shown or readers may see."""
    client = Client()
    await index(client).delete_staged("m", CLAIM)
    await index(client).delete_document("m", COLLECTION.document("a"))
    await index(client).delete_below("m", COLLECTION, 5)
    await index(client).delete_collection("m", COLLECTION)
    assert [conditions(arguments[1].filter) for _, arguments, _ in client.requests] == [
        SCOPE | {"document": "a", "attempt": "t3", "gen_from": GENERATION_NEVER},
        SCOPE | {"document": "a"},
        SCOPE | {"gen_to": 5},
        SCOPE,
    ]
    for _, _, options in client.requests:
        assert options == {"wait": True, "ordering": models.WriteOrdering.STRONG}


async def test_stamp_changes_only_what_has_no_generation_yet():
    """Staged passages begin, retired ones end, by attempt, so that neither another attempt nor an earlier stamp is touched."""
    client = Client()
    await index(client).stamp("m", PUBLISH)
    assert [(arguments[1], conditions(arguments[2].filter)) for _, arguments, _ in client.requests] == [
        ({"gen_from": 7}, SCOPE | {"attempt": ["t3", "t4"], "gen_from": GENERATION_NEVER}),
        ({"gen_to": 7}, SCOPE | {"attempt": ["t2"], "gen_to": GENERATION_NEVER}),
    ]
    for _, _, options in client.requests:
        assert options == {"wait": True, "ordering": models.WriteOrdering.STRONG}


async def test_stamp_of_passages_stored_before_attempts_finds_them_by_document():
    """Those of the first ledger: they have no attempt, and their document had one revision."""
    client = Client()
    await index(client).stamp("m", replace(PUBLISH, staged=(), retired=(document_record(COLLECTION.document("a")),)))
    ((_, arguments, _),) = client.requests
    (chosen,) = [each for each in arguments[2].filter.must if isinstance(each, models.Filter)]
    (old,) = [each for each in chosen.should if isinstance(each, models.Filter)]
    assert old.must[0].match.any == ["a"]
    assert old.must[1].is_empty.key == "attempt"


async def test_stamp_that_fails_raises_ours():
    """Not a group of errors: whoever waits for the publish is told one."""
    client = Client()

    async def fail(*_arguments: Any, **_options: Any) -> None:
        raise grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata())

    client.set_payload = fail
    with pytest.raises(DependencyUnavailable):
        await index(client).stamp("m", PUBLISH)


@pytest.mark.parametrize("version", ["1.19.0", "1.20.3-dev", "2.0.0"])
async def test_check_version_of_a_new_server_passes(version: str):
    """1.19 is the first that can scope BM25's statistics."""
    await index(Client(version)).check_version()


@pytest.mark.parametrize("version", ["1.18.9", "1.9.0", "0.11.1"])
async def test_check_version_of_an_old_server_is_refused(version: str):
    """The version that is needed is named."""
    with pytest.raises(RuntimeError, match=rf"Qdrant {version} is too old: 1\.19 or newer"):
        await index(Client(version)).check_version()


async def test_deletes_from_a_store_that_was_wiped_have_nothing_to_do():
    """Or a gateway with open claims would wait for ever at its start."""
    client = Client()

    async def fail(*_arguments: Any, **_options: Any) -> None:
        raise grpc.aio.AioRpcError(grpc.StatusCode.NOT_FOUND, grpc.aio.Metadata(), grpc.aio.Metadata())

    client.delete = fail
    await index(client).delete_staged("m", CLAIM)
    await index(client).delete_collection("m", COLLECTION)


@pytest.mark.parametrize(
    "code, kind",
    [
        (grpc.StatusCode.NOT_FOUND, VectorsMissing),
        (grpc.StatusCode.UNAVAILABLE, DependencyUnavailable),
        (grpc.StatusCode.INVALID_ARGUMENT, DependencyUnavailable),
    ],
)
async def test_ask_of_a_store_that_refuses_raises_ours(code: grpc.StatusCode, kind: type[Exception]):
    """What the store refuses is not the caller's mistake."""

    async def fail() -> None:
        raise grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details="why")

    with pytest.raises(kind, match="why"):
        await ask(fail())


@pytest.mark.parametrize(
    "results", [[(0, 1.0)], [(0, 1.0), (0, 2.0)], [(0, 1.0), (2, 2.0)], [(0, 1.0), (1, float("nan"))]]
)
async def test_scores_of_a_broken_reranker_are_refused(
    results: list[tuple[int, float]], monkeypatch: pytest.MonkeyPatch
):
    """Too few, one twice, one of nothing, no number: the reranker failed, and the search goes on without it."""

    async def reply(*_arguments: Any, **_options: Any) -> Message:
        return reranker_pb2.RerankResponse(
            results=[reranker_pb2.RerankResult(index=place, score=score) for place, score in results]
        )

    monkeypatch.setattr("gannet_service.clients.unary", reply)
    reranker = Reranker("127.0.0.1:1", timeout_s=1)
    with pytest.raises(DependencyUnavailable, match="reranker: "):
        await reranker.scores("q", ["a", "b"], timeout_s=1)
    await reranker.channel.close()
