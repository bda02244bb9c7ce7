"""Breaks of what the model servers promise when they are full, and of how documents are cut."""

from mutation import GATEWAY, INFERENCE, SERVICE, one

REFUSALS = "tests/unit/service/test_refusals.py"

REFUSING = (
    one(
        "refusals: room comes before credentials and place",
        REFUSALS,
        f"{SERVICE}/interceptor.py",
        "            check_room(request, deadline)",
        "            pass",
    ),
    one(
        "refusals: a refused call takes no place",
        REFUSALS,
        f"{SERVICE}/interceptor.py",
        "            self.refusals.count(method, error)\n",
        "            self.refusals.count(method, error)\n            places.take(1)\n",
    ),
    one(
        "refusals: all of them are counted",
        REFUSALS,
        f"{SERVICE}/refusals.py",
        "] += 1",
        "] = 1",
    ),
    one(
        "refusals: none is said twice",
        REFUSALS,
        f"{SERVICE}/refusals.py",
        "        self._counts.clear()\n",
        "",
    ),
    one(
        "refusals: only what the model reads needs room",
        "tests/unit/embedder/test_servicer.py",
        "services/embedder/src/gannet_embedder/servicer.py",
        " and (request.want_dense or request.want_tokens)",
        "",
    ),
    one(
        "refusals: each lane has its own room",
        "tests/unit/embedder/test_servicer.py",
        "services/embedder/src/gannet_embedder/servicer.py",
        "wire.lane(request)",
        "wire.Lane.BULK",
    ),
    one(
        "the model's threads yield to the event loop",
        "tests/unit/inference/test_lanes.py",
        f"{INFERENCE}/lanes.py",
        " + self._niceness)",
        ")",
    ),
)  # fmt: skip

CHUNKING = (
    one(
        "chunking: a line underlines one heading",
        "tests/unit/gateway/test_chunking.py",
        f"{GATEWAY}/documents/chunking.py",
        "if start < heading_end or not",
        "if not",
    ),
    one(
        "chunking: a short text with a heading may be several chunks",
        "tests/unit/gateway/test_chunking.py",
        f"{GATEWAY}/documents/chunking.py",
        'if len(text) <= size and not any(mark.lastgroup for mark in _MARK.finditer("\\n" + text)):',
        "if len(text) <= size:",
    ),
)  # fmt: skip
