"""Fair shares under load: a bounded number of calls in work, whose places go round the tenants that wait."""

import asyncio
import itertools
from collections import deque
from dataclasses import dataclass, field

from gannet_service.errors import Overloaded

RETRY_S = 0.5
# Tenants whose turn is remembered while nobody of them waits.
REMEMBERED_MAX = 1024


@dataclass(slots=True)
class _Lane:
    """A tenant's calls that wait; `tag` is the virtual time from which its next one may begin."""

    tag: float = 0.0
    waiting: deque[tuple[int, float, asyncio.Future[None]]] = field(
        default_factory=deque[tuple[int, float, asyncio.Future[None]]]
    )


class Gate:
    """Lets `in_work_max` calls in at once; of each tenant at most `waiting_max` wait, the rest is refused.

    Start-time fair queueing (Goyal et al. 1996) with every call of the same length: a call begins, in virtual time, when the one before it
    of its tenant ends, or now, and takes 1 / weight. The earliest is next. So a tenant that floods the gate waits behind itself.
    """

    def __init__(self, *, in_work_max: int, waiting_max: int) -> None:
        self._in_work_max = in_work_max
        self._waiting_max = waiting_max
        self._lanes: dict[str, _Lane] = {}
        self._now = 0.0
        self._turns = itertools.count()
        self.in_work = 0
        self.waiting = 0

    async def enter(self, tenant: str, weight: float = 1.0) -> None:
        """Wait for a place; whoever was given one calls `leave` once.

        Raises:
            Overloaded: reason TENANT_QUEUE_FULL; too many calls of this tenant wait already.
        """
        lane = self._lanes.get(tenant)
        if lane is None:
            lane = self._new_lane(tenant)
        if self.in_work < self._in_work_max and not self.waiting:
            self.in_work += 1
            self._begin(lane, weight)
            return
        if len(lane.waiting) >= self._waiting_max:
            problem = f"{self._waiting_max} calls of this tenant wait already"
            raise Overloaded(problem, reason="TENANT_QUEUE_FULL", retry_after_s=RETRY_S)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (next(self._turns), weight, turn)
        lane.waiting.append(entry)
        self.waiting += 1
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # given a place at the moment it left
                self.leave()
            else:
                lane.waiting.remove(entry)
                self.waiting -= 1
            raise

    def lengthen(self, tenant: str, calls: int, weight: float = 1.0) -> None:
        """A call that has a place turned out as long as `calls` more: its tenant's next one comes after them."""
        lane = self._lanes.get(tenant)
        if lane is not None:
            lane.tag += calls / weight

    def leave(self) -> None:
        """Give the place to whoever is next."""
        if not self.waiting:
            self.in_work -= 1
            return
        waiting = (lane for lane in self._lanes.values() if lane.waiting)
        # Who came first, where two would begin at the same time.
        lane = min(waiting, key=lambda lane: (max(lane.tag, self._now), lane.waiting[0][0]))
        _, weight, turn = lane.waiting.popleft()
        self.waiting -= 1
        self._begin(lane, weight)
        turn.set_result(None)

    def _begin(self, lane: _Lane, weight: float) -> None:
        self._now = max(lane.tag, self._now)
        lane.tag = self._now + 1.0 / weight

    def _new_lane(self, tenant: str) -> _Lane:
        if len(self._lanes) >= REMEMBERED_MAX:
            # Of those who do not wait, at most one call each is forgotten.
            self._lanes = {name: lane for name, lane in self._lanes.items() if lane.waiting}
        lane = self._lanes[tenant] = _Lane(tag=self._now)
        return lane
