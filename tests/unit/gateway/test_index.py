from types import SimpleNamespace
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.message import Message
from qdrant_client import models
from unit.gateway.fakes import COLLECTION

from gannet.reranker.v1 import reranker_pb2
from gannet_gateway import clients
from gannet_gateway.vectors.index import UPSERT_POINTS_MAX, Index, VectorsMissing, ask
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


def index(client: Client) -> Index:
    """An index over it."""
    return Index(client, timeout_s=5, replication_factor=1)


def point(ordinal: int) -> PassagePoint:
    """A passage."""
    sparse = Sparse(indices=np.array([2], np.uint32), values=np.array([1.5], np.float32))
    return PassagePoint(
        document=COLLECTION.document("a"),
        revision=3,
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
    assert stored.payload["gen_from"] == 1
    assert stored.payload["gen_to"] == GENERATION_NEVER == 2**53 - 1
    assert stored.id == point(0).id != point(1).id


async def test_deletes_name_tenant_and_collection():
    """A document of the same name elsewhere is not touched, nor is the live revision."""
    client = Client()
    await index(client).delete_other_revisions("m", COLLECTION.document("a"), 3)
    await index(client).delete_collection("m", COLLECTION)
    filters = [arguments[1].filter for _, arguments, _ in client.requests]
    found = [{condition.key: condition.match.value for condition in each.must} for each in filters]
    scope = {"tenant": "acme", "collection": "docs"}
    assert found == [scope | {"document": "a"}, scope]
    assert [(condition.key, condition.match.value) for condition in filters[0].must_not] == [("revision", 3)]
    assert all(options == {"wait": True} for _, _, options in client.requests)


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
    await index(client).delete_other_revisions("m", COLLECTION.document("a"), 3)
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
    reranker = clients.Reranker("127.0.0.1:1", timeout_s=1)
    with pytest.raises(DependencyUnavailable, match="reranker: "):
        await reranker.scores("q", ["a", "b"], timeout_s=1)
    await reranker.channel.close()
