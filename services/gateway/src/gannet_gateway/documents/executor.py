"""Works on accepted documents: claims due jobs, renews their leases, and decides what a failure means.

Every gateway has one. A job whose gateway is gone is claimed by the next who finds its lease run out; what was staged for it is undone
or finished by the ingester's own rules, and the publish that shows a document ends its job.
"""

import asyncio
import hashlib
import itertools
import uuid
from dataclasses import dataclass, field
from typing import Any

import structlog

from gannet_gateway.backoff import jittered_pause_s
from gannet_gateway.blobs.blobs import Blobs
from gannet_gateway.blobs.uploads import StoredUpload, read_pieces
from gannet_gateway.cache.reader import CollectionReader
from gannet_gateway.documents.ingest import Ingester, Upload
from gannet_gateway.documents.outcomes import Outcomes
from gannet_gateway.documents.sweeper import Sweeper
from gannet_gateway.ledger.job import CONTENT_SHA256, Ending, Failure, Job, JobState, Progress
from gannet_gateway.ledger.jobs import Jobs
from gannet_service.errors import (
    Conflict,
    DeadlineTooShort,
    DependencyUnavailable,
    GannetError,
    InternalError,
    NotReady,
    Overloaded,
)

RENEWALS_A_LEASE = 6
PROGRESS_PERIOD_S = 1.0
SWEEP_PERIOD_S = 5.0
# In sweeps: a list of all uploads, once an hour.
STRAYS_PERIOD = 720
# What may go well another time.
_RETRYABLE = (Conflict, DeadlineTooShort, DependencyUnavailable, InternalError, NotReady, Overloaded)

_log: structlog.stdlib.BoundLogger = structlog.get_logger("jobs")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobLimits:
    """Bounds of one gateway's work.

    Attributes:
        in_work_max: jobs at once.
        bytes_max: sum of their uploads; one larger upload is worked on alone.
        attempts_max: times that a job is begun before it is given up.
        pause_initial_s: the pause after the first attempt, doubled by each further one, shortened by up to half at random.
        pause_max_s: the longest pause.
        poll_s: how often the ledger is asked for jobs that others accepted or gave up.
        lease_s: how long a job is left to its gateway without a renewal.
    """

    in_work_max: int
    bytes_max: int
    attempts_max: int
    pause_initial_s: float
    pause_max_s: float
    poll_s: float
    lease_s: float

    def pause_s(self, attempt: int, error: GannetError) -> float:
        """How long to wait after `attempt`, from 1, failed with `error`."""
        jittered_s = jittered_pause_s(attempt, initial_s=self.pause_initial_s, max_s=self.pause_max_s)
        return max(jittered_s, error.retry_after_s or 0.0)


@dataclass(slots=True, kw_only=True)
class _Running:
    """A job in work here."""

    job: Job
    task: "asyncio.Task[None] | None" = None
    progress: Progress = field(default_factory=Progress)
    cancelled: bool = False


class Executor:
    """See the module."""

    def __init__(
        self,
        jobs: Jobs,
        ingester: Ingester,
        *,
        reader: CollectionReader,
        blobs: Blobs,
        outcomes: Outcomes,
        sweeper: Sweeper,
        limits: JobLimits,
    ) -> None:
        self._jobs = jobs
        self._reader = reader
        self._blobs = blobs
        self._ingester = ingester
        self._outcomes = outcomes
        self._sweeper = sweeper
        self._limits = limits
        self._holder = uuid.uuid4().hex
        self._running: dict[int, _Running] = {}
        self._wake = asyncio.Event()
        self._draining = False

    def wake(self) -> None:
        """There may be a job to claim."""
        self._wake.set()

    def drain(self) -> None:
        """Claim nothing more. What is in work here goes on until `close`, and is waited for."""
        self._draining = True
        self._outcomes.drain({each.job.operation for each in self._running.values()})

    async def run(self) -> None:
        """Claim, renew and sweep, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._renew())
            tasks.create_task(self._sweep())
            while not self._draining:
                self._wake.clear()
                claimed = 0
                try:
                    claimed = await self._claim()
                except GannetError as error:
                    _log.warning("no jobs claimed", reason=error.reason, message=error.message)
                if not claimed:
                    await self._pause(self._limits.poll_s)

    async def close(self) -> None:
        """Give what is in work here back, for other gateways to go on with, or this one when it is back."""
        running = [each.task for each in self._running.values() if each.task is not None]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def cancelled(self) -> None:
        """Somebody asked for the end of a job: see whether it is in work here."""
        await self._write_progress()

    # ---- claiming ---------------------------------------------------------------------------------------------------

    async def _claim(self) -> int:
        room = self._limits.in_work_max - len(self._running)
        held = sum(each.job.blob_bytes for each in self._running.values())
        # A claim costs a transaction, however many jobs it brings.
        if room < max(1, self._limits.in_work_max // 4) or (held and held >= self._limits.bytes_max):
            return 0
        claimed = await self._jobs.claim(self._holder, limit=room, bytes_max=max(1, self._limits.bytes_max - held))
        for job in claimed:
            running = self._running[job.number] = _Running(job=job)
            running.task = asyncio.create_task(self._run(running))
        return len(claimed)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(min(PROGRESS_PERIOD_S, self._limits.lease_s / RENEWALS_A_LEASE))
            try:
                await self._write_progress()
            except GannetError as error:
                _log.warning("leases of jobs not renewed", reason=error.reason, message=error.message)

    async def _sweep(self) -> None:
        for turn in itertools.count():
            try:
                await self._sweeper.sweep()
                if turn % STRAYS_PERIOD == 0:
                    await self._sweeper.sweep_strays()
            except GannetError as error:
                _log.warning("sweep postponed", reason=error.reason, message=error.message)
            await asyncio.sleep(SWEEP_PERIOD_S)

    async def _write_progress(self) -> None:
        if not self._running:
            return
        running = dict(self._running)
        held = await self._jobs.renew(
            self._holder, {number: (each.job.attempt, each.progress) for number, each in running.items()}
        )
        for number, each in running.items():
            asked = held.get(number, False) and self._running.get(number) is each
            # Once: a second time would interrupt the undoing.
            if asked and not each.cancelled and each.task is not None:
                each.cancelled = True
                each.task.cancel()

    # ---- one job ----------------------------------------------------------------------------------------------------

    async def _run(self, running: _Running) -> None:
        job = running.job
        try:
            ending = await self._work(running)
        except asyncio.CancelledError:
            ending = self._interrupted(running)
        except GannetError as error:
            ending = self._failed(job, error)
        except Exception:  # noqa: BLE001 - the root of a job's task: a bug in one document must not end the others
            _log.exception("job failed", operation=job.operation, document=str(job.document))
            ending = self._failed(job, InternalError("internal error; the gateway's log has it"))
        try:
            if ending is not None:
                await asyncio.shield(self._end(ending))
        finally:
            del self._running[job.number]
            self._wake.set()
            self._outcomes.ended(job.operation)

    async def _work(self, running: _Running) -> Ending | None:
        """Index the document; None if its publish has ended the job."""
        job = running.job
        if job.cancelled:
            return Ending(job=job, state=JobState.CANCELLED)
        if job.attempt > self._limits.attempts_max:
            problem = f"given up: {job.attempt - 1} attempts ended with their gateway"
            return self._given_up(job, Failure(code="INTERNAL", reason="ATTEMPTS_EXHAUSTED", message=problem))
        collection = await self._reader.collection_settings(job.document.parent)
        # JSON knows no tuples.
        fields: dict[str, Any] = {**job.fields, "readers": tuple(job.fields.get("readers", ()))}
        sha256 = bytes.fromhex(fields.pop(CONTENT_SHA256, "")) or await self._digest(job)
        content = StoredUpload(blobs=self._blobs, key=job.blob, size=job.blob_bytes, sha256=sha256)
        upload = Upload(name=job.document, content=content, **fields)
        indexed = await self._ingester.index(collection, upload, job=job.id, progress=running.progress)
        if not indexed.unchanged:
            return None
        document = indexed.document
        return Ending(
            job=job,
            state=JobState.SUCCEEDED,
            unchanged=True,
            revision=document.revision,
            generation=document.gen_from,
            chunks=document.chunk_count,
        )

    async def _digest(self, job: Job) -> bytes:
        """Of an upload that a gateway accepted which did not keep its digest."""
        digest = hashlib.sha256()
        async for piece in read_pieces(self._blobs, job.blob, job.blob_bytes):
            digest.update(piece)
        return digest.digest()

    def _interrupted(self, running: _Running) -> Ending:
        if running.cancelled:
            return Ending(job=running.job, state=JobState.CANCELLED)
        # This gateway is going away.
        return Ending(job=running.job, state=JobState.QUEUED, retry_at_s=self._jobs.clock())

    def _failed(self, job: Job, error: GannetError) -> Ending | None:
        if error.reason == "PUBLISH_PENDING":
            return None  # whoever finishes the publish ends the job
        failure = Failure(code=error.code.name, reason=error.reason, message=error.message, field=error.field or "")
        if not isinstance(error, _RETRYABLE) or job.attempt >= self._limits.attempts_max:
            return self._given_up(job, failure)
        pause_s = self._limits.pause_s(job.attempt, error)
        _log.info(
            "job will be retried", operation=job.operation, attempt=job.attempt, reason=error.reason, pause_s=pause_s
        )
        return Ending(job=job, state=JobState.QUEUED, error=failure, retry_at_s=self._jobs.clock() + pause_s)

    def _given_up(self, job: Job, failure: Failure) -> Ending:
        _log.warning("job failed", operation=job.operation, attempt=job.attempt, reason=failure.reason)
        return Ending(job=job, state=JobState.FAILED, error=failure)

    async def _end(self, ending: Ending) -> None:
        try:
            await self._jobs.end(ending)
        except GannetError as error:  # its lease runs out, and it is begun again
            _log.warning("end of a job not recorded", operation=ending.job.operation, reason=error.reason)
