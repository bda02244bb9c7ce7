"""What is left out of filters, and when."""

from qdrant_client import grpc

from gannet_edge.redundant import CONDITIONS_KEPT_MAX, LOOKS_MIN, RedundantConditions


def condition(key: str) -> grpc.Condition:
    return grpc.Condition(field=grpc.FieldCondition(key=key, match=grpc.Match(keyword="x")))


class Points:
    """Counts how often it is counted; every point meets the conditions on `everywhere`."""

    def __init__(self, everywhere: str) -> None:
        self.everywhere = everywhere
        self.counted: list[str] = []

    def met_by_all(self, asked: grpc.Condition) -> bool:
        self.counted.append(asked.field.key)
        return asked.field.key == self.everywhere


def keys(message: grpc.Filter | None) -> list[str]:
    return [] if message is None else [one.field.key for one in message.must]


def test_condition_is_left_out_once_it_was_counted():
    """Not before it has come often enough; what some point does not meet stays, and each is counted once."""
    known, points = RedundantConditions(), Points("tenant")
    message = grpc.Filter(must=[condition("tenant"), condition("year")])
    looks = [keys(known.without(message, points.met_by_all)) for _ in range(LOOKS_MIN + 5)]
    assert looks == [["tenant", "year"]] * (LOOKS_MIN - 1) + [["year"]] * 6
    assert points.counted == ["tenant", "year"]
    assert keys(message) == ["tenant", "year"]


def test_condition_is_checked_again_after_a_write():
    """What every point met may not hold for the new one."""
    known, points = RedundantConditions(), Points("tenant")
    message = grpc.Filter(must=[condition("tenant")])
    for _ in range(LOOKS_MIN):
        left = known.without(message, points.met_by_all)
    assert left is None
    known.forget()
    points.everywhere = ""
    assert [keys(known.without(message, points.met_by_all)) for _ in range(LOOKS_MIN)] == [["tenant"]] * LOOKS_MIN


def test_conditions_that_exclude_are_kept():
    """Only what must hold is looked at."""
    known, points = RedundantConditions(), Points("tenant")
    message = grpc.Filter(must=[condition("tenant")], must_not=[condition("tenant")], should=[condition("tenant")])
    for _ in range(LOOKS_MIN):
        left = known.without(message, points.met_by_all)
    assert left == grpc.Filter(must_not=[condition("tenant")], should=[condition("tenant")])


def test_filters_of_all_kinds_take_bounded_memory():
    """A flood of different conditions pushes out those that were looked at least recently."""
    known, points = RedundantConditions(), Points("")
    for number in range(10 * CONDITIONS_KEPT_MAX):
        known.without(grpc.Filter(must=[condition(str(number))]), points.met_by_all)
    assert len(known._known) == CONDITIONS_KEPT_MAX
    assert points.counted == []
