"""What EHLO offered, from tidy and untidy servers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.smtp.extensions import PLAIN_SMTP, Extensions


def test_the_usual_offers_are_understood() -> None:
    offers = Extensions.parse(
        ["PIPELINING", "SIZE 52428800", "8BITMIME", "SMTPUTF8", "DSN", "STARTTLS", "AUTH PLAIN LOGIN"]
    )

    assert offers.pipelining
    assert (offers.has_size, offers.size) == (True, 52_428_800)
    assert offers.eightbitmime
    assert offers.smtputf8
    assert offers.dsn
    assert offers.starttls
    assert offers.auth == {"PLAIN", "LOGIN"}
    assert offers.offered == "PIPELINING,SIZE,8BITMIME,SMTPUTF8,DSN,STARTTLS,AUTH"


def test_lower_case_duplicates_and_junk_are_taken_with_patience() -> None:
    offers = Extensions.parse(
        ["pipelining", "PIPELINING", "", "  ", "\x00", "??? x", "X-ODD 1 2", "ünïcode", "size 10"]
    )

    assert offers.pipelining
    assert offers.size == 10
    assert offers.offered == "PIPELINING,X-ODD,SIZE"


@pytest.mark.parametrize("argument", ["", "0", "abc", "-1", "1e9", "٣", "9" * 30])
def test_a_size_that_is_no_limit_limits_nothing(argument: str) -> None:
    offers = Extensions.parse([f"SIZE {argument}"])

    assert offers.has_size
    assert offers.size is None


def test_old_style_auth_counts() -> None:
    assert Extensions.parse(["AUTH=LOGIN plain"]).auth == {"LOGIN", "PLAIN"}


def test_ignoring_an_offer_keeps_it_in_the_record() -> None:
    offers = Extensions.parse(["PIPELINING", "DSN", "8BITMIME"]).without(pipelining=True, dsn=True)

    assert not offers.pipelining
    assert not offers.dsn
    assert offers.eightbitmime
    assert offers.offered == "PIPELINING,DSN,8BITMIME"


def test_helo_offers_nothing() -> None:
    assert Extensions.parse([]) == PLAIN_SMTP


@given(st.lists(st.text(max_size=60), max_size=80))
def test_any_lines_are_read_and_the_record_stays_short(lines: list[str]) -> None:
    offers = Extensions.parse(lines)

    assert len(offers.offered) <= 40 * 41
    assert offers.offered.isascii()
