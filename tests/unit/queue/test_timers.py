from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mta.queue.timers import NEVER, Deadlines


class Sleeper:
    def __init__(self) -> None:
        self.wake_at = NEVER


def test_each_owner_wakes_once_at_the_time_set_last() -> None:
    deadlines, early, late = Deadlines(), Sleeper(), Sleeper()
    deadlines.set(late, 20.0)
    deadlines.set(early, 30.0)
    deadlines.set(early, 10.0)

    assert deadlines.first() == 10.0
    assert deadlines.pop_due(9.9) is None
    assert deadlines.pop_due(50.0) is early
    assert deadlines.pop_due(50.0) is late
    assert deadlines.pop_due(50.0) is None
    assert deadlines.first() is None


def test_sooner_never_puts_a_deadline_off() -> None:
    deadlines, owner = Deadlines(), Sleeper()
    deadlines.sooner(owner, 10.0)
    deadlines.sooner(owner, 20.0)
    assert owner.wake_at == 10.0
    deadlines.set(owner, 20.0)
    assert deadlines.first() == 20.0
    assert len(deadlines) == 1


def test_a_deadline_can_be_taken_back() -> None:
    deadlines, owner = Deadlines(), Sleeper()
    deadlines.set(owner, 10.0)
    deadlines.set(owner, NEVER)
    assert deadlines.first() is None
    assert deadlines.pop_due(11.0) is None


def test_moving_deadlines_for_ever_does_not_fill_the_heap() -> None:
    deadlines, owners = Deadlines(), [Sleeper() for _ in range(10)]
    for step in range(20_000):
        deadlines.set(owners[step % 10], 1000.0 - step * 0.01)
    assert len(deadlines._heap) < 2000
    assert len(deadlines) == 10


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 100)), max_size=200))
def test_owners_wake_in_order_of_their_last_deadline(settings: list[tuple[int, int]]) -> None:
    deadlines, owners = Deadlines(), [Sleeper() for _ in range(6)]
    for number, when in settings:
        deadlines.set(owners[number], float(when))
    expected = sorted(owner.wake_at for owner in owners if owner.wake_at < NEVER)

    woken = []
    while (first := deadlines.first()) is not None:
        assert deadlines.pop_due(first) is not None
        woken.append(first)

    assert woken == expected
