"""The deliberate breaks: which promise each one breaks, where, and the test that must notice."""

from dataclasses import dataclass

GATEWAY = "services/gateway/src/gannet_gateway"
SERVICE = "libs/service/src/gannet_service"
ANSWER = f"{GATEWAY}/answers/answer.py"
INGEST = f"{GATEWAY}/documents/ingest.py"
UPLOAD = f"{GATEWAY}/documents/upload.py"
RETRIEVER = f"{GATEWAY}/vectors/retriever.py"
INDEX = f"{GATEWAY}/vectors/index.py"
LEDGER = f"{GATEWAY}/ledger/ledger.py"
CACHE_DIR = f"{GATEWAY}/cache"

ANSWERS = "tests/unit/gateway/test_answers.py"
INGESTION = "tests/unit/gateway/test_ingest.py"
UPLOADS = "tests/unit/gateway/test_upload.py"
SEARCH = "tests/unit/gateway/test_search.py"
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
    _import("inference knows no gRPC", "libs/inference/src/gannet_inference/sparse.py", "import grpc"),
    _import("the service base knows no Numba", f"{SERVICE}/metrics.py", "import numba"),
    _import("the service base knows no ONNX", f"{SERVICE}/metrics.py", "import onnxruntime"),
    _import(
        "services never import each other",
        "services/embedder/src/gannet_embedder/wire.py",
        "import gannet_reranker.ranking",
    ),
    _import("the gateway runs no model", f"{GATEWAY}/search/search.py", "import onnxruntime"),
    _import("the gateway knows no inference", f"{GATEWAY}/search/search.py", "import gannet_inference.sparse"),
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
        "passages are stored before the document is live",
        INGESTION,
        (
            (INGEST, "        await self._index.upsert(_qdrant(collection), points)\n", ""),
            (
                INGEST,
                "        await self._ledger.commit_write(document)\n",
                "        await self._ledger.commit_write(document)\n        await self._index.upsert(_qdrant(collection), points)\n",
            ),
        ),
    ),
    _one(
        "the text is stored before the document is live",
        INGESTION,
        INGEST,
        "        await self._blobs.put(upload.name, revision, encoded)\n",
        "",
    ),
    _one("an upsert waits for the disk", "tests/unit/gateway/test_index.py", INDEX, "batch, wait=True,", "batch, wait=False,"),
    _one(
        "what failed is undone",
        INGESTION,
        INGEST,
        "            await asyncio.shield(self._settle(intent))\n",
        "",
    ),
    _one("a replaced revision is swept", INGESTION, INGEST, "        await self._settle(intent)\n        return", "        return"),
    _one(
        "recovery leaves writes in work alone",
        INGESTION,
        INGEST,
        " and intent.document not in self._in_work:\n                async with self._turn(intent.document):\n",
        ":\n                if True:\n",
    ),
    _one(
        "writers of one document take turns",
        INGESTION,
        INGEST,
        "            await busy.wait()\n",
        "            break\n",
    ),
    _one(
        "a collection stays while a document of it is written",
        INGESTION,
        LEDGER,
        "if (await connection.execute(writing.limit(1))).first() is not None:",
        "if False:",
    ),
    _one(
        "two creators of one document cannot both win",
        "tests/unit/gateway/test_ledger.py",
        LEDGER,
        "if create_only and revision > 1:",
        "if False:",
    ),
    _one(
        "what the ledger committed is on disk",
        "tests/unit/gateway/test_ledger.py",
        f"{GATEWAY}/ledger/engine.py",
        '"synchronous=FULL"',
        '"synchronous=NORMAL"',
    ),
)  # fmt: skip

TENANTS = (
    _one(
        "the dense prefetch is filtered by tenant",
        SEARCH,
        RETRIEVER,
        "filter=visible, params=params",
        "filter=None if using == DENSE else visible, params=params",
    ),
    _one(
        "the BM25 prefetch is filtered by tenant",
        SEARCH,
        RETRIEVER,
        "filter=visible, params=params",
        "filter=None if using == SPARSE else visible, params=params",
    ),
    _one("a search of one stage is filtered", SEARCH, RETRIEVER, "query_filter=visible", "query_filter=None"),
    _one(
        "BM25's statistics are the tenant's",
        SEARCH,
        RETRIEVER,
        "models.SearchParams(idf=models.IdfCorpusParams(corpus=visible))",
        "None",
    ),
    _one(
        "the filter names the tenant",
        SEARCH,
        RETRIEVER,
        '            models.FieldCondition(key="tenant", match=models.MatchValue(value=name.tenant)),\n',
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

MUTATIONS = (*ANSWER_STREAM, *IMPORT_RULES, *CONTRACT, *DURABILITY, *TENANTS, *LIMITS, *CACHE)
