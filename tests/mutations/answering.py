"""Breaks of what the gateway answers: chains, prompts, citations, conversations, resumed streams."""

from mutation import GATEWAY, one

ANSWERS_DIR = f"{GATEWAY}/answers"
STREAMS = "tests/unit/gateway/test_answers.py"
WRITING = "tests/unit/gateway/test_writing.py"
RESUMED = "tests/unit/gateway/test_resume.py"
CACHED = "tests/unit/gateway/test_answer_cache.py"
KEPT = "tests/unit/gateway/test_conversations.py"

ANSWERING = (
    one(
        "nobody goes on with what another generator began to say",
        WRITING,
        f"{ANSWERS_DIR}/chain.py",
        "if spoken or is_last:",
        "if is_last:",
    ),
    one(
        "a generator that keeps failing is left out",
        WRITING,
        f"{ANSWERS_DIR}/chain.py",
        "            breaker.failed()\n",
        "            pass\n",
    ),
    one(
        "what is broken off is closed",
        STREAMS,
        f"{ANSWERS_DIR}/answer.py",
        "            async with aclosing(pieces):\n",
        "            if True:\n",
    ),
    one("passages forge no fence", WRITING, f"{ANSWERS_DIR}/prompt.py", 'body = _inert(text).replace(fence, "")', "body = text"),
    one(
        "a prompt fits its budget",
        WRITING,
        f"{ANSWERS_DIR}/prompt.py",
        "        if size > room:\n            continue\n",
        "",
    ),
    one(
        "a citation below the threshold is none",
        WRITING,
        f"{ANSWERS_DIR}/attribution.py",
        "if span[3] >= threshold",
        "if True",
    ),
    one(
        "a resumed stream begins where it was left",
        RESUMED,
        f"{ANSWERS_DIR}/shared_log.py",
        "known[seq:]",
        "known",
    ),
    one(
        "an answer is resumed by its user alone",
        RESUMED,
        f"{ANSWERS_DIR}/shared_log.py",
        'cache_key("answer-log1", key.tenant, key.owner, key.answer_id)',
        'cache_key("answer-log1", key.tenant, key.answer_id)',
    ),
    one(
        "an answer that nobody reads is given up",
        RESUMED,
        f"{ANSWERS_DIR}/resume.py",
        "                kept.task.cancel()\n",
        "                pass\n",
    ),
    one("an answer is cached for its readers alone", CACHED, f"{ANSWERS_DIR}/cached.py", "            identity(),\n", ""),
    one("another model gives another answer", CACHED, f"{ANSWERS_DIR}/cached.py", "            repr(models),\n", ""),
    one(
        "what may come out otherwise is not cached",
        CACHED,
        f"{ANSWERS_DIR}/cached.py",
        "return fixed and bool(model.digest)",
        "return True",
    ),
    one("half an answer is not cached", CACHED, f"{ANSWERS_DIR}/cached.py", "and recording.is_whole:", "and True:"),
    one(
        "an answer in a conversation is not cached",
        CACHED,
        f"{ANSWERS_DIR}/cached.py",
        "if question.conversation is not None or ",
        "if ",
    ),
    one(
        "a degraded answer is not cached",
        CACHED,
        f"{ANSWERS_DIR}/wire.py",
        'if kind == "warning" or self',
        "if self",
    ),
    one(
        "a conversation is found by its user alone",
        KEPT,
        f"{GATEWAY}/ledger/conversations.py",
        "conversations.c.owner == owner)",
        "conversations.c.owner == conversations.c.owner)",
    ),
    one(
        "a deleted collection takes its conversations along",
        KEPT,
        f"{GATEWAY}/ledger/journal.py",
        "revisions, turns, conversations, feedback, prompts",
        "revisions, feedback, prompts",
    ),
    one(
        "templates do not loop",
        "tests/unit/gateway/test_templates.py",
        f"{GATEWAY}/prompts/templates.py",
        "    nodes.If,\n",
        "    nodes.If,\n    nodes.For,\n",
    ),
)  # fmt: skip
