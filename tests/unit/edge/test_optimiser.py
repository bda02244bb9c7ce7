from dataclasses import dataclass

from gannet_edge.optimiser import Optimiser
from gannet_service.errors import InternalError


@dataclass
class FakeCollection:
    changed_points: int
    name: str = "chunks"
    fails: bool = False

    def optimise(self):
        if self.fails:
            raise InternalError("no")
        self.changed_points = 0


class FakeStore:
    def __init__(self, *collections: FakeCollection) -> None:
        self.collections = collections
        self.used_at = 100.0


def due(store: FakeStore, now: float) -> list[int]:
    optimiser = Optimiser(store, idle_s=2.0, segment_points=1_000)
    return [collection.changed_points for collection in optimiser.due(now)]


def test_due_busy_only_full_segments_are_chosen():
    """While requests come in, a pause must be worth it."""
    assert due(FakeStore(FakeCollection(999), FakeCollection(1_000)), now=101.9) == [1_000]


def test_due_idle_everything_changed_is_chosen():
    """When nobody asks, nobody waits."""
    assert due(FakeStore(FakeCollection(0), FakeCollection(1)), now=102.0) == [1]


def test_optimise_that_fails_is_not_tried_again_at_once():
    """A failure would otherwise pause the server again and again."""
    broken = FakeCollection(5, fails=True)
    Optimiser(FakeStore(broken), idle_s=2.0, segment_points=1_000).optimise(broken)
    assert broken.changed_points == 0
