"""Units: what operators write for lengths of time, rates and sizes."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.config import units
from mta.config.units import Rate


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("300s", 300), ("10m", 600), ("4d12h", 388800), ("1w2d12h", 820800), ("1H", 3600)],
)
def test_intervals_add_up_their_parts(text: str, seconds: float) -> None:
    assert units.parse_interval(text) == seconds


def test_never_is_no_interval_at_all() -> None:
    assert units.parse_interval("never") is None


@pytest.mark.parametrize("text", ["", "10", "m", "10 m", "-5m", "1y", "1h30", "٣m"])
def test_other_texts_are_no_intervals(text: str) -> None:
    with pytest.raises(ValueError, match="interval"):
        units.parse_interval(text)


def test_a_bare_number_is_answered_with_the_unit_that_is_missing() -> None:
    with pytest.raises(ValueError, match="did you mean 300s"):
        units.parse_interval("300")


def test_interval_lists_keep_their_order() -> None:
    assert units.parse_intervals("10m, 10m,1h,4h") == (600, 600, 3600, 14400)


def test_interval_lists_are_bounded_and_know_no_never() -> None:
    with pytest.raises(ValueError, match="at most 30"):
        units.parse_intervals(",".join(["1m"] * 31))
    with pytest.raises(ValueError, match="never"):
        units.parse_intervals("1m,never")


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("250/h", Rate(250, 3600)),
        ("250/min", Rate(250, 60)),
        ("83/10m", Rate(83, 600)),
        ("100/15m", Rate(100, 900)),
        ("1/20min", Rate(1, 1200)),
        ("5/sec", Rate(5, 1)),
        ("1000/day", Rate(1000, 86400)),
        ("10 / hr", Rate(10, 3600)),
        ("0", None),
        ("0/h", None),
        ("unlimited", None),
    ],
)
def test_rates_take_every_documented_denominator(text: str, rate: Rate | None) -> None:
    assert units.parse_rate(text) == rate


@pytest.mark.parametrize("text", ["", "250", "250/", "250/y", "x/h", "250/0m", "-1/h"])
def test_other_texts_are_no_rates(text: str) -> None:
    with pytest.raises(ValueError):
        units.parse_rate(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("50M", 50 << 20),
        ("10000K", 10000 << 10),
        ("1G", 1 << 30),
        ("2t", 2 << 40),
        ("512b", 512),
        ("1048576", 1 << 20),
        ("10MB", 10 << 20),
        ("0", None),
        ("unlimited", None),
    ],
)
def test_sizes_are_bytes(text: str, size: int | None) -> None:
    assert units.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "M", "10X", "-1", "1.5G"])
def test_other_texts_are_no_sizes(text: str) -> None:
    with pytest.raises(ValueError):
        units.parse_size(text)


def test_volume_rates_are_bytes_per_time() -> None:
    assert units.parse_volume_rate("1024K/15s") == Rate(1 << 20, 15)
    assert units.parse_volume_rate("2g/10h") == Rate(2 << 30, 36000)
    assert units.parse_volume_rate("unlimited") is None


@pytest.mark.parametrize("word", ["yes", "true", "True", "ON", "1"])
def test_many_words_say_yes(word: str) -> None:
    assert units.parse_boolean(word) is True


@pytest.mark.parametrize("word", ["no", "false", "False", "off", "0"])
def test_many_words_say_no(word: str) -> None:
    assert units.parse_boolean(word) is False


def test_a_maybe_is_refused() -> None:
    with pytest.raises(ValueError, match="neither yes nor no"):
        units.parse_boolean("maybe")


@given(st.integers(min_value=0, max_value=10**9))
def test_written_intervals_read_back(seconds: int) -> None:
    assert units.parse_interval(units.format_interval(seconds)) == seconds


@given(st.integers(min_value=1, max_value=10**15))
def test_written_sizes_read_back(size: int) -> None:
    assert units.parse_size(units.format_size(size)) == size


@given(st.builds(Rate, st.integers(1, 10**9), st.integers(1, 10**6).map(float)))
def test_written_rates_read_back(rate: Rate) -> None:
    assert units.parse_rate(units.format_rate(rate)) == rate


@given(st.text(max_size=30))
def test_no_text_does_more_harm_than_a_value_error(text: str) -> None:
    for parse in (
        units.parse_interval,
        units.parse_intervals,
        units.parse_rate,
        units.parse_size,
        units.parse_volume_rate,
        units.parse_integer,
        units.parse_boolean,
    ):
        with contextlib.suppress(ValueError):
            parse(text)
