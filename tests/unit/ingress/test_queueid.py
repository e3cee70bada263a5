"""Queue ids: unique, quotable, sorted by age."""

from __future__ import annotations

import re

from mta.ingress.queueid import QueueIds


class FixedClock:
    def __init__(self, moment: float) -> None:
        self.moment = moment

    def now(self) -> float:
        return self.moment

    def wall(self) -> float:
        return self.moment


def test_ids_are_fourteen_characters_that_need_no_quoting() -> None:
    ids = QueueIds(FixedClock(1_790_000_000.0))

    assert all(re.fullmatch(r"[A-Za-z0-9_-]{14}", ids.next()) for _ in range(5000))


def test_no_id_comes_twice_and_later_ones_sort_behind() -> None:
    ids = QueueIds(FixedClock(1_790_000_000.0))
    given = [ids.next() for _ in range(20_000)]

    assert len(set(given)) == 20_000
    assert given == sorted(given)


def test_workers_and_lives_of_a_process_share_no_ids() -> None:
    first = QueueIds(FixedClock(1_790_000_000.0), worker=1).next()
    other = QueueIds(FixedClock(1_790_000_000.0), worker=2).next()
    later = QueueIds(FixedClock(1_790_000_000.001), worker=1).next()

    assert len({first[:10], other[:10], later[:10]}) == 3


def test_a_worn_out_counter_begins_a_new_prefix() -> None:
    clock = FixedClock(1_790_000_000.0)
    ids = QueueIds(clock, first=(1 << 24) - 1)
    before = ids.next()
    clock.moment += 1

    after = ids.next()

    assert after[:10] != before[:10]
    assert after > before
    assert repr(ids) == f"<QueueIds worker=0 prefix={after[:10]}>"
