"""No row crosses from tenant to tenant, or from reader to reader: many probes of a real gateway over a real vector store.

Two tenants have a collection of the same name with documents of the same names and the same words, and users of the same names. Every
passage carries its tenant's mark, and every row of every reply is looked at: by its name, by its mark, by who may read it.
`GANNET_ISOLATION_ROWS` is how many rows are looked at; `make isolation` asks for 100,000.
"""

import asyncio
import itertools
import os
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest
from integration.gateway.conftest import KEY, OTHER_KEY, Stack
from integration.gateway.stack import Client, File, refusal

from gannet.gateway.v1 import (
    answer_pb2,
    answer_pb2_grpc,
    documents_pb2,
    documents_pb2_grpc,
    search_pb2,
    search_pb2_grpc,
)
from gannet_service import errors

ROWS = int(os.environ.get("GANNET_ISOLATION_ROWS", "4000"))
DOCUMENTS = 48
CONCURRENT = 8
TIMEOUT_S = 60
ID = "isolation"
KEYS = {"first": KEY, "second": OTHER_KEY}
READERS = ((), ("user:ann",), ("user:bob",), ("group:eng", "user:bob"))
CALLERS: dict[str, tuple[str, ...]] = {"ann": (), "bob": (), "eve": ("eng",), "mallory": ("en", "engine", "user:ann")}
QUERIES = ("falcon speed", "how fast does the falcon dive", "report", "falcon", "the gannet's dive", "speed of birds")


@dataclass(kw_only=True)
class Caller:
    """A user of a tenant, as the tenant's backend calls for them; counts the rows that they saw."""

    tenant: str
    user: str
    channel: Any
    rows: int = 0
    seen: set[str] = field(default_factory=set[str])

    def __post_init__(self) -> None:
        """Make the stubs."""
        self.metadata = (
            ("authorization", f"Bearer {KEYS[self.tenant]}"),
            ("gannet-user", self.user),
            ("gannet-groups", ",".join(CALLERS[self.user])),
        )
        self._search = search_pb2_grpc.SearchServiceStub(self.channel)
        self._answers = answer_pb2_grpc.AnswerServiceStub(self.channel)
        self._documents = documents_pb2_grpc.DocumentServiceStub(self.channel)

    @property
    def readable(self) -> set[str]:
        """Ids of the documents that this user may read."""
        own = {f"user:{self.user}", *(f"group:{group}" for group in CALLERS[self.user])}
        return {name(place) for place in range(DOCUMENTS) if not readers(place) or own & {*readers(place)}}

    async def search(self, **fields: Any) -> search_pb2.SearchResponse:
        """Search, every row looked at."""
        request = search_pb2.SearchRequest(**{"parent": f"tenants/-/collections/{ID}", **fields})
        reply = await self._search.Search(request, metadata=self.metadata, timeout=TIMEOUT_S)
        self.look_at(reply.passages)
        return reply

    async def answer(self, query: str) -> None:
        """Ask, every passage looked at."""
        request = answer_pb2.AnswerRequest(parent=f"tenants/-/collections/{ID}", query=query)
        reply = await self._answers.Answer(request, metadata=self.metadata, timeout=TIMEOUT_S)
        self.look_at(reply.passages)
        assert f"{other(self.tenant)}mark" not in reply.completed.text

    async def documents(self) -> None:
        """List the documents and read one that may be read; every row looked at."""
        request = documents_pb2.ListDocumentsRequest(parent=f"tenants/-/collections/{ID}", page_size=1000)
        reply = await self._documents.ListDocuments(request, metadata=self.metadata, timeout=TIMEOUT_S)
        listed = {document.name.partition("/documents/")[2] for document in reply.documents}
        assert listed == self.readable
        self.rows += len(listed)
        chunks = documents_pb2.ListChunksRequest(name=reply.documents[0].name)
        page = await self._documents.ListChunks(chunks, metadata=self.metadata, timeout=TIMEOUT_S)
        for chunk in page.chunks:
            self._look_at_row(chunk.name.partition("/chunks/")[0], chunk.text)

    async def forge(self, document: str) -> set[type[errors.GannetError]]:
        """What reading a document by its name, its revisions and its passages is refused with."""
        stub = self._documents
        calls = (
            stub.GetDocument(
                documents_pb2.GetDocumentRequest(name=document, text=documents_pb2.TextRange()),
                metadata=self.metadata,
                timeout=TIMEOUT_S,
            ),
            stub.ListDocumentRevisions(
                documents_pb2.ListDocumentRevisionsRequest(name=document), metadata=self.metadata, timeout=TIMEOUT_S
            ),
            stub.ListChunks(documents_pb2.ListChunksRequest(name=document), metadata=self.metadata, timeout=TIMEOUT_S),
        )
        return {type(await refusal(call)) for call in calls}

    def look_at(self, passages: Iterable[search_pb2.Passage]) -> None:
        """Every passage and its neighbours."""
        for passage in passages:
            self._look_at_row(passage.document, passage.text)
            self.look_at(passage.neighbours)

    def _look_at_row(self, document: str, text: str) -> None:
        prefix, _, document_id = document.partition("/documents/")
        assert prefix == f"tenants/{self.tenant}/collections/{ID}"
        assert document_id in self.readable
        assert f"{self.tenant}mark" in text
        assert f"{other(self.tenant)}mark" not in text
        self.rows += 1
        self.seen.add(document_id)


def name(place: int) -> str:
    """The same ids in both tenants, prefixes of each other among them."""
    return f"{'d' * (place % 3 + 1)}/{place}.md"


def readers(place: int) -> tuple[str, ...]:
    """Who may read the document at this place."""
    return READERS[place % len(READERS)]


def other(tenant: str) -> str:
    """The other one."""
    return "second" if tenant == "first" else "first"


def text_of(tenant: str, place: int) -> str:
    """The same words for both tenants, but for the mark in every sentence."""
    sentences = [
        f"Report {place} part {part} of {tenant}mark says how fast the falcon dives and the gannet swims."
        for part in range(3)
    ]
    return f"# Report {place}\n\n" + "\n\n".join(sentences) + "\n"


@pytest.fixture
async def callers(stack: Stack, connect: Callable[[Stack, str], Client]) -> list[Caller]:
    """Every user of both tenants, over the documents that exist then."""
    people: list[Caller] = []
    for tenant, key in KEYS.items():
        backend = connect(stack, key)
        await backend.create(ID, chunk_size=120, chunk_overlap=0)
        files = [
            (name(place), File(content=text_of(tenant, place).encode(), start={"readers": readers(place)}))
            for place in range(DOCUMENTS)
        ]
        acks = await backend.upload(files, f"tenants/-/collections/{ID}")
        assert [ack.revision for ack in acks] == [1] * DOCUMENTS
        people += [Caller(tenant=tenant, user=user, channel=backend.channel) for user in CALLERS]
    return people


@pytest.fixture(autouse=True)
async def _tidy(stack: Stack, connect: Callable[[Stack, str], Client]) -> Any:
    yield
    for key in KEYS.values():
        await connect(stack, key).delete_collection(f"tenants/-/collections/{ID}")


def probe_options(rng: random.Random) -> search_pb2.SearchOptions:
    """Any way to search, out of few, so that callers ask the same again and again: what is cached for one is looked up by all."""
    options = search_pb2.SearchOptions(
        mode=rng.choice((1, 2, 3)),
        top_k=rng.choice((10, 100)),
        exact=rng.random() < 0.3,
        explain=rng.random() < 0.3,
        neighbours=rng.choice((0, 0, 2)),
        rerank=search_pb2.RerankOptions(enabled=False),
    )
    if rng.random() < 0.3:
        options.feedback.passages = 3
    if rng.random() < 0.2:
        options.diversity.balance = 0.5
    if rng.random() < 0.2:
        options.max_per_document = 1
    if rng.random() < 0.2:
        options.filter = f'document = "{name(rng.randrange(DOCUMENTS))}" OR NOT metadata.none:*'
    return options


@pytest.mark.timeout(1800)
async def test_no_row_of_another_tenant_or_reader_is_ever_seen(callers: list[Caller]):
    """In any mode, by any option, cached or not, by name, by list, as an answer; and everyone finds all that is theirs."""
    rng = random.Random(7)  # noqa: S311 - a seed, so that a failure comes again
    distinct = [{"query": rng.choice(QUERIES), "options": probe_options(rng)} for _ in range(max(20, ROWS // 1000))]
    gate = asyncio.Semaphore(CONCURRENT)

    async def probe(caller: Caller, fields: dict[str, Any]) -> None:
        async with gate:
            await caller.search(**fields)

    while sum(caller.rows for caller in callers) < ROWS:
        rng.shuffle(distinct)
        async with asyncio.TaskGroup() as tasks:
            for fields, caller in itertools.product(distinct, callers):
                tasks.create_task(probe(caller, fields))
    for caller in callers:
        await caller.documents()
        await caller.answer("How fast does the falcon dive?")
        options = search_pb2.SearchOptions(mode=2, top_k=1000)
        await caller.search(query="report", options=options)
        assert caller.seen == caller.readable
    print(f"{sum(caller.rows for caller in callers)} rows looked at")  # noqa: T201 - the figure that is quoted


async def test_name_of_a_document_opens_no_door(callers: list[Caller]):
    """Another tenant's is denied whether it exists or not; another reader's does not exist."""
    for caller in callers:
        foreign = f"tenants/{other(caller.tenant)}/collections/{ID}/documents"
        for document in (name(0), name(1), "not/there.md"):
            assert await caller.forge(f"{foreign}/{document}") == {errors.PermissionDenied}
        for document in {name(place) for place in range(DOCUMENTS)} - caller.readable:
            own = f"tenants/{caller.tenant}/collections/{ID}/documents/{document}"
            assert await caller.forge(own) == {errors.NotFound}


async def test_page_token_of_another_shows_ones_own_rows(callers: list[Caller]):
    """Within the tenant it is a place in one's own ranking; for another tenant's collection it is none."""
    asked: dict[str, Any] = {
        "query": "falcon",
        "paging_depth": 100,
        "options": search_pb2.SearchOptions(top_k=10, mode=2),
    }
    tokens = {(caller.tenant, caller.user): (await caller.search(**asked)).next_page_token for caller in callers}
    for caller, ((tenant, _), token) in itertools.product(callers, tokens.items()):
        if tenant == caller.tenant:
            assert (await caller.search(**asked, page_token=token)).passages
        else:
            assert isinstance(await refusal(caller.search(**asked, page_token=token)), errors.InvalidInput)


async def test_documents_of_others_change_no_score(callers: list[Caller], stack: Stack, connect: Callable[..., Client]):
    """BM25 counts words in what the caller may read: neither another tenant's documents nor other readers' move it."""
    ann = next(caller for caller in callers if (caller.tenant, caller.user) == ("first", "ann"))

    async def scores(top_k: int) -> list[tuple[str, float]]:
        options = search_pb2.SearchOptions(top_k=top_k, mode=2, rerank=search_pb2.RerankOptions(enabled=False))
        reply = await ann.search(query="falcon report 1 speed", options=options)
        return [(passage.name, passage.scores.sparse) for passage in reply.passages]

    before = await scores(500)
    assert len({score for _, score in before}) > 1
    flood = [
        (f"flood/{place}", File(content=b"falcon report report speed " * 3, start={"readers": ["user:bob"]}))
        for place in range(60)
    ]
    for tenant in ("second", "first"):
        await connect(stack, KEYS[tenant]).upload(flood, f"tenants/-/collections/{ID}")
    after = await scores(499)
    assert [document for document, _ in after] == [document for document, _ in before]
    assert [score for _, score in after] == pytest.approx([score for _, score in before], abs=1e-5)
