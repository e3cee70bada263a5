from __future__ import annotations

import pytest

from mta.queue.retry import RESTART_GRACE, after_restart, ladder_wait, penalty, penalty_ladder


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


def test_after_a_restart_nothing_changes_for_whoever_is_in_time() -> None:
    assert after_restart(1000.0, 900.0, 1200.0, bounce_after=3600.0, longest=600.0) == (900.0, 1200.0)


def test_whoever_would_have_expired_meanwhile_is_tried_once_more_and_soon() -> None:
    month_later = 1000.0 + 31 * 86_400

    received, due = after_restart(month_later, 1000.0, 1600.0, bounce_after=3600.0, longest=600.0)

    assert due == month_later
    assert received + 3600.0 == month_later + RESTART_GRACE


def test_a_clock_that_went_back_makes_nobody_wait_for_years() -> None:
    received, due = after_restart(1000.0, 9e8, 9e8 + 600, bounce_after=3600.0, longest=600.0)

    assert (received, due) == (1000.0, 1600.0)
