from __future__ import annotations

from collections import Counter

from mta.queue.rings import LOWER_TURN, Ring


def test_members_of_one_level_take_turns() -> None:
    ring: Ring[str] = Ring()
    for name in "abc":
        ring.append(name, 50)

    turns = []
    for _ in range(7):
        turns.append(ring.take())
        ring.append(turns[-1], 50)

    assert turns == list("abcabca")
    assert (len(ring), ring.top, ring.at_top()) == (3, 50, 3)


def test_the_highest_level_goes_first() -> None:
    ring: Ring[str] = Ring()
    for name, level in (("low", 10), ("high", 90), ("middle", 50)):
        ring.append(name, level)

    assert [ring.take() for _ in range(3)] == ["high", "middle", "low"]
    assert (len(ring), ring.top, ring.at_top()) == (0, -1, 0)


def test_one_turn_in_ten_goes_to_the_lower_levels_alike() -> None:
    ring: Ring[str] = Ring()
    levels = {"high": 90, "middle": 50, "low": 10}
    for name, level in levels.items():
        ring.append(name, level)

    turns: Counter[str] = Counter()
    for _ in range(20 * LOWER_TURN):
        name = ring.take()
        turns[name] += 1
        ring.append(name, levels[name])

    assert turns == {"high": 180, "middle": 10, "low": 10}
