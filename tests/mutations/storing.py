"""Breaks of what the gateway stores: durability, publishing, tenants, caches."""

from mutation import GATEWAY, Mutation, one

INGEST = f"{GATEWAY}/documents/ingest.py"
RETRIEVER = f"{GATEWAY}/vectors/retriever.py"
INDEX = f"{GATEWAY}/vectors/index.py"
JOURNAL = f"{GATEWAY}/ledger/journal.py"
PUBLISHER = f"{GATEWAY}/documents/publisher.py"
CACHE_DIR = f"{GATEWAY}/cache"
INGESTION = "tests/unit/gateway/test_ingest.py"
JOURNALING = "tests/unit/gateway/test_journal.py"
CONSISTENCY = "tests/consistency/test_consistency.py::test_reads_equal_whole_generations_whatever_gateways_crash"
PROCESSES = (
    "tests/consistency/test_processes.py::test_reads_are_whole_and_fresh_whatever_process_is_killed[{}-0]".format
)
RETRIEVAL = "tests/unit/gateway/test_retriever.py"
CACHE_TESTS = "tests/unit/gateway/cache"

DURABILITY = (
    Mutation(
        "passages are stored before the document is published",
        INGESTION,
        (
            (INGEST, "        await self._index.upsert(_qdrant(collection), points)\n", ""),
            (
                INGEST,
                "        return replace(document, gen_from=generation)\n",
                "        await self._index.upsert(_qdrant(collection), points)\n        return replace(document, gen_from=generation)\n",
            ),
        ),
    ),
    one(
        "the text is stored before the document is published",
        INGESTION,
        INGEST,
        "        await self._blobs.put(claim.document, claim.attempt, encoded)\n",
        "",
    ),
    one("an upsert waits for the disk", "tests/unit/gateway/test_index.py", INDEX, "batch, wait=True,", "batch, wait=False,"),
    one("what failed is undone", INGESTION, INGEST, "await asyncio.shield(self._take_back(claim))", "False"),
    one(
        "recovery leaves writes in work alone",
        INGESTION,
        JOURNAL,
        "due = claims.c.lease_until_s < now if",
        "due = claims.c.lease_until_s >= 0 if",
    ),
    one(
        "a collection stays while a document of it is written",
        INGESTION,
        JOURNAL,
        "if (await connection.execute(writing)).first() is not None:",
        "if False:",
    ),
    one(
        "two creators of one document cannot both win",
        JOURNALING,
        f"{GATEWAY}/ledger/claiming.py",
        "if wanted.create_only and live is not None:",
        "if False:",
    ),
    one(
        "what the ledger committed is on disk",
        "tests/unit/gateway/test_ledger.py",
        f"{GATEWAY}/ledger/engine.py",
        '"synchronous=FULL"',
        '"synchronous=NORMAL"',
    ),
    one(
        "unchanged passages are not embedded again",
        INGESTION,
        f"{GATEWAY}/documents/passages.py",
        "        if claim.live is None:\n",
        "        if True:\n",
    ),
    one(
        "an erasure is the last thing that caches learn",
        INGESTION,
        JOURNAL,
        "cache_epoch=collections.c.cache_epoch + 1",
        "cache_epoch=collections.c.cache_epoch",
    ),
)  # fmt: skip

PUBLISHING = (
    Mutation(
        "the flip comes after the stamps",
        CONSISTENCY,
        (
            (PUBLISHER, "            await self._index.stamp(name, publish)\n", ""),
            (
                PUBLISHER,
                "            await self._journal.finish_publish(publish)\n",
                "            await self._journal.finish_publish(publish)\n            await self._index.stamp(name, publish)\n",
            ),
        ),
    ),
    one(
        "a publish has one publisher",
        CONSISTENCY,
        JOURNAL,
        "        await connection.execute(insert(publishes).values(**row, holder=holder, lease_until_s=lease_until_s))\n",
        "        await connection.execute(delete(publishes).where(*in_collection(publishes, name)))\n"
        "        await connection.execute(insert(publishes).values(**row, holder=holder, lease_until_s=lease_until_s))\n",
    ),
    one(
        "what is part of a publish is not undone",
        CONSISTENCY,
        JOURNAL,
        "            .where(*in_document(claims, name), due, claims.c.publish_generation.is_(None))\n",
        "            .where(*in_document(claims, name), due)\n",
    ),
    one(
        "an abandoned publish is finished",
        CONSISTENCY,
        JOURNAL,
        "        query = select(publishes.c.tenant, publishes.c.collection).where(\n",
        '        query = select(publishes.c.tenant, publishes.c.collection).where(\n            publishes.c.holder == "",\n',
    ),
    one(
        "the dense prefetch is filtered by generation",
        CONSISTENCY,
        RETRIEVER,
        "using=DENSE,\n                    filter=seen,",
        "using=DENSE,\n                    filter=grpc.Filter(must=seen.must[:2]),",
    ),
    one(
        "the BM25 prefetch is filtered by generation",
        CONSISTENCY,
        RETRIEVER,
        "using=SPARSE,\n                    filter=seen,",
        "using=SPARSE,\n                    filter=grpc.Filter(must=seen.must[:2]),",
    ),
    one(
        "seen from outside: the dense prefetch is filtered by tenant",
        PROCESSES("sqlite"),
        RETRIEVER,
        "using=DENSE,\n                    filter=seen,",
        "using=DENSE,\n                    filter=grpc.Filter(must=seen.must[1:]),",
    ),
    one(
        "seen from outside: no reply from the cache is older than an acknowledgement",
        PROCESSES("postgres"),
        f"{CACHE_DIR}/keys.py",
        "        collection.generation,\n",
        "",
    ),
    one(
        "passages are collected below the floor only",
        CONSISTENCY,
        INDEX,
        "range=models.Range(lte=floor)",
        "range=models.Range(lte=floor + 1)",
    ),
    one(
        "the floor waits for its readers",
        JOURNALING,
        f"{GATEWAY}/ledger/retention.py",
        "collections.c.floor_raised_at_s <= self._clock() - delay_s, ",
        "",
    ),
    one(
        "a stamp changes only what has none",
        "tests/unit/gateway/test_index.py",
        INDEX,
        ", _is(field, GENERATION_NEVER)]",
        "]",
    ),
)  # fmt: skip

TENANTS = (
    one(
        "the dense prefetch is filtered by tenant",
        RETRIEVAL,
        RETRIEVER,
        "            filter=stage.filter,\n            params=stage.params,\n            score",
        "            filter=None if stage.using == DENSE else stage.filter,\n            params=stage.params,\n            score",
    ),
    one(
        "the BM25 prefetch is filtered by tenant",
        RETRIEVAL,
        RETRIEVER,
        "            filter=stage.filter,\n            params=stage.params,\n            score",
        "            filter=None if stage.using == SPARSE else stage.filter,\n            params=stage.params,\n            score",
    ),
    one(
        "a list of one stage is filtered",
        RETRIEVAL,
        RETRIEVER,
        "        filter=stage.filter,\n        params",
        "        filter=None,\n        params",
    ),
    one(
        "BM25's statistics are the tenant's",
        RETRIEVAL,
        RETRIEVER,
        "params=corpus",
        "params=None",
    ),
    one(
        "the filter names the tenant",
        RETRIEVAL,
        f"{GATEWAY}/vectors/visible.py",
        '        models.FieldCondition(key="tenant", match=models.MatchValue(value=name.tenant)),\n',
        "",
    ),
    one(
        "another tenant's name is denied",
        "tests/unit/gateway/test_names.py",
        f"{GATEWAY}/names.py",
        "if tenant in (OWN_TENANT, own):",
        "if tenant:",
    ),
    one(
        "a deletion names the tenant",
        "tests/unit/gateway/test_index.py",
        INDEX,
        'return [_is("tenant", name.tenant), ',
        "return [",
    ),
    one(
        "an unknown key is refused",
        "tests/unit/gateway/test_auth.py",
        f"{GATEWAY}/auth.py",
        "            if key is None:\n",
        "            if key == 0:\n",
    ),
)

CACHE = (
    one(
        "cache: a reply belongs to a generation",
        f"{CACHE_TESTS}/test_keys.py",
        f"{CACHE_DIR}/keys.py",
        "        collection.generation,\n",
        "",
    ),
    one(
        "cache: a reply belongs to a tenant",
        f"{CACHE_TESTS}/test_keys.py",
        f"{CACHE_DIR}/keys.py",
        "        collection.name.tenant,\n",
        "",
    ),
    one(
        "cache: a degraded reply is not kept",
        f"{CACHE_TESTS}/test_results.py",
        f"{GATEWAY}/search/servicer.py",
        ", keep=not result.degraded)",
        ")",
    ),
    one(
        "cache: nobody joins a computation that is being cancelled",
        f"{CACHE_TESTS}/test_flight.py",
        f"{CACHE_DIR}/flight.py",
        "                self._forget(key, flight)  #",
        "                #",
    ),
    one(
        "cache: a generation is read after the request arrived",
        f"{CACHE_TESTS}/test_reader.py",
        f"{CACHE_DIR}/reader.py",
        "        task = self._next.get(name)\n",
        "        task = self._next.get(name) or self._running.get(name)\n",
    ),
)  # fmt: skip
