"""`gannet up`: the whole stack on this machine until Ctrl-C."""

import asyncio
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated

import typer

from gannet_client import config
from gannet_client.cli import session
from gannet_client.cli.session import Options
from gannet_client.cli.stack_view import StackView
from gannet_client.local.plan import DEFAULT_PORT, plan_stack
from gannet_client.local.stack import Stack, build_models, running_stack

READY_TIMEOUT_S = 120.0

Port = Annotated[
    int, typer.Option(help="The gateway's port; the others' follow from it. 0 picks free ones, see run/stack.json.")
]


def up(context: typer.Context, port: Port = DEFAULT_PORT) -> None:
    """Run the whole stack on this machine until Ctrl-C.

    Models are built first if they are missing. A process that ends is started again. One Ctrl-C stops all in order, a second one at
    once. With QDRANT_URL set, that Qdrant is used instead of the embedded one.
    """

    async def run(options: Options) -> None:
        try:
            async with local_stack(options, port) as stack:
                session.results.print(
                    f"Gannet serves on {stack.target}; the API key is in {options.home.api_key_file}, "
                    f"logs are in {options.home.logs}. Ctrl-C stops it."
                )
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            session.progress.print("stopped")

    session.execute(context, run)


@asynccontextmanager
async def local_stack(options: Options, port: int) -> AsyncGenerator[Stack]:
    """A stack that serves, shown on stderr. The first SIGINT or SIGTERM cancels this task, the second kills the processes.

    Raises:
        StackFailed: it cannot run.
        asyncio.CancelledError: a signal came.
    """
    task = asyncio.current_task()
    stacks: list[Stack] = []
    signals = 0

    def on_signal() -> None:
        nonlocal signals
        signals += 1
        if signals == 1 and task is not None:
            session.progress.print("stopping (Ctrl-C again: at once)")
            task.cancel()
        for stack in stacks if signals > 1 else []:
            stack.kill()

    home = options.home
    with home.locked():
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, on_signal)
        home.ensure_api_key()
        plans = plan_stack(home, port, config.qdrant_url())
        await build_models(home)
        with StackView() as view:
            async with running_stack(home, plans, view.changed) as stack:
                stacks.append(stack)
                await stack.wait_serving(READY_TIMEOUT_S)
                yield stack
