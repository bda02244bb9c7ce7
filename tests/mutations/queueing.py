"""Breaks of the queue of accepted documents: order, leases, idempotency, and the end that comes with the publish."""

from mutation import GATEWAY, Mutation, one

JOBS_FILE = f"{GATEWAY}/ledger/jobs.py"
JOURNAL = f"{GATEWAY}/ledger/journal.py"
EXECUTOR = f"{GATEWAY}/documents/executor.py"
QUEUE = "tests/unit/gateway/test_jobs.py"
EXECUTION = "tests/unit/gateway/test_executor.py"

QUEUEING = (
    one(
        "jobs: the publish that shows a document ends its job",
        QUEUE,
        JOURNAL,
        "ended = await _end_jobs(connection, publish, now)",
        "ended = list[EndedJob]()",
    ),
    one(
        "jobs: what is part of a publish is ended by it alone",
        QUEUE,
        JOBS_FILE,
        "                    ~_PUBLISHING.exists(),\n",
        "",
    ),
    Mutation(
        "jobs: who lost its lease ends nothing",
        QUEUE,
        (
            (JOBS_FILE, "                    jobs.c.holder == ending.job.holder,\n", ""),
            (JOBS_FILE, "                    jobs.c.attempt == ending.job.attempt,\n", ""),
        ),
    ),
    one(
        "jobs: uploads of one document keep their order",
        QUEUE,
        JOBS_FILE,
        "due = (jobs.c.due_at_s <= now, _FIRST_OF_ITS_DOCUMENT)",
        "due = (jobs.c.due_at_s <= now,)",
    ),
    one(
        "jobs: a request id stands for one request",
        QUEUE,
        JOBS_FILE,
        "    if digest != job.digest:\n",
        "    if not digest:\n",
    ),
    one(
        "jobs: a document that kills its gateways is given up",
        EXECUTION,
        EXECUTOR,
        "        if job.attempt > self._limits.attempts_max:\n",
        "        if job.attempt < 0:\n",
    ),
    one(
        "jobs: a cancellation does not interrupt its own undoing",
        EXECUTION,
        EXECUTOR,
        "if asked and not each.cancelled and each.task is not None:",
        "if asked and each.task is not None:",
    ),
)
