"""The local stack on the screen: a live table at a terminal, a line for each change elsewhere."""

from types import TracebackType
from typing import Self

from rich.live import Live
from rich.table import Table

from gannet_client.cli import session
from gannet_client.local.child import Child, State

_STYLES = {State.SERVING: "green", State.STARTING: "yellow", State.STOPPED: "dim"}


class StackView:
    """Told of changes by the stack; an open context shows them."""

    def __init__(self) -> None:
        self._children: dict[str, Child] = {}
        self._live = Live(console=session.progress, auto_refresh=False)

    def __enter__(self) -> Self:
        if session.progress.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._live.stop()

    def changed(self, child: Child) -> None:
        """Show a child's new state."""
        self._children[child.plan.name] = child
        if child.state is State.RESTARTING:
            session.progress.print(
                f"[yellow]{child.plan.name} ended (exit code {child.exit_code}); starting it again[/]"
            )
        if self._live.is_started:
            self._live.update(self._table(), refresh=True)
        elif child.state is not State.RESTARTING:
            running = "" if child.pid is None else f" (pid {child.pid}, port {child.plan.port})"
            session.progress.print(f"{child.plan.name} {child.state.value}{running}")

    def _table(self) -> Table:
        table = Table("service", "pid", "port", "state", "restarts", box=None, pad_edge=False)
        for child in self._children.values():
            style = _STYLES.get(child.state, "red")
            pid = "" if child.pid is None else str(child.pid)
            state = f"[{style}]{child.state.value}[/]"
            table.add_row(child.plan.name, pid, str(child.plan.port), state, str(child.restarts))
        return table
