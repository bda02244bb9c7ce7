"""All processes of the stack together: started in parallel, stopped together, and a file that says what is running."""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from gannet_client.local.child import Child, State, Timing
from gannet_client.local.home import Home, StackFailed
from gannet_client.local.plan import LOOPBACK, ServicePlan

GATEWAY = "gateway"


class Stack:
    """The running processes; made by `running_stack`."""

    def __init__(
        self, home: Home, plans: Sequence[ServicePlan], timing: Timing, on_change: Callable[[Child], None]
    ) -> None:
        self._home = home
        self._on_change = on_change
        self._all_serving = asyncio.Event()
        self._started_at = datetime.now(UTC)
        self.children = tuple(Child(plan, home.logs, timing, self._changed) for plan in plans)

    @property
    def target(self) -> str:
        """The gateway's address; the last child's where there is no gateway."""
        ports = {child.plan.name: child.plan.port for child in self.children}
        return f"{LOOPBACK}:{ports.get(GATEWAY, self.children[-1].plan.port)}"

    async def wait_serving(self, timeout_s: float) -> None:
        """Return when every child serves.

        Raises:
            StackFailed: one does not in time.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self._all_serving.wait()
        except TimeoutError:
            late = ", ".join(child.plan.name for child in self.children if child.state is not State.SERVING)
            message = f"not serving after {timeout_s:.0f} s: {late}; the logs are in {self._home.logs}"
            raise StackFailed(message) from None

    def kill(self) -> None:
        """End every process at once."""
        for child in self.children:
            child.kill()

    def _changed(self, child: Child) -> None:
        if all(child.state is State.SERVING for child in self.children):
            self._home.write_stack(self._description())
            self._all_serving.set()
        self._on_change(child)

    def _description(self) -> dict[str, object]:
        return {
            "target": self.target,
            "pid": os.getpid(),
            "started_at": self._started_at.isoformat(),
            "services": {
                child.plan.name: {"port": child.plan.port, "pid": child.pid, "restarts": child.restarts}
                for child in self.children
            },
        }


@asynccontextmanager
async def running_stack(
    home: Home, plans: Sequence[ServicePlan], on_change: Callable[[Child], None], timing: Timing | None = None
) -> AsyncGenerator[Stack]:
    """Run `plans` while the context is open; leaving it, by whatever way, stops every process.

    Args:
        home: locked for the time; its stack file says what is running once everything serves.
        plans: the processes.
        on_change: told of every change of a child's state.
        timing: how patient to be.

    Raises:
        StackFailed: a child cannot be kept running; the body was cancelled first.
    """
    home.logs.mkdir(parents=True, exist_ok=True)
    stack = Stack(home, plans, timing or Timing(), on_change)
    try:
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(child.run()) for child in stack.children]
            try:
                yield stack
            finally:
                for task in running:
                    task.cancel()
    except BaseExceptionGroup as group:
        # One error is enough to tell; the stack's own explains the others.
        raise (group.subgroup(StackFailed) or group).exceptions[0] from None


async def run_models(home: Home, arguments: Sequence[str]) -> int:
    """Run `python -m gannet_inference` on the home's models and give its exit code; its output goes where ours goes."""
    command, *rest = arguments
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gannet_inference", command, "--models-dir", str(home.models), *rest
    )
    try:
        return await process.wait()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


async def build_models(home: Home) -> None:
    """Build what is missing; a second of work when nothing is.

    Raises:
        StackFailed: a model cannot be had.
    """
    code = await run_models(home, ["build"])
    if code != 0:
        raise StackFailed(f"the models could not be built (exit code {code}); the lines above say why")
