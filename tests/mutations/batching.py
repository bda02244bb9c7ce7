"""Breaks of what documents share on their way in: requests to the embedder, upserts, reads of the ledger."""

from mutation import GATEWAY, Mutation, one

GROUPING_FILE = f"{GATEWAY}/ledger/grouping.py"
EMBEDDING_FILE = f"{GATEWAY}/documents/embedding.py"
INDEX_FILE = f"{GATEWAY}/vectors/index.py"
OUTCOMES_FILE = f"{GATEWAY}/documents/outcomes.py"
LEDGER_FILE = f"{GATEWAY}/ledger/ledger.py"
GROUPING = "tests/unit/gateway/test_grouping.py"
EMBEDDING = "tests/unit/gateway/test_embedding.py"
INDEX = "tests/unit/gateway/test_index.py"
OUTCOMES = "tests/unit/gateway/test_outcomes.py"
LEDGER = "tests/unit/gateway/test_ledger.py"

BATCHING = (
    one(
        "together: a batch is bounded by what its items take",
        GROUPING,
        GROUPING_FILE,
        "                if batch and taken > self._batch_max:\n",
        "                if len(batch) == self._batch_max:\n",
    ),
    one(
        "together: batches in work are bounded",
        GROUPING,
        GROUPING_FILE,
        "        if len(self._tasks) < self._in_work_max:\n",
        "        if True:\n",
    ),
    one(
        "together: one bad item fails alone",
        GROUPING,
        GROUPING_FILE,
        "        if alone and len(places) > 1:\n",
        "        if False:\n",
    ),
    one(
        "together: a store that is down is not asked again for each",
        INDEX,
        GROUPING_FILE,
        "        if alone and len(places) > 1:\n",
        "        if len(places) > 1:\n",
    ),
    one(
        "together: collections of another language have requests of their own",
        EMBEDDING,
        EMBEDDING_FILE,
        "lambda some: (some.language, some.average_length)",
        "lambda some: some.average_length",
    ),
    one(
        "together: passages of another model have requests of their own",
        INDEX,
        INDEX_FILE,
        "in_requests(parts, lambda part: part.name,",
        "in_requests(parts, lambda part: len(part.name),",
    ),
    one(
        "together: a bad text fails its document alone",
        EMBEDDING,
        EMBEDDING_FILE,
        "        if isinstance(one, GannetError):\n            return one\n",
        "        if isinstance(one, GannetError):\n            raise one\n",
    ),
    one(
        "together: a long document takes turns",
        EMBEDDING,
        EMBEDDING_FILE,
        "range(0, len(texts), REQUEST_TEXTS_MAX):\n            some = _Slice(texts=texts[at : at + REQUEST_TEXTS_MAX],",
        "range(0, len(texts), len(texts)):\n            some = _Slice(texts=texts,",
    ),
    one(
        "together: what is undone was written before",
        INDEX,
        INDEX_FILE,
        "            await asyncio.wait([staging])\n",
        "            pass\n",
    ),
    one(
        "together: a wait reads what has ended, not what others wait for",
        OUTCOMES,
        OUTCOMES_FILE,
        "                    await self._look(list(due))\n",
        "                    await self._look(list(self._waiting))\n",
    ),
    Mutation(
        "together: what ended elsewhere is found",
        OUTCOMES,
        ((OUTCOMES_FILE, "                    self._due.update(self._waiting)\n", ""),),
    ),
    one(
        "together: documents looked up together are not mixed up",
        LEDGER,
        LEDGER_FILE,
        "        return [live.get(name) for name in names]\n",
        "        return [*live.values(), *[None] * (len(names) - len(live))]\n",
    ),
)
