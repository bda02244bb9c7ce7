"""The deliberate breaks: which promise each one breaks, where, and the test that must notice."""

from dataclasses import dataclass

INFERENCE = "libs/inference/src/gannet_inference"
GATEWAY = "services/gateway/src/gannet_gateway"
SERVICE = "libs/service/src/gannet_service"
ANSWER = f"{GATEWAY}/answers/answer.py"
INGEST = f"{GATEWAY}/documents/ingest.py"
UPLOAD = f"{GATEWAY}/documents/upload.py"
RETRIEVER = f"{GATEWAY}/vectors/retriever.py"
INDEX = f"{GATEWAY}/vectors/index.py"
LEDGER = f"{GATEWAY}/ledger/ledger.py"
KERNEL = "libs/kernels/src/gannet_kernels"
JOURNAL = f"{GATEWAY}/ledger/journal.py"
PUBLISHER = f"{GATEWAY}/documents/publisher.py"
CACHE_DIR = f"{GATEWAY}/cache"

ANSWERS = "tests/unit/gateway/test_answers.py"
INGESTION = "tests/unit/gateway/test_ingest.py"
JOURNALING = "tests/unit/gateway/test_journal.py"
CONSISTENCY = "tests/consistency/test_consistency.py::test_reads_equal_whole_generations_whatever_gateways_crash"
UPLOADS = "tests/unit/gateway/test_upload.py"
SEARCH = "tests/unit/gateway/test_search.py"
SIMILARITY = "tests/unit/kernels/test_similarity.py"
WARM = "tests/unit/kernels/test_warm.py"
RETRIEVAL = "tests/unit/gateway/test_retriever.py"
RANKING = "tests/unit/gateway/test_ranking.py"
FILTERS = "tests/unit/gateway/test_filter.py"
LEXICAL = "tests/unit/lexical/test_sparse.py"
CACHE_TESTS = "tests/unit/gateway/cache"
IMPORTS = "tests/contract/test_imports.py"


@dataclass(frozen=True, slots=True)
class Mutation:
    """`edits` are (file, old, new): `old` stands in the file exactly once; empty, `new` is added as a last line."""

    promise: str
    test: str
    edits: tuple[tuple[str, str, str], ...]


def _one(promise: str, test: str, file: str, old: str, new: str) -> Mutation:
    return Mutation(promise, test, ((file, old, new),))


def _import(promise: str, file: str, line: str) -> Mutation:
    return _one(f"import rule: {promise}", IMPORTS, file, "", line)


ANSWER_STREAM = (
    _one(
        "deltas concatenated equal the completed text",
        ANSWERS,
        ANSWER,
        "self._text += text.encode()",
        "self._text += text.strip().encode()",
    ),
    _one("a delta names where it begins", ANSWERS, ANSWER, "start_byte=len(self._text))", "start_byte=0)"),
    _one("no delta is empty", ANSWERS, ANSWER, "        if not text:\n", "        if False:\n"),
    Mutation(
        "passages precede the deltas and citations that name them",
        ANSWERS,
        (
            (ANSWER, "        yield Retrieved(passages=found.passages, mode=found.mode)\n", ""),
            (
                ANSWER,
                "        yield Completed(\n",
                "        yield Retrieved(passages=found.passages, mode=found.mode)\n        yield Completed(\n",
            ),
        ),
    ),
    _one("a citation lies inside the text so far", ANSWERS, ANSWER, "start < end <= len(data)", "start < end <= len(data) + 1"),
    _one("a citation begins at a character", ANSWERS, ANSWER, "data[start] & 0xC0 != 0x80 and ", ""),
    _one("a citation names a retrieved passage", ANSWERS, ANSWER, "if not 0 <= index < len(", "if not index < len("),
    _one("a citation has a source", ANSWERS, ANSWER, " or not cited.sources:", ":"),
    _one("a citation counts in the document", ANSWERS, ANSWER, "start_byte=candidate.start_byte + start", "start_byte=start"),
    _one("all citations are in the completed event", ANSWERS, ANSWER, "        self.citations.append(citation)\n", ""),
    _one(
        "an answer without a last word is an error, not completed",
        ANSWERS,
        ANSWER,
        '            raise _broken("no last word")\n',
        "            return Done(reason=NO_ANSWER, sentences_scored=0, tokens_read=0)\n",
    ),
    _one(
        "exactly one terminal outcome: nothing is sent after an error",
        ANSWERS,
        ANSWER,
        "            except StopAsyncIteration:\n                return\n",
        "            except (StopAsyncIteration, DependencyUnavailable):\n                return\n",
    ),
    _one(
        "no answer is said as such, and only without text",
        ANSWERS,
        ANSWER,
        "if (done.reason == NO_ANSWER) != (not self._text):",
        "if False:",
    ),
    _one("nothing found is no answer, not an invention", ANSWERS, ANSWER, "        if found.passages:\n", "        if True:\n"),
    _one(
        "a client that leaves stops the generator",
        ANSWERS,
        ANSWER,
        "            pending.cancel()\n            await asyncio.wait([pending])\n        await events.aclose()\n",
        "            pending.cancel()\n",
    ),
    _one("events are numbered without gaps", ANSWERS, f"{GATEWAY}/answers/servicer.py", "seq += 1", "seq += 2"),
    _one("a silence is broken by heartbeats", ANSWERS, ANSWER, "timeout=period_s", "timeout=None"),
    _one("a skipped stage is named before the answer", ANSWERS, ANSWER, "            yield degradation\n", "            del degradation\n"),
)  # fmt: skip

IMPORT_RULES = (
    _import(
        "kernels import nothing of ours", "libs/kernels/src/gannet_kernels/bm25.py", "import gannet_service.errors"
    ),
    _import("inference knows no gRPC", "libs/inference/src/gannet_inference/tokens.py", "import grpc"),
    _import("text analysis knows no transport", "libs/lexical/src/gannet_lexical/sparse.py", "import grpc"),
    _import("the service base knows no Numba", f"{SERVICE}/metrics.py", "import numba"),
    _import("the service base knows no ONNX", f"{SERVICE}/metrics.py", "import onnxruntime"),
    _import(
        "services never import each other",
        "services/embedder/src/gannet_embedder/wire.py",
        "import gannet_reranker.ranking",
    ),
    _import("the gateway runs no model", f"{GATEWAY}/search/search.py", "import onnxruntime"),
    _import("the gateway knows no inference", f"{GATEWAY}/search/search.py", "import gannet_inference.tokens"),
    _import("the embedded Qdrant knows no kernels", "libs/edge/src/gannet_edge/store.py", "import gannet_kernels.bm25"),
    _import(
        "the client needs the stubs alone", "libs/client/src/gannet_client/wire.py", "import gannet_service.errors"
    ),
    _import("stubs import nothing of ours", "libs/protos/src/gannet/__init__.py", "import gannet_service.errors"),
    _import("messages stay at the edges", f"{GATEWAY}/search/query.py", "from gannet.gateway.v1 import search_pb2"),
    _import("protobuf's own messages too", f"{GATEWAY}/search/query.py", "from google.protobuf import struct_pb2"),
    _import("Qdrant's client is known to two modules", f"{GATEWAY}/search/search.py", "import qdrant_client"),
    _import("the environment is read in config.py", f"{GATEWAY}/auth.py", "import os\nHOME = os.environ.get('HOME')"),
    _import("the SDK of OpenTelemetry is set up once", f"{SERVICE}/clients.py", "import opentelemetry.sdk.trace"),
)

CONTRACT = (
    _one(
        "no field is renumbered",
        "tests/contract/test_protos.py",
        "protos/gannet/gateway/v1/search.proto",
        "string query = 2;",
        "string query = 12;",
    ),
    _one(
        "stubs are fresh, fields documented",
        "tests/contract/test_protos.py",
        "protos/gannet/gateway/v1/search.proto",
        "  // parent is ",
        "  // The parent, ",
    ),
    _one("modules are small", "tests/contract/test_sizes.py", f"{GATEWAY}/paging.py", "", "\n" * 400),
)

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
    _one(
        "the text is stored before the document is published",
        INGESTION,
        INGEST,
        "        await self._blobs.put(claim.document, claim.attempt, encoded)\n",
        "",
    ),
    _one("an upsert waits for the disk", "tests/unit/gateway/test_index.py", INDEX, "batch, wait=True,", "batch, wait=False,"),
    _one("what failed is undone", INGESTION, INGEST, "await asyncio.shield(self._take_back(claim))", "False"),
    _one(
        "recovery leaves writes in work alone",
        INGESTION,
        JOURNAL,
        "due = claims.c.lease_until_s < now if",
        "due = claims.c.lease_until_s >= 0 if",
    ),
    _one(
        "a collection stays while a document of it is written",
        INGESTION,
        JOURNAL,
        "if (await connection.execute(writing)).first() is not None:",
        "if False:",
    ),
    _one("two creators of one document cannot both win", JOURNALING, JOURNAL, "if create_only and live is not None:", "if False:"),
    _one(
        "what the ledger committed is on disk",
        "tests/unit/gateway/test_ledger.py",
        f"{GATEWAY}/ledger/engine.py",
        '"synchronous=FULL"',
        '"synchronous=NORMAL"',
    ),
    _one(
        "unchanged passages are not embedded again",
        INGESTION,
        f"{GATEWAY}/documents/passages.py",
        "        if claim.live is None:\n",
        "        if True:\n",
    ),
    _one(
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
    _one(
        "a publish has one publisher",
        CONSISTENCY,
        JOURNAL,
        "        await connection.execute(insert(publishes).values(**row, holder=holder, lease_until_s=lease_until_s))\n",
        "        await connection.execute(delete(publishes).where(*in_collection(publishes, name)))\n"
        "        await connection.execute(insert(publishes).values(**row, holder=holder, lease_until_s=lease_until_s))\n",
    ),
    _one(
        "what is part of a publish is not undone",
        CONSISTENCY,
        JOURNAL,
        "            .where(*in_document(claims, name), due, claims.c.publish_generation.is_(None))\n",
        "            .where(*in_document(claims, name), due)\n",
    ),
    _one(
        "an abandoned publish is finished",
        CONSISTENCY,
        JOURNAL,
        "        query = select(publishes.c.tenant, publishes.c.collection).where(\n",
        '        query = select(publishes.c.tenant, publishes.c.collection).where(\n            publishes.c.holder == "",\n',
    ),
    _one(
        "the dense prefetch is filtered by generation",
        CONSISTENCY,
        RETRIEVER,
        "filter=visible, params=params",
        "filter=models.Filter(must=visible.must[:2]) if using == DENSE else visible, params=params",
    ),
    _one(
        "the BM25 prefetch is filtered by generation",
        CONSISTENCY,
        RETRIEVER,
        "filter=visible, params=params",
        "filter=models.Filter(must=visible.must[:2]) if using == SPARSE else visible, params=params",
    ),
    _one(
        "passages are collected below the floor only",
        CONSISTENCY,
        INDEX,
        "range=models.Range(lte=floor)",
        "range=models.Range(lte=floor + 1)",
    ),
    _one(
        "the floor waits for its readers",
        JOURNALING,
        f"{GATEWAY}/ledger/retention.py",
        "collections.c.floor_raised_at_s <= self._clock() - delay_s, ",
        "",
    ),
    _one(
        "a stamp changes only what has none",
        "tests/unit/gateway/test_index.py",
        INDEX,
        ", _is(field, GENERATION_NEVER)]",
        "]",
    ),
)  # fmt: skip

TENANTS = (
    _one(
        "the dense prefetch is filtered by tenant",
        RETRIEVAL,
        RETRIEVER,
        "            filter=stage.filter,\n            params=stage.params,\n            score",
        "            filter=None if stage.using == DENSE else stage.filter,\n            params=stage.params,\n            score",
    ),
    _one(
        "the BM25 prefetch is filtered by tenant",
        RETRIEVAL,
        RETRIEVER,
        "            filter=stage.filter,\n            params=stage.params,\n            score",
        "            filter=None if stage.using == SPARSE else stage.filter,\n            params=stage.params,\n            score",
    ),
    _one(
        "a list of one stage is filtered",
        RETRIEVAL,
        RETRIEVER,
        "        filter=stage.filter,\n        params",
        "        filter=None,\n        params",
    ),
    _one(
        "BM25's statistics are the tenant's",
        RETRIEVAL,
        RETRIEVER,
        "models.SearchParams(idf=models.IdfCorpusParams(corpus=visible(snapshot)))",
        "None",
    ),
    _one(
        "the filter names the tenant",
        RETRIEVAL,
        f"{GATEWAY}/vectors/visible.py",
        '        models.FieldCondition(key="tenant", match=models.MatchValue(value=name.tenant)),\n',
        "",
    ),
    _one(
        "another tenant's name is denied",
        "tests/unit/gateway/test_names.py",
        f"{GATEWAY}/names.py",
        "if tenant in (OWN_TENANT, own):",
        "if tenant:",
    ),
    _one(
        "a deletion names the tenant",
        "tests/unit/gateway/test_index.py",
        INDEX,
        'return [_is("tenant", name.tenant), ',
        "return [",
    ),
    _one(
        "an unknown key is refused",
        "tests/unit/gateway/test_auth.py",
        f"{GATEWAY}/auth.py",
        "            if tenant is None:\n",
        "            if tenant == 0:\n",
    ),
)

LIMITS = (
    _one("a filter narrows and never widens", FILTERS, f"{GATEWAY}/vectors/visible.py", "must=conditions)", "should=conditions)"),
    _one("OR binds tighter than AND", FILTERS, f"{GATEWAY}/search/filter.py", 'self._joined("OR", self._term, Or)', "self._term()"),
    _one("a page token belongs to one search", RANKING, f"{GATEWAY}/search/wire.py", '/search/{digest}"', '/search"'),
    _one("pages are cut from one ranking", RANKING, f"{GATEWAY}/search/search.py", "ranked[query.offset : end]", "ranked[:end]"),
    _one("words need no embedder", SEARCH, f"{GATEWAY}/search/search.py", "if query.mode is Mode.SPARSE:", "if False:"),
    _one(
        "an answer by words alone is named as such",
        SEARCH,
        f"{GATEWAY}/search/search.py",
        "degraded=vectors.degraded + skipped",
        "degraded=skipped",
    ),
    _one("a hung stage is given up", SEARCH, f"{GATEWAY}/search/search.py", "asyncio.timeout(limit_s)", "asyncio.timeout(None)"),
    _one(
        "a query typed without carons finds the same",
        LEXICAL,
        "libs/lexical/src/gannet_lexical/sparse.py",
        '{ord("đ"): ord("d")}',
        "{}",
    ),
    _one("top_k 0 is refused", SEARCH, f"{GATEWAY}/search/wire.py", "if not 1 <= value <= limit", "if not 0 <= value <= limit"),
    _one("a long query is refused", SEARCH, f"{GATEWAY}/search/wire.py", "    if size > bytes_max:", "    if False:"),
    _one(
        "a blank query is refused", SEARCH, f"{GATEWAY}/search/wire.py", "    if not text.strip():", "    if not text:"
    ),
    _one("a large document is refused", UPLOADS, UPLOAD, "+ len(data) > self._document_bytes_max", "> self._document_bytes_max"),
    _one("few documents are in work at once", UPLOADS, UPLOAD, "await self._slots.acquire()", "await asyncio.sleep(0)"),
    _one("acknowledgements are bounded", UPLOADS, UPLOAD, "asyncio.Queue(4 * in_work_max)", "asyncio.Queue()"),
    _one("an abandoned stream ends", UPLOADS, UPLOAD, "if task is None or not task.cancelling():", "if True:"),
    _one("a digest is checked", UPLOADS, UPLOAD, "if end.sha256 and ", "if False and "),
    _one("an id occurs once in a stream", UPLOADS, UPLOAD, "        self._seen.add(start.document_id)\n", ""),
    _one(
        "NaN is no metadata",
        "tests/unit/gateway/test_wire.py",
        f"{GATEWAY}/documents/wire.py",
        " if math.isfinite(value.number_value):",
        ":",
    ),
    _one(
        "a binary file is refused",
        "tests/unit/gateway/test_formats.py",
        f"{GATEWAY}/documents/formats.py",
        'if b"\\x00" in content:',
        "if False:",
    ),
    _one(
        "a queue leaves its callers time to spare",
        "tests/unit/inference/test_lanes.py",
        "libs/inference/src/gannet_inference/lanes.py",
        "- _WAIT_SHARE * (left_s - own_s)",
        "- (left_s - own_s)",
    ),
    _one(
        "a refusal comes before the work of tokenising",
        "tests/unit/embedder/test_embedding.py",
        "services/embedder/src/gannet_embedder/embedding.py",
        "self._encoder.check_room(batch.lane, deadline_s=batch.deadline_s)",
        "pass",
    ),
    _one(
        "calls in work are bounded",
        "tests/unit/service/test_interceptor.py",
        f"{SERVICE}/interceptor.py",
        "if self._in_work >= self._concurrent_rpcs_max:",
        "if self._in_work > self._concurrent_rpcs_max:",
    ),
    _one(
        "the text of a bug stays inside",
        "tests/unit/service/test_interceptor.py",
        f"{SERVICE}/interceptor.py",
        'InternalError(f"internal error; quote request id {self._request_id}")',
        "InternalError(str(error))",
    ),
    _one(
        "a deadline is passed on",
        "tests/unit/service/test_interceptor.py",
        f"{SERVICE}/clients.py",
        "response = await method(request, timeout=left_s, metadata",
        "response = await method(request, timeout=timeout_s, metadata",
    ),
    _one(
        "deep nesting does not exhaust the stack",
        "tests/unit/service/test_decode.py",
        f"{SERVICE}/decode.py",
        " or depth_left == 0:",
        ":",
    ),
)  # fmt: skip

ENCODERS = (
    _one(
        "padding does not reach a text's vector",
        "tests/unit/inference/test_session.py",
        f"{INFERENCE}/batch.py",
        "mask[row, : text.count] = 1",
        "mask[row] = 1",
    ),
    _one(
        "a text that breaks the model fails alone",
        "tests/unit/inference/test_batch.py",
        f"{INFERENCE}/batch.py",
        "            if len(texts) == 1:\n                return [error]\n",
        "            if texts:\n                return [error] * len(texts)\n",
    ),
    _one(
        "a batch stays within its budget, padding included",
        "tests/unit/inference/test_batch.py",
        f"{INFERENCE}/batch.py",
        "wide * (len(chosen) + 1) <= budget_tokens",
        "wide * len(chosen) <= budget_tokens",
    ),
    _one(
        "int8 is the default only where it cannot saturate",
        "tests/unit/inference/test_placement.py",
        f"{INFERENCE}/placement.py",
        'entry.precision == "int8" and instructions not in _INT8_DOT else',
        'entry.precision == "int8" and not instructions else',
    ),
    _one(
        "a GPU that is not there is no CPU",
        "tests/unit/inference/test_session.py",
        f"{INFERENCE}/session.py",
        "    if in_use != provider:",
        "    if not in_use:",
    ),
)  # fmt: skip

KERNELS = (
    _one("equal scores keep their order", SIMILARITY, f"{KERNEL}/_heap.py", "return place < other", "return place > other"),
    _one("a kernel lets NaN through", WARM, f"{KERNEL}/_jit.py", '"contract", "nsz"})', '"contract", "nsz", "nnan"})'),
    _one("no kernel is compiled in the middle of a request", WARM, f"{KERNEL}/warm.py", "disable_compile()", "signatures"),
    _one("a service without a compiler says so", WARM, f"{KERNEL}/warm.py", "_log.warning(", "_log.debug("),
    _one(
        "pooling reads no padding",
        "tests/unit/kernels/test_pooling.py",
        f"{KERNEL}/pooling.py",
        "        length = lengths[text]\n",
        "        length = hidden.shape[1]\n",
    ),
    _one(
        "a picked row pushes its like away",
        "tests/unit/kernels/test_diversity.py",
        f"{KERNEL}/diversity.py",
        "max(nearest[row], likeness)",
        "likeness",
    ),
)  # fmt: skip

CACHE = (
    _one(
        "cache: a reply belongs to a generation",
        f"{CACHE_TESTS}/test_keys.py",
        f"{CACHE_DIR}/keys.py",
        "        collection.generation,\n",
        "",
    ),
    _one(
        "cache: a reply belongs to a tenant",
        f"{CACHE_TESTS}/test_keys.py",
        f"{CACHE_DIR}/keys.py",
        "        collection.name.tenant,\n",
        "",
    ),
    _one(
        "cache: a degraded reply is not kept",
        f"{CACHE_TESTS}/test_results.py",
        f"{GATEWAY}/search/servicer.py",
        ", keep=not result.degraded)",
        ")",
    ),
    _one(
        "cache: nobody joins a computation that is being cancelled",
        f"{CACHE_TESTS}/test_flight.py",
        f"{CACHE_DIR}/flight.py",
        "                self._forget(key, flight)  #",
        "                #",
    ),
    _one(
        "cache: a generation is read after the request arrived",
        f"{CACHE_TESTS}/test_reader.py",
        f"{CACHE_DIR}/reader.py",
        "        task = self._next.get(name)\n",
        "        task = self._next.get(name) or self._running.get(name)\n",
    ),
)  # fmt: skip

MUTATIONS = (
    *ANSWER_STREAM, *IMPORT_RULES, *CONTRACT, *DURABILITY, *PUBLISHING, *TENANTS, *LIMITS, *KERNELS, *ENCODERS, *CACHE
)  # fmt: skip
