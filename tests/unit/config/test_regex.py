"""Operators' regexes against strangers' replies."""

from __future__ import annotations

import pytest

from mta.config.regex import compile_pattern


def test_patterns_are_searched_without_regard_to_case() -> None:
    assert compile_pattern("mailbox FULL").search("550 5.2.2 Mailbox full, sorry")


def test_a_flag_makes_case_count() -> None:
    pattern = compile_pattern("(?-i)FULL")

    assert not pattern.search("full")
    assert pattern.search("FULL")


def test_the_empty_pattern_matches_everything() -> None:
    assert compile_pattern("").search("")


def test_an_escaped_hash_is_a_hash() -> None:
    assert compile_pattern(r"\x23500").search("error #500")


def test_look_around_goes_to_the_guarded_engine() -> None:
    pattern = compile_pattern(r"(?<!not )blocked")

    assert not pattern.is_linear
    assert pattern.search("you are BLOCKED")
    assert not pattern.search("not blocked")
    assert not pattern.search("x" * 5000 + "blocked")


def test_case_counts_in_the_guarded_engine_as_well() -> None:
    assert not compile_pattern(r"(?-i)(?=FULL)FULL").search("full")


@pytest.mark.parametrize("source", [r"(?=a)(a+)+$", r"(?!x)(.*a)*b", r"(?=a)((ab*)+c)*"])
def test_exponential_patterns_are_refused(source: str) -> None:
    with pytest.raises(ValueError, match="unlimited repeat"):
        compile_pattern(source)


def test_re2_takes_the_same_pattern_in_linear_time() -> None:
    assert not compile_pattern(r"(a+)+$").search("a" * 50_000 + "b")


@pytest.mark.parametrize("source", ["(", "[", "a{5,2}", "*a"])
def test_invalid_patterns_are_refused(source: str) -> None:
    with pytest.raises(ValueError, match="not valid"):
        compile_pattern(source)


def test_named_groups_of_the_first_match_are_available() -> None:
    assert compile_pattern(r"<(?P<rcpt>[^>]+)>").groups("to <a@b> and <c@d>") == {"rcpt": "a@b"}
    assert compile_pattern("x").groups("y") == {}
