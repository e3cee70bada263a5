"""Patterns that backtrack: none may hold up a worker, whatever text a stranger sends."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.config.backtracking import LONGEST, longest_text
from mta.config.load import load_text
from mta.config.regex import compile_pattern

#: Fifty that bring engines down, and their relatives with look-around so that re2 does not take them.
BOMBS = (
    r"(?=a)(a+)+$",
    r"(?=a)(a*)*b",
    r"(?=a)(a|a)*b",
    r"(?=a)(a|aa)+$",
    r"(?=a)(a|a?)+$",
    r"(?!x)(.*)*b",
    r"(?!x)(.*a){11,}",
    r"(?!x)(.*a){20}",
    r"(?!x)(.*a){6}b",
    r"(?!x)^(([a-z])+.)+[A-Z]([a-z])+$",
    r"(?!x)^(\w+\s?)*$",
    r"(?!x)(\w*\w*)*b",
    r"(?!x)([a-z]+)*\d",
    r"(?!x)^(a+a+)+b",
    r"(?!x)((a?)*)*b",
    r"(?!x)(?:a?){40}a{40}",
    r"(?!x)a?a?a?a?a?a?a?a?a?a?a?a?a?a?a?a?a?a?a?a?a?a?a?a?aaaaaaaaaaaaaaaaaaaaaaaa",
    r"(a*)\1*b",
    r"(a*)(a*)\1\2b",
    r"(?!x)a*a*a*a*b",
    r"(?!x)a*a*a*b",
    r"(?!x)a*a*b",
    r"(?!x)a*b",
    r"(?!x).*.*.*=.*",
    r"(?!x).*?.*?=x",
    r"(?!x)\s*\s*\s*x",
    r"(?!x)(\s*,?)*x",
    r"(?!x)(?:[^\"]*\"?)*x",
    r"(?!x)(?:a{1,50}){1,50}b",
    r"(?!x)(a{0,99}){0,99}b",
    r"(?!x)a{0,99}a{0,99}a{0,99}b",
    r"(?=(a+)+b)a",
    r"(?!(a|a)*b)a",
    r"(?<!x)((ab)*)+c",
    r"(?<!x)(ab|a|b)*c",
    r"(?!x)(.|a)*b",
    r"(?!x)(a|b|ab)*c",
    r"(?!x)(?:x+x+)+y",
    r"(?!x)^.*?,.*?,.*?,.*?,.*?b",
    r"(?!x)(?=(?=(?=a*)a*)a*)a*b",
    r"(?!x)(?>(a+)+)b",
    r"(?!x)(a+)++b",
    r"(?!x)(?:a*+)*b",
    r"(?(?=a)a*|b)",
    r"()(?(1)a*a*a*b|c)",
    r"(?!x)(?:(?:a|b)+c?)+d",
    r"(?!x)([^,]*,)*[^,]*x",
    r"(?!x)(?i:A*a*A*)b",
    r"(?!x)[\s\S]*[\s\S]*[\s\S]*x",
    r"(?!x)(?:\d+\.?)+x",
    r"(?!x)\d*\d*\d*x",
)
UNITS = ("a", "ab", "a,", "aA", " ", "1", "a.", "x=", '"', "aab ")


@pytest.mark.parametrize("source", BOMBS)
def test_a_bomb_is_refused_or_bounded(source: str) -> None:
    try:
        pattern = compile_pattern(source)
    except ValueError:
        return

    for unit in UNITS:
        text = (unit * LONGEST)[:LONGEST]
        began = time.process_time()
        pattern.search(text)
        # 50 ms on a machine at rest; a test machine is not.
        assert time.process_time() - began < 0.25, unit


@pytest.mark.parametrize(
    "source",
    [
        r"(?!.*\.edu).*blocked",
        r"^(?!.*temporar).*mailbox full",
        r"(?<!not )accepted",
        r"(\w+) \1",
        r"(?=.*spam)(?=.*policy)",
        r"(?>rate|limit)ed",
        r"(?!5\.7\.1)5\.\d+\.\d+",
        r"^(?:4\d\d|5\d\d)(?! 2\.)",
        r"(?!x)(?:foo|bar)*baz",
    ],
)
def test_what_operators_write_is_taken(source: str) -> None:
    assert not compile_pattern(source).is_linear


def test_the_text_is_cut_as_the_pattern_demands() -> None:
    assert longest_text(r"(?!x)ab") == longest_text(r"(?!x)a*b") == LONGEST
    assert 100 <= longest_text(r"(?!x)a*a*b") < 300
    assert longest_text(r"(?!x)a*a*a*a*b") == 0
    assert longest_text(r"^(?!x)a*a*b") > longest_text(r"(?!x)a*a*b")
    assert repr(compile_pattern("(?!x)a*b")) == "<Pattern /(?!x)a*b/ up to 2048>"


def test_a_pattern_that_can_take_for_ever_is_refused_with_its_line() -> None:
    loaded = load_text(
        "<smtp-pattern-list p>\nreply /ok/ mode=backoff\nreply /(?=a)(a+)+$/ mode=backoff\n"
        "</smtp-pattern-list>\n"
    )

    (problem,) = loaded.errors
    assert problem.line == 3
    assert "unlimited repeat" in problem.text


@given(st.text(alphabet="ab.*+?()[]|{}0129,^$\\=!<>:", max_size=30))
def test_any_pattern_is_judged(body: str) -> None:
    try:
        longest = longest_text(body)
    except (re.error, OverflowError, RecursionError):
        return
    assert longest == 0 or 100 <= longest <= LONGEST
