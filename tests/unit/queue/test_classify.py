"""Bounce categories: first match wins, in one automaton or one by one."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.config.categories import default_categories
from mta.config.patterns import BouncePattern
from mta.config.problems import Origin
from mta.queue.classify import Classifier

HERE = Origin(Path("x.conf"), 1)
DEFAULTS = Classifier(default_categories())


def classifier(*lines: tuple[str, str]) -> Classifier:
    return Classifier(BouncePattern(regex, category, HERE) for regex, category in lines)


def test_the_first_pattern_in_the_file_decides() -> None:
    ordered = classifier(("user", "bad-mailbox"), ("unknown", "second"), ("", "rest"))

    assert ordered.category("5.1.1", "smtp;550 unknown user") == "bad-mailbox"
    assert ordered.category("5.1.1", "550 unknown") == "second"
    assert ordered.category("5.1.1", "550 no") == "rest"


def test_the_text_is_the_status_and_the_reply_joined_by_a_semicolon() -> None:
    by_code = classifier((r"^[45]\.2\.2;", "quota-issues"), (r";550 full$", "anchored"))

    assert by_code.category("4.2.2", "smtp;452 later") == "quota-issues"
    assert by_code.category("5.0.0", "smtp;550 full") == "anchored"
    assert by_code.category("5.0.0", "smtp;550 5.2.2 x") == "other"


def test_case_does_not_count_unless_the_pattern_says_so() -> None:
    cases = classifier(("(?-i)SPAM", "loud"), ("spam", "quiet"))

    assert cases.category("5.7.1", "SPAM") == "loud"
    assert cases.category("5.7.1", "Spam") == "quiet"


def test_patterns_that_re2_can_not_run_keep_their_place() -> None:
    mixed = classifier(("first", "a"), (r"user(?! unknown)", "b"), ("unknown", "c"), (r"(?<=x)y", "d"))

    assert mixed.category("5.0.0", "first user") == "a"
    assert mixed.category("5.0.0", "user blocked, unknown reason") == "b"
    assert mixed.category("5.0.0", "user unknown") == "c"
    assert mixed.category("5.0.0", "xy") == "d"
    assert repr(mixed) == "<Classifier patterns=4 guarded=2>"


def test_without_patterns_everything_is_other() -> None:
    assert classifier().category("5.1.1", "smtp;550 no") == "other"


def test_a_pattern_that_is_no_regex_is_an_error() -> None:
    with pytest.raises(ValueError, match="not valid"):
        classifier(("(", "x"))


@given(st.text(max_size=80))
def test_the_automaton_agrees_with_one_by_one(reply: str) -> None:
    text = f"5.1.1;{reply}"

    assert DEFAULTS._first(text) == DEFAULTS._search(text.encode("utf-8", "replace").decode())


words_of_replies = st.sampled_from(
    "user|unknown|mailbox|full|spam|blocked|relay|denied|550|5.7.1|quota".split("|")  # noqa: SIM905
)


@given(st.lists(words_of_replies))
def test_the_automaton_agrees_with_one_by_one_on_words_of_replies(words: list[str]) -> None:
    text = f"5.1.1;{' '.join(words)}"

    assert DEFAULTS._first(text) == DEFAULTS._search(text)


def test_replies_that_are_not_unicode_are_classified() -> None:
    assert DEFAULTS.category("5.1.1", "smtp;550 user unknown \udce9") == "bad-mailbox"


def test_a_huge_reply_is_cut() -> None:
    assert classifier(("end", "found")).category("5.0.0", "x" * 100_000 + "end") == "other"


@pytest.mark.parametrize(
    ("status", "reply", "category"),
    [
        ("2.0.0", "250 ok", "success"),
        ("4.4.7", "delivery time expired", "message-expired"),
        ("5.1.1", "550 5.1.1 <b@example.net>: user unknown", "bad-mailbox"),
        ("5.2.2", "552 5.2.2 mailbox full", "quota-issues"),
        ("5.7.1", "554 5.7.1 blocked using zen.spamhaus.org", "spam-related"),
    ],
)
def test_the_default_list_knows_the_usual_replies(status: str, reply: str, category: str) -> None:
    assert DEFAULTS.category(status, f"smtp;{reply}") == category
