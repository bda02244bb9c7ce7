"""Breaks of what makes searches fast: what is remembered must be what is so."""

from mutation import GATEWAY, Mutation, one

READER = f"{GATEWAY}/cache/reader.py"
SERVICER = f"{GATEWAY}/search/servicer.py"
EDGE = "libs/edge/src/gannet_edge"
READING = "tests/unit/gateway/cache/test_reader.py"
RESULTS = "tests/unit/gateway/cache/test_results.py"

REMEMBERED = (
    one(
        "a request is remembered for its caller alone",
        RESULTS,
        SERVICER,
        "key = call.principal(), request",
        'key = Principal(tenant="", credential=""), request',
    ),
    one(
        "a request that is known by heart follows its collection's settings",
        RESULTS,
        SERVICER,
        "last.collection == collection",
        "last.collection.generation == collection.generation",
    ),
    one(
        "a generation is taken again only while nothing was committed",
        READING,
        READER,
        "known.version is not None and known.version == self._version()",
        "known.version is not None",
    ),
    Mutation(
        "the ledger's version is taken before the read",
        READING,
        (
            (READER, "version, began_at = self._version(), self._clock()", "began_at = self._clock()"),
            (READER, "_Known(collection, version, began_at)", "_Known(collection, self._version(), began_at)"),
        ),
    ),
    one(
        "conditions are checked again after a write",
        "tests/integration/edge/test_points.py",
        f"{EDGE}/store.py",
        "        self.redundant.forget()\n",
        "",
    ),
    one(
        "a condition that some point does not meet is checked",
        "tests/unit/edge/test_redundant.py",
        f"{EDGE}/redundant.py",
        "known = met_by_all(condition)",
        "known = met_by_all(condition) or True",
    ),
)

BATCH = "tests/unit/gateway/test_batch_search.py"
QUOTAS = "tests/unit/gateway/tenants/test_quotas.py"

BATCHES = (
    one(
        "a batch is charged for all of its queries",
        BATCH,
        SERVICER,
        "len(request.queries) - 1)",
        "0)",
    ),
    one(
        "a batch does not outlive the passages that it reads",
        BATCH,
        SERVICER,
        "await self._searcher.while_kept(self._batch(collection, batch))",
        "await self._batch(collection, batch)",
    ),
    one(
        "a batch has few searches in work at once",
        BATCH,
        SERVICER,
        "asyncio.Semaphore(BATCH_IN_WORK_MAX)",
        "asyncio.Semaphore(len(batch))",
    ),
    one(
        "a batch may ask for no more passages than a search",
        BATCH,
        f"{GATEWAY}/search/wire.py",
        "queries * top_k > limit",
        "top_k > limit",
    ),
    one(
        "a batch's tenant waits as long as for so many searches",
        QUOTAS,
        f"{GATEWAY}/tenants/gate.py",
        "lane.tag += calls / weight",
        "lane.tag += 0.0 * calls / weight",
    ),
    one(
        "the errors of queries are not cached for their vectors",
        BATCH,
        f"{GATEWAY}/cache/embedder.py",
        "                    vectors[text] = one\n",
        "                    vectors[text], computed[key] = one, packed(None, None)\n",
    ),
)

BATCHER = f"{GATEWAY}/batching.py"
BATCHING = "tests/unit/gateway/test_batching.py"
RETRIEVER = f"{GATEWAY}/vectors/retriever.py"
RETRIEVING = "tests/unit/gateway/test_retriever.py"
EMBEDDING = "tests/unit/gateway/cache/test_embedder.py"

SHARED_REQUESTS = (
    one(
        "a question does not wait for a call that hangs",
        BATCHING,
        BATCHER,
        "        elif lane.timer is None:\n",
        "        elif False:\n",
    ),
    one("a batch is bounded", BATCHING, BATCHER, " or len(lane.waiting) >= SIZE_MAX:", ":"),
    one("a batch has the latest deadline", BATCHING, BATCHER, "latest = max(ends)", "latest = min(ends)"),
    one(
        "a batch that nobody waits for is cancelled",
        BATCHING,
        BATCHER,
        "            if not left:\n",
        "            if False:\n",
    ),
    one(
        "who leaves a batch leaves alone",
        BATCHING,
        BATCHER,
        "            if not left:\n",
        "            if answer.cancelled():\n",
    ),
    one(
        "a call that answers too little leaves nobody waiting",
        BATCHING,
        BATCHER,
        "zip(batch, answers, strict=True)",
        "zip(batch, answers, strict=False)",
    ),
    one("what a caller wrote is asked for alone", RETRIEVING, RETRIEVER, "wanted.narrowed is None and not", "not"),
    one("deep searches are made alone", RETRIEVING, RETRIEVER, " or wanted.limit > BATCHED_LIMIT_MAX", ""),
    one(
        "a filter that is kept is its generation's alone",
        RETRIEVING,
        RETRIEVER,
        "self._filters.get(snapshot)",
        "next(iter(self._filters.values()), None)",
    ),
    one(
        "a query that is traced has a span of its own",
        EMBEDDING,
        f"{GATEWAY}/cache/embedder.py",
        "if call.trace_id():",
        "if False:",
    ),
)
