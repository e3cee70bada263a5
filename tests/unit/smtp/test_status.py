"""Words and choices for enhanced status codes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.smtp.status import consistent, describe, find_enhanced, implied


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("2.0.0", "2.0.0 (success)"),
        ("2.1.5", "2.1.5 (destination address valid)"),
        ("5.1.1", "5.1.1 (bad destination mailbox address)"),
        ("5.1.2", "5.1.2 (bad destination system: no such domain)"),
        ("4.4.1", "4.4.1 (no answer from host)"),
        ("5.7.1", "5.7.1 (delivery not authorized)"),
        ("5.0.0", "5.0.0 (undefined status)"),
        ("4.7.0", "4.7.0 (other or undefined security status)"),
        ("4.7.28", "4.7.28 (mail flood detected)"),
    ],
)
def test_known_codes_carry_the_words_that_accounting_scripts_expect(code: str, words: str) -> None:
    assert describe(code) == words


def test_an_unknown_detail_is_described_by_its_subject() -> None:
    assert describe("5.7.606") == "5.7.606 (other or undefined security status)"


def test_an_unknown_subject_is_undefined() -> None:
    assert describe("4.9.9") == "4.9.9 (undefined status)"


def test_no_code_has_no_words() -> None:
    assert describe("") == ""


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("5.1.1 no such user", "5.1.1"),
        ("2.0.0", "2.0.0"),
        ("4.7.650 slow down", "4.7.650"),
        ("5.1.1- dash", ""),
        ("5.1", ""),
        ("5.1.1.1 too long", ""),
        ("3.1.1 no such class", ""),
        ("5..1 hole", ""),
        ("5.1234.1 long", ""),
        ("5.1.x letters", ""),
        ("5.٣.1 digits of another script", ""),
        ("no code", ""),
        ("", ""),
    ],
)
def test_a_code_counts_only_at_the_start_and_when_well_formed(text: str, code: str) -> None:
    assert find_enhanced(text) == code


@pytest.mark.parametrize(
    ("reply", "code"), [(250, "2.0.0"), (421, "4.3.2"), (450, "4.0.0"), (550, "5.0.0"), (552, "5.2.2")]
)
def test_a_bare_reply_code_implies_a_status(reply: int, code: str) -> None:
    assert implied(reply) == code


def test_a_class_that_contradicts_the_reply_gives_way_to_it() -> None:
    assert consistent(450, "5.7.1") == "4.7.1"
    assert consistent(550, "4.2.2") == "5.2.2"
    assert consistent(550, "2.0.0") == "5.0.0"
    assert consistent(250, "5.1.1") == "2.0.0"
    assert consistent(421, "4.7.28") == "4.7.28"


@given(st.integers(200, 599).filter(lambda code: code // 100 != 3), st.text(max_size=12))
def test_the_recorded_class_is_always_that_of_the_reply(reply: int, text: str) -> None:
    assert consistent(reply, find_enhanced(text))[0] == str(reply // 100)


@given(st.text(max_size=20))
def test_any_text_is_read_without_error(text: str) -> None:
    code = find_enhanced(text)

    assert text.startswith(code)
