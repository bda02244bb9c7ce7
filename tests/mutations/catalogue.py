"""The deliberate breaks: which promise each one breaks, where, and the test that must notice."""

from answering import ANSWERING
from attributing import ATTRIBUTING
from batching import BATCHING
from expanding import EXPANDING
from generating import GENERATING
from guarding import GUARDING
from mutation import GATEWAY, INFERENCE, KERNEL, SERVICE, Mutation, forbidden_import, one
from queueing import QUEUEING
from reading import PARSING
from searching import BATCHES, REMEMBERED, SHARED_REQUESTS
from serving import CHUNKING, REFUSING
from storing import CACHE, DURABILITY, PUBLISHING, TENANTS
from telling import TELLING
from writing import DECODING

ANSWER = f"{GATEWAY}/answers/answer.py"
TRANSCRIPT = f"{GATEWAY}/answers/transcript.py"
HEARTBEATS = f"{GATEWAY}/answers/heartbeats.py"
CHAIN = f"{GATEWAY}/answers/chain.py"
UPLOAD = f"{GATEWAY}/documents/upload.py"
ANSWERS = "tests/unit/gateway/test_answers.py"
UPLOADS = "tests/unit/gateway/test_upload.py"
SEARCH = "tests/unit/gateway/test_search.py"
SIMILARITY = "tests/unit/kernels/test_similarity.py"
WARM = "tests/unit/kernels/test_warm.py"
RANKING = "tests/unit/gateway/test_ranking.py"
FILTERS = "tests/unit/gateway/test_filter.py"
LEXICAL = "tests/unit/lexical/test_sparse.py"

ANSWER_STREAM = (
    one(
        "deltas concatenated equal the completed text",
        ANSWERS,
        TRANSCRIPT,
        "self._text += text.encode()",
        "self._text += text.strip().encode()",
    ),
    one("a delta names where it begins", ANSWERS, TRANSCRIPT, "start_byte=len(self._text))", "start_byte=0)"),
    one("no delta is empty", ANSWERS, TRANSCRIPT, "        if not text:\n", "        if False:\n"),
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
    one("a citation lies inside the text so far", ANSWERS, TRANSCRIPT, "start < end <= len(data)", "start < end <= len(data) + 1"),
    one("a citation begins at a character", ANSWERS, TRANSCRIPT, "data[start] & 0xC0 != 0x80 and ", ""),
    one("a citation names a retrieved passage", ANSWERS, TRANSCRIPT, "if not 0 <= index < len(", "if not index < len("),
    one("a citation has a source", ANSWERS, TRANSCRIPT, " or not cited.sources:", ":"),
    one("a citation counts in the document", ANSWERS, TRANSCRIPT, "start_byte=candidate.start_byte + start", "start_byte=start"),
    one("all citations are in the completed event", ANSWERS, TRANSCRIPT, "        self.citations.append(citation)\n", ""),
    one(
        "an answer without a last word is an error, not completed",
        ANSWERS,
        CHAIN,
        '        raise DependencyUnavailable("generator: no last word", reason="GENERATOR_BROKEN")\n',
        "        return Done(reason=NO_ANSWER)\n",
    ),
    one(
        "exactly one terminal outcome: nothing is sent after an error",
        ANSWERS,
        HEARTBEATS,
        "            except StopAsyncIteration:\n                return\n",
        "            except (StopAsyncIteration, DependencyUnavailable):\n                return\n",
    ),
    one(
        "no answer is said as such, and only without text",
        ANSWERS,
        TRANSCRIPT,
        "if (done.reason == NO_ANSWER) != (not self._text):",
        "if False:",
    ),
    one("nothing found is no answer, not an invention", ANSWERS, ANSWER, "        if found.passages:\n", "        if True:\n"),
    one(
        "a client that leaves stops the generator",
        ANSWERS,
        HEARTBEATS,
        "            pending.cancel()\n            await asyncio.wait([pending])\n        await events.aclose()\n",
        "            pending.cancel()\n",
    ),
    one("events are numbered without gaps", ANSWERS, f"{GATEWAY}/answers/wire.py", "seq += 1", "seq += 2"),
    one("a silence is broken by heartbeats", ANSWERS, HEARTBEATS, "timeout=period_s if begun else None", "timeout=None"),
    one(
        "a skipped stage is named before the answer",
        ANSWERS,
        ANSWER,
        "        for degradation in found.degraded:\n",
        "        for degradation in ():\n",
    ),
)  # fmt: skip

IMPORT_RULES = (
    forbidden_import(
        "kernels import nothing of ours", "libs/kernels/src/gannet_kernels/bm25.py", "import gannet_service.errors"
    ),
    forbidden_import("inference knows no gRPC", "libs/inference/src/gannet_inference/tokens.py", "import grpc"),
    forbidden_import("text analysis knows no transport", "libs/lexical/src/gannet_lexical/sparse.py", "import grpc"),
    forbidden_import("the service base knows no Numba", f"{SERVICE}/metrics.py", "import numba"),
    forbidden_import("the service base knows no ONNX", f"{SERVICE}/metrics.py", "import onnxruntime"),
    forbidden_import(
        "services never import each other",
        "services/embedder/src/gannet_embedder/wire.py",
        "import gannet_reranker.ranking",
    ),
    forbidden_import("the gateway runs no model", f"{GATEWAY}/search/search.py", "import onnxruntime"),
    forbidden_import("the gateway knows no inference", f"{GATEWAY}/search/search.py", "import gannet_inference.tokens"),
    forbidden_import(
        "the embedded Qdrant knows no kernels", "libs/edge/src/gannet_edge/store.py", "import gannet_kernels.bm25"
    ),
    forbidden_import(
        "the client needs the stubs alone", "libs/client/src/gannet_client/wire.py", "import gannet_service.errors"
    ),
    forbidden_import(
        "stubs import nothing of ours", "libs/protos/src/gannet/__init__.py", "import gannet_service.errors"
    ),
    forbidden_import(
        "messages stay at the edges", f"{GATEWAY}/search/query.py", "from gannet.gateway.v1 import search_pb2"
    ),
    forbidden_import(
        "protobuf's own messages too", f"{GATEWAY}/search/query.py", "from google.protobuf import struct_pb2"
    ),
    forbidden_import("Qdrant's client is known to two modules", f"{GATEWAY}/search/search.py", "import qdrant_client"),
    forbidden_import(
        "the environment is read in config.py", f"{GATEWAY}/auth.py", "import os\nHOME = os.environ.get('HOME')"
    ),
    forbidden_import(
        "the SDK of OpenTelemetry is set up once", f"{SERVICE}/clients.py", "import opentelemetry.sdk.trace"
    ),
)

CONTRACT = (
    one(
        "no field is renumbered",
        "tests/contract/test_protos.py",
        "protos/gannet/gateway/v1/search.proto",
        "string query = 2;",
        "string query = 12;",
    ),
    one(
        "stubs are fresh, fields documented",
        "tests/contract/test_protos.py",
        "protos/gannet/gateway/v1/search.proto",
        "  // page_token continues a search",
        "  // It continues a search",
    ),
    one("modules are small", "tests/contract/test_sizes.py", f"{GATEWAY}/paging.py", "", "\n" * 400),
)

LIMITS = (
    one("a filter narrows and never widens", FILTERS, f"{GATEWAY}/vectors/visible.py", "must=conditions)", "should=conditions)"),
    one("OR binds tighter than AND", FILTERS, f"{GATEWAY}/search/filter.py", 'self._joined("OR", self._term, Or)', "self._term()"),
    one("a page token belongs to one search", RANKING, f"{GATEWAY}/search/wire.py", '/search/{digest}"', '/search"'),
    one("pages are cut from one ranking", RANKING, f"{GATEWAY}/search/search.py", "ranked[query.offset : end]", "ranked[:end]"),
    one("words need no embedder", SEARCH, f"{GATEWAY}/search/search.py", "if query.mode is Mode.SPARSE:", "if False:"),
    one(
        "an answer by words alone is named as such",
        SEARCH,
        f"{GATEWAY}/search/search.py",
        "degraded=phrasings.degraded + vectors.degraded + skipped",
        "degraded=phrasings.degraded + skipped",
    ),
    one("a hung stage is given up", SEARCH, f"{GATEWAY}/search/search.py", "asyncio.timeout(limit_s)", "asyncio.timeout(None)"),
    one(
        "a query typed without carons finds the same",
        LEXICAL,
        "libs/lexical/src/gannet_lexical/sparse.py",
        '{ord("đ"): ord("d")}',
        "{}",
    ),
    one("top_k 0 is refused", SEARCH, f"{GATEWAY}/search/wire.py", "if not 1 <= value <= limit", "if not 0 <= value <= limit"),
    one("a long query is refused", SEARCH, f"{GATEWAY}/search/wire.py", "    if size > bytes_max:", "    if False:"),
    one(
        "a blank query is refused", SEARCH, f"{GATEWAY}/search/wire.py", "    if not text.strip():", "    if not text:"
    ),
    one("a large document is refused", UPLOADS, UPLOAD, "+ len(data) > self._document_bytes_max", "> self._document_bytes_max"),
    one("few documents are in work at once", UPLOADS, UPLOAD, "await self._slots.acquire()", "await asyncio.sleep(0)"),
    one("acknowledgements are bounded", UPLOADS, UPLOAD, "asyncio.Queue(4 * in_work_max)", "asyncio.Queue()"),
    one("an abandoned stream ends", UPLOADS, UPLOAD, "if task is None or not task.cancelling():", "if True:"),
    one("a digest is checked", UPLOADS, UPLOAD, "if end.sha256 and ", "if False and "),
    one("an id occurs once in a stream", UPLOADS, UPLOAD, "        self._seen.add(start.document_id)\n", ""),
    one(
        "NaN is no metadata",
        "tests/unit/gateway/test_wire.py",
        f"{GATEWAY}/documents/wire.py",
        " if math.isfinite(value.number_value):",
        ":",
    ),
    one(
        "a binary file is refused",
        "tests/unit/gateway/parsing/test_formats.py",
        f"{GATEWAY}/parsing/formats.py",
        'if b"\\x00" in content:',
        "if False:",
    ),
    one(
        "a queue leaves its callers time to spare",
        "tests/unit/inference/test_lanes.py",
        "libs/inference/src/gannet_inference/lanes.py",
        "- _WAIT_SHARE * (left_s - own_s)",
        "- (left_s - own_s)",
    ),
    one(
        "a refusal comes before the work of tokenising",
        "tests/unit/embedder/test_embedding.py",
        "services/embedder/src/gannet_embedder/embedding.py",
        "self.check_room(batch.lane, batch.deadline_s)",
        "pass",
    ),
    one(
        "calls in work are bounded",
        "tests/unit/service/test_interceptor.py",
        f"{SERVICE}/interceptor.py",
        "if places.taken >= places.most:",
        "if places.taken > places.most:",
    ),
    one(
        "open streams take no place of calls",
        "tests/unit/service/test_interceptor.py",
        f"{SERVICE}/interceptor.py",
        " else self._rpcs\n\n        async def serve(request: Any, context: Context) -> AsyncIterator[Any]:",
        " and False else self._rpcs\n\n        async def serve(request: Any, context: Context) -> AsyncIterator[Any]:",
    ),
    one(
        "calls that come at once are not cancelled by lot",
        "tests/integration/models/test_several.py",
        f"{SERVICE}/serve.py",
        '("grpc.server.max_pending_requests", pending_max)',
        '("grpc.server.max_pending_requests", 100)',
    ),
    one(
        "a stream reads nothing more once the server is going away",
        "tests/unit/service/test_streams.py",
        f"{SERVICE}/streams.py",
        "leaving = draining is not None and draining.done()",
        "leaving = False",
    ),
    one(
        "open streams are told that the server is going away",
        "tests/unit/service/test_interceptor.py",
        f"{SERVICE}/interceptor.py",
        "                stream.set_result(None)",
        "                pass",
    ),
    one(
        "the text of a bug stays inside",
        "tests/unit/service/test_interceptor.py",
        f"{SERVICE}/interceptor.py",
        'InternalError(f"internal error; quote request id {self._request_id}")',
        "InternalError(str(error))",
    ),
    one(
        "a deadline is passed on",
        "tests/unit/service/test_interceptor.py",
        f"{SERVICE}/clients.py",
        "response = await method(request, timeout=left_s, metadata",
        "response = await method(request, timeout=timeout_s, metadata",
    ),
    one(
        "deep nesting does not exhaust the stack",
        "tests/unit/service/test_decode.py",
        f"{SERVICE}/decode.py",
        " or depth_left == 0:",
        ":",
    ),
)  # fmt: skip

ENCODERS = (
    one(
        "padding does not reach a text's vector",
        "tests/unit/inference/test_session.py",
        f"{INFERENCE}/batch.py",
        "mask[row, : text.count] = 1",
        "mask[row] = 1",
    ),
    one(
        "a text that breaks the model fails alone",
        "tests/unit/inference/test_batch.py",
        f"{INFERENCE}/batch.py",
        "            if len(texts) == 1:\n                return [error]\n",
        "            if texts:\n                return [error] * len(texts)\n",
    ),
    one(
        "a batch stays within its budget, padding included",
        "tests/unit/inference/test_batch.py",
        f"{INFERENCE}/batch.py",
        "wide * (len(chosen) + 1) <= budget_tokens",
        "wide * len(chosen) <= budget_tokens",
    ),
    one(
        "int8 is the default only where it cannot saturate",
        "tests/unit/inference/test_placement.py",
        f"{INFERENCE}/placement.py",
        'entry.precision == "int8" and instructions not in _INT8_DOT else',
        'entry.precision == "int8" and not instructions else',
    ),
    one(
        "a GPU that is not there is no CPU",
        "tests/unit/inference/test_session.py",
        f"{INFERENCE}/session.py",
        "    if in_use != provider:",
        "    if not in_use:",
    ),
)  # fmt: skip

KERNELS = (
    one("equal scores keep their order", SIMILARITY, f"{KERNEL}/_heap.py", "return place < other", "return place > other"),
    one("a kernel lets NaN through", WARM, f"{KERNEL}/_jit.py", '"contract", "nsz"})', '"contract", "nsz", "nnan"})'),
    one("machine code of two processes has two names", WARM, f"{KERNEL}/_jit.py", "count(secrets.randbits(48))", "count(1)"),
    one("no kernel is compiled in the middle of a request", WARM, f"{KERNEL}/warm.py", "disable_compile()", "signatures"),
    one("a service without a compiler says so", WARM, f"{KERNEL}/warm.py", "_log.warning(", "_log.debug("),
    one(
        "pooling reads no padding",
        "tests/unit/kernels/test_pooling.py",
        f"{KERNEL}/pooling.py",
        "        length = lengths[text]\n",
        "        length = hidden.shape[1]\n",
    ),
    one(
        "a picked row pushes its like away",
        "tests/unit/kernels/test_diversity.py",
        f"{KERNEL}/diversity.py",
        "max(nearest[row], likeness)",
        "likeness",
    ),
)  # fmt: skip

MUTATIONS = (
    *REFUSING, *CHUNKING,
    *DECODING, *EXPANDING,
    *ANSWER_STREAM, *IMPORT_RULES, *CONTRACT, *DURABILITY, *PUBLISHING, *TENANTS, *LIMITS, *KERNELS, *ENCODERS, *CACHE,
    *PARSING, *ANSWERING, *ATTRIBUTING, *GENERATING, *GUARDING, *QUEUEING, *BATCHING, *REMEMBERED, *BATCHES, *SHARED_REQUESTS, *TELLING,
)  # fmt: skip
