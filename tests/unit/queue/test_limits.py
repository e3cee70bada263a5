from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mta.config.units import Rate
from mta.queue.limits import SLICES, SlidingWindow, has_memory, window_for, window_pair


def test_a_window_lets_its_count_through_and_then_one_for_each_that_leaves_it() -> None:
    window = SlidingWindow(2, 10.0)

    assert window.available(100.0) == 2
    window.add(1, 100.0)
    window.add(1, 103.0)
    assert window.available(109.9) == 0
    assert window.lifts_at(109.9) == 110.0
    assert window.available(110.0) == 1
    window.add(1, 110.0)
    assert window.available(112.9) == 0
    assert window.available(113.0) == 1


def test_two_full_loads_never_meet_around_a_minute_boundary() -> None:
    """What a bucket or a counter per minute would allow: N at 0:59 and N again at 1:00."""
    window = SlidingWindow(100, 60.0)

    window.add(100, 59.0)

    assert window.available(60.0) == 0
    assert window.available(118.9) == 0
    assert window.available(119.0) == 100


def test_a_window_that_is_not_full_lifts_at_once() -> None:
    window = SlidingWindow(2, 10.0)
    assert window.lifts_at(5.0) == 5.0
    window.add(1, 5.0)
    assert window.lifts_at(6.0) == 6.0


@given(
    count=st.integers(1, 2500),
    steps=st.lists(
        st.tuples(st.floats(0, 3, allow_subnormal=False), st.integers(1, 400)), min_size=1, max_size=200
    ),
)
def test_no_window_of_any_start_holds_more_than_the_count(count: int, steps: list[tuple[float, int]]) -> None:
    window, now = SlidingWindow(count, 10.0), 1000.0
    granted: list[tuple[float, int]] = []
    for wait, wanted in steps:
        now += wait
        events = min(wanted, window.available(now))
        if events > 0:
            window.add(events, now)
            granted.append((now, events))

    for first, (start, _) in enumerate(granted):
        assert sum(events for at, events in granted[first:] if at < start + 10.0) <= count


@given(count=st.integers(1, 2500), loads=st.lists(st.integers(1, 3000), min_size=1, max_size=50))
def test_waking_when_it_lifts_always_finds_room(count: int, loads: list[int]) -> None:
    window, now = SlidingWindow(count, 7.0), 1.7e9
    for load in loads:
        now = window.lifts_at(now)
        available = window.available(now)
        assert available > 0
        window.add(min(load, available), now)
        now += 0.01


def test_large_windows_are_kept_in_slices_and_lose_almost_nothing() -> None:
    window, now, sent = SlidingWindow(100_000, 3600.0), 0.0, 0
    while now < 7200.0:
        available = window.available(now)
        if available:
            window.add(1, now)
            sent += 1
        now += 0.02

    assert len(window._events) <= SLICES + 2
    assert sent >= 2 * 100_000 * 0.998


def test_another_limit_remembers_what_was_counted() -> None:
    window = SlidingWindow(10, 60.0)
    window.add(8, 0.0)

    slower = window.resized(5, 60.0)

    assert slower.available(1.0) == -3
    assert slower.lifts_at(1.0) == 60.0
    assert window.available(1.0) == 2


def test_windows_follow_their_rate() -> None:
    window = window_for(Rate(10, 60.0), None)
    assert window is not None
    assert window_for(Rate(10, 60.0), window) is window
    assert window_for(None, window) is None
    window.add(1, 0.0)
    assert has_memory(window, 59.0)
    assert not has_memory(window, 60.0)
    assert not has_memory(None, 0.0)
    assert repr(window) == "SlidingWindow(0/10 in 60s)"


def test_both_modes_count_what_happens_in_either() -> None:
    hour, minute = (5, 3600.0), (1, 60.0)
    window = window_pair(hour, minute, None)
    assert window is not None
    for second in range(5):
        window.add(1, float(second))

    in_backoff = window_pair(minute, hour, window)
    assert in_backoff is not None
    assert in_backoff.lifts_at(5.0) == 64.0
    assert in_backoff.available(2000.0) == 1

    again = window_pair(hour, minute, in_backoff)
    assert again is not None
    assert again.lifts_at(2000.0) == 3600.0


def test_a_rate_counts_while_the_other_mode_has_none() -> None:
    window = window_pair(None, (2, 60.0), None)
    assert window is not None
    assert window.available(0.0) > 1_000_000
    for second in range(1000):
        window.add(1, float(second))

    in_backoff = window_pair((2, 60.0), None, window)
    assert in_backoff is not None
    assert in_backoff.available(1000.0) <= 0
    assert in_backoff.lifts_at(1000.0) == 998.0 + 60.0
    assert in_backoff.lifts_at(1000.0, wanted=2) == 999.0 + 60.0
    assert len(in_backoff.events()) == 2


def test_equal_rates_of_both_modes_are_one_window() -> None:
    window = window_pair((5, 60.0), (5, 60.0), None)

    assert window is not None
    assert window.other is None
    assert window_pair((5, 60.0), (5, 60.0), window) is window
    assert window_pair(None, None, window) is None
