"""Quotes, words, lists and regex literals."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.config.quoting import quote, read_regex, split_list, split_words, unquote


@given(st.text(max_size=40))
def test_quoted_values_read_back(value: str) -> None:
    assert unquote(quote(value)) == value


def test_only_a_value_that_is_quoted_as_a_whole_loses_its_quotes() -> None:
    assert unquote('"a b"') == "a b"
    assert unquote('"Mail" <a@b>') == '"Mail" <a@b>'
    assert unquote('say "hi"') == 'say "hi"'


def test_a_backslash_escapes_only_quotes_and_itself() -> None:
    assert unquote(r'"5\.2\.2"') == r"5\.2\.2"
    assert unquote(r'"a\"b\\c"') == r'a"b\c'


def test_an_open_quote_is_refused() -> None:
    with pytest.raises(ValueError, match="not closed"):
        unquote('"abc')


def test_words_may_be_quoted_also_behind_an_equals_sign() -> None:
    assert split_words('/a "my pass" x="1 2" y') == ("/a", "my pass", "x=1 2", "y")
    assert split_words('""') == ("",)


def test_lists_ignore_blanks_and_empty_entries() -> None:
    assert split_list("a, b ,,c,") == ("a", "b", "c")
    assert split_list('"a,b", c') == ("a,b", "c")
    assert split_list('""') == ()


def test_regex_literals_end_at_the_first_plain_slash() -> None:
    assert read_regex(r"/a\/b\.c/ other") == (r"a/b\.c", "other")
    assert read_regex("// other") == ("", "other")
    assert read_regex(r'"5\.2" action delete') == (r"5\.2", "action delete")


@pytest.mark.parametrize("text", ["abc", "/abc", ""])
def test_anything_else_is_no_regex_literal(text: str) -> None:
    with pytest.raises(ValueError):
        read_regex(text)


@given(st.text(max_size=60))
def test_no_text_does_more_harm_than_a_value_error(text: str) -> None:
    for read in (unquote, split_words, split_list, read_regex):
        with contextlib.suppress(ValueError):
            read(text)
