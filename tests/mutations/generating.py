"""Breaks of the generator: what may be said, what is passed on of an upstream, and what is verified."""

from mutation import one

GENERATOR = "services/generator/src/gannet_generator"
UPSTREAM = f"{GENERATOR}/upstream/generator.py"
FAILURES = f"{GENERATOR}/upstream/failures.py"
CHECKS = f"{GENERATOR}/limits.py"
VERIFIES = f"{GENERATOR}/verification.py"
UPSTREAMS = "tests/unit/generator/test_upstream.py"
LIMITS = "tests/unit/generator/test_limits.py"
VERIFICATION = "tests/unit/generator/test_verification.py"

GENERATING = (
    one("upstream: nothing is asked again after the first token", UPSTREAMS, UPSTREAM, "if said or attempt ==", "if attempt =="),
    one("upstream: attempts are bounded", UPSTREAMS, UPSTREAM, "attempt == self._upstream.attempts_max", "attempt == 9"),
    one("upstream: a role does not stretch the wait for the first token", UPSTREAMS, UPSTREAM, "elif said:", "else:"),
    one(
        "upstream: an answer that breaks off is no answer",
        UPSTREAMS,
        UPSTREAM,
        "        if not ended:\n            raise Int", "        if False:\n            raise Int",
    ),
    one("upstream: whoever leaves closes the stream", UPSTREAMS, UPSTREAM, "await stream.close()", "pass"),
    one("upstream: an endless answer is stopped", UPSTREAMS, UPSTREAM, "if chars > chars_max:", "if False:"),
    one("upstream: waiting is bounded", UPSTREAMS, UPSTREAM, "self._waiting >= self._upstream.queue_max", "False"),
    one("upstream: a refused key is told apart", UPSTREAMS, FAILURES, "status in (401, 403)", "status == 401"),
    one("upstream: Retry-After is passed on within bounds", UPSTREAMS, FAILURES, "min(given, _RETRY_AFTER_S_MAX)", "given"),
    one("upstream: a rotated key is read", UPSTREAMS, f"{GENERATOR}/upstream/key.py", "!= self._version", "is None"),
    one("upstream: halves of characters are joined", UPSTREAMS, f"{GENERATOR}/upstream/chat.py", "text = self._held + text", "text = text"),
    one(
        "generator: NaN is no temperature",
        LIMITS,
        CHECKS,
        "math.isfinite(value) and least <= value <= most",
        "not (value < least or value > most)",
    ),
    one("generator: messages are bounded together", LIMITS, CHECKS, "if size > limits.prompt_bytes_max:", "if False:"),
    one("verify: a changed number takes the support away", VERIFICATION, VERIFIES, "missing or reversed_", "reversed_"),
    one("verify: a negation takes the support away", VERIFICATION, VERIFIES, "missing or reversed_", "missing"),
)  # fmt: skip
