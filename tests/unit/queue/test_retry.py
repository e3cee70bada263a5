from __future__ import annotations

import pytest

from mta.queue.retry import ladder_wait, penalty, penalty_ladder


def test_the_list_is_climbed_and_its_last_entry_repeats() -> None:
    waits = (600.0, 600.0, 3600.0)
    assert [ladder_wait(waits, step) for step in range(5)] == [600.0, 600.0, 3600.0, 3600.0, 3600.0]


@pytest.mark.parametrize(
    ("attempts", "wait"), [(1, 30.0), (2, 60.0), (3, 120.0), (7, 1800.0), (10_000, 1800.0)]
)
def test_a_penalty_doubles_up_to_its_ceiling(attempts: int, wait: float) -> None:
    assert penalty(30.0, 1800.0, attempts) == wait


def test_the_penalty_ladder_is_the_retry_list_it_stands_for() -> None:
    assert penalty_ladder(30.0, 200.0) == (30.0, 60.0, 120.0, 200.0)
    assert penalty_ladder(30.0, 30.0) == (30.0,)
    assert penalty_ladder(60.0, 30.0) == (30.0,)
    assert len(penalty_ladder(1.0, 1e300)) == 30
