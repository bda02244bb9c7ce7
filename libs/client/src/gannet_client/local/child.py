"""One process of the stack: started, watched, started again when it ends, stopped."""

import asyncio
import contextlib
import time
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from grpc_health.v1 import health_pb2

from gannet_client.errors import GannetError
from gannet_client.health import check_method
from gannet_client.local.home import StackFailed
from gannet_client.local.plan import LOOPBACK, ServicePlan
from gannet_client.transport import RetryPolicy, Transport
from gannet_client.types import ServingStatus

# What our services exit with when they refuse their configuration.
EXIT_CONFIG = 2
OUTPUT_BYTES_MAX = 4 << 20
OUTPUT_TAIL_LINES = 15


class State(Enum):
    """What a child is doing."""

    STARTING = "starting"
    SERVING = "serving"
    NOT_SERVING = "not serving"
    RESTARTING = "restarting"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How patient the supervisor is, seconds.

    Attributes:
        probe_starting_s: between two questions for the health of a child that does not serve yet.
        probe_s: between two questions for the health of one that does.
        probe_timeout_s: longest wait for an answer.
        backoff_min_s: pause before the first restart, doubled by each further one.
        backoff_max_s: longest pause before a restart.
        healthy_s: time of serving after which the next pause is the first one again.
        grace_s: time between SIGTERM and SIGKILL.
        start_failures_max: times in a row that a child may end without having served before the stack is given up: one that
            refuses its configuration, or has never served. Others are tried for ever.
    """

    probe_starting_s: float = 0.1
    probe_s: float = 2.0
    probe_timeout_s: float = 2.0
    backoff_min_s: float = 0.2
    backoff_max_s: float = 5.0
    healthy_s: float = 30.0
    grace_s: float = 10.0
    start_failures_max: int = 5


class Child:
    """See the module. `state`, `pid` and `restarts` are for looking at."""

    def __init__(self, plan: ServicePlan, logs: Path, timing: Timing, on_change: Callable[["Child"], None]) -> None:
        self.plan = plan
        self.state = State.STOPPED
        self.pid: int | None = None
        self.restarts = 0
        self.exit_code: int | None = None
        self._timing = timing
        self._on_change = on_change
        self._process: Process | None = None
        self._output = logs / f"{plan.name}.stderr"
        self._tail: deque[str] = deque(maxlen=OUTPUT_TAIL_LINES)
        self._serving_since: float | None = None

    async def run(self) -> None:
        """Keep the process running until cancelled, then stop it.

        Raises:
            StackFailed: it ends again and again before it serves.
        """
        backoff_s = self._timing.backoff_min_s
        failures = 0
        has_served = False
        self._output.write_bytes(b"")
        while True:
            self._serving_since = None
            self.exit_code = await self._run_once()
            served_s = 0.0 if self._serving_since is None else time.monotonic() - self._serving_since
            has_served = has_served or self._serving_since is not None
            failures = failures + 1 if self._serving_since is None else 0
            hopeless = self.exit_code == EXIT_CONFIG or not has_served
            if hopeless and failures >= self._timing.start_failures_max:
                raise StackFailed(self._obituary(failures))
            if served_s >= self._timing.healthy_s:
                backoff_s = self._timing.backoff_min_s
            self._become(State.RESTARTING)
            await asyncio.sleep(backoff_s)
            backoff_s = min(2 * backoff_s, self._timing.backoff_max_s)
            self.restarts += 1

    def kill(self) -> None:
        """Do not wait for a stop in order."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def _run_once(self) -> int:
        process = await asyncio.create_subprocess_exec(
            *self.plan.command,
            env=self.plan.environment,
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
            # A Ctrl-C in the terminal is for the supervisor, which stops all in order.
            start_new_session=True,
        )
        self._process, self.pid = process, process.pid
        self._become(State.STARTING)
        output = asyncio.create_task(self._keep_output(process))
        health = asyncio.create_task(self._watch_health())
        try:
            return await process.wait()
        finally:
            health.cancel()
            await self._stop(process)
            # Its output ends with it, unless it left somebody behind who holds the pipe.
            await asyncio.wait([output], timeout=self._timing.probe_timeout_s)
            output.cancel()
            await asyncio.wait([output, health])
            self.pid = None
            self._become(State.STOPPED)

    async def _stop(self, process: Process) -> None:
        if process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(self._timing.grace_s):
                await process.wait()
        except TimeoutError:
            self.kill()
            await process.wait()

    async def _keep_output(self, process: Process) -> None:
        """Copy what the process writes into its file; only the newest OUTPUT_BYTES_MAX are kept."""
        stream = process.stdout
        if stream is None:
            return
        written = self._output.stat().st_size
        with self._output.open("ab") as file:
            while data := await stream.read(1 << 16):
                if written + len(data) > OUTPUT_BYTES_MAX:
                    file.truncate(0)
                    written = 0
                written += file.write(data)
                file.flush()
                self._tail.extend(data.decode(errors="replace").splitlines())

    async def _watch_health(self) -> None:
        target = f"{LOOPBACK}:{self.plan.port}"
        transport = Transport(target, api_key=None, credentials=None, retry=RetryPolicy(attempts_max=1))
        check = check_method(transport.channel)
        try:
            while True:
                status = ServingStatus.UNKNOWN
                with contextlib.suppress(GannetError):
                    reply = await transport.unary(check, health_pb2.HealthCheckRequest(), self._timing.probe_timeout_s)
                    status = ServingStatus(reply.status)
                if status is ServingStatus.SERVING:
                    self._serving_since = self._serving_since or time.monotonic()
                    self._become(State.SERVING)
                elif self._serving_since is not None:
                    self._become(State.NOT_SERVING)
                serving = self.state is State.SERVING
                await asyncio.sleep(self._timing.probe_s if serving else self._timing.probe_starting_s)
        finally:
            await transport.channel.close()

    def _become(self, state: State) -> None:
        if state is not self.state:
            self.state = state
            self._on_change(self)

    def _obituary(self, failures: int) -> str:
        reason = (
            "cannot use its configuration"
            if self.exit_code == EXIT_CONFIG
            else f"ended with exit code {self.exit_code}"
        )
        tail = "\n".join(f"  {line}" for line in self._tail) or "  (it wrote nothing)"
        return (
            f"the {self.plan.name} {reason}, {failures} times in a row before it served\n{tail}\n"
            f"its logs: {self._output} and {self._output.with_suffix('.jsonl')}"
        )
