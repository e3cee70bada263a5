"""Reading x-schedule, and what its windows say."""

from __future__ import annotations

import itertools
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.message.schedule import closes_at, next_open, parse_schedule

NOON = int(datetime.fromisoformat("2026-12-01T12:00:00+00:00").timestamp())


def test_windows_are_pairs_of_times_in_order() -> None:
    text = "2026-12-02 12:00:00Z / 2026-12-02 13:00:00Z, 2026-12-01 12:00:00+00:00/2026-12-01T14:00+0100"

    assert parse_schedule(text) == ((NOON, NOON + 3600), (NOON + 86400, NOON + 90000))


def test_times_without_a_zone_are_those_of_the_machine() -> None:
    ((start, end),) = parse_schedule("2026-12-01 12:00:00 / 2026-12-01 12:00:01")

    assert start == int(datetime(2026, 12, 1, 12).timestamp())
    assert end == start + 1


def test_windows_that_touch_are_one() -> None:
    pieces = ("12:00Z/2026-12-01 13:00Z", "12:30Z/2026-12-01 12:40Z", "13:00Z/2026-12-01 14:00Z")
    text = ",".join(f"2026-12-01 {piece}" for piece in pieces)

    assert parse_schedule(text) == ((NOON, NOON + 7200),)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ",",
        "tomorrow",
        "2026-12-01 12:00:00",
        "2026-12-01 12:00:00 / ",
        "2026-12-01 12:00:00 / 2026-12-01 12:00:00",
        "2026-12-01 12:00:00 / 2026-12-01 11:00:00",
        "2026-13-01 12:00:00 / 2026-14-01 11:00:00",
        "2026-12-01 12:00:00 / 2026-12-01 25:00:00",
        "\N{ARABIC-INDIC DIGIT TWO}026-12-01 12:00:00 / 2026-12-01 13:00:00",
        "0001-01-01 00:00+23:59/0001-01-01 00:01-23:59",
        "2026-12-01 12:00:00 / 2107-12-01 13:00:00",
        ",".join(["2026-12-01 12:00:00 / 2026-12-01 13:00:00"] * 101),
    ],
)
def test_what_cannot_be_read_is_an_error_with_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match=r"[a-z]"):
        parse_schedule(text)


@given(st.text("0123456789-:/, TZ+", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        windows = parse_schedule(text)
    except ValueError:
        return
    assert all(start < end for start, end in windows)
    assert all(one[1] < next_[0] for one, next_ in itertools.pairwise(windows))


def test_message_may_go_inside_of_a_window_and_never_behind_the_last() -> None:
    windows = ((100, 200), (300, 400))

    times = [next_open(windows, wall) for wall in (0.0, 100.0, 199.5, 200.0, 299.0, 350.0, 400.0, 9e9)]
    assert times == [100.0, 100.0, 199.5, 300.0, 300.0, 350.0, None, None]
    assert closes_at(windows) == 400.0
