"""The language of scripted replies."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.errors import ConfigError
from mta.sink.script import Action, Stage, parse_delay, parse_rule, parse_script


def test_plain_reply_gets_its_line_end() -> None:
    rule = parse_rule("RCPT 550 5.1.1 no such user")

    assert (rule.stage, rule.action, rule.reply, rule.code) == (
        Stage.RCPT,
        Action.REPLY,
        b"550 5.1.1 no such user\r\n",
        550,
    )


def test_lines_of_one_reply_are_separated_by_backslash_n() -> None:
    assert parse_rule(r"EHLO 250-mx\n250 PIPELINING").reply == b"250-mx\r\n250 PIPELINING\r\n"


def test_rule_with_a_pattern_only_takes_what_matches() -> None:
    script = parse_script("RCPT /^full@/ 452 4.2.2 full")

    assert script.find(Stage.RCPT, b"full@example.com") is not None
    assert script.find(Stage.RCPT, b"other@example.com") is None


def test_slash_in_a_pattern_is_escaped() -> None:
    script = parse_script(r"RCPT /^a\/b@/ 550 no")

    assert script.find(Stage.RCPT, b"a/b@example.com") is not None


def test_counted_rule_gives_way_to_the_next() -> None:
    script = parse_script("MAIL x2 451 4.7.1 later\nMAIL x1 421 4.3.2 bye")

    found = [script.find(Stage.MAIL) for _ in range(4)]

    assert [rule and rule.code for rule in found] == [451, 451, 421, None]


def test_rule_may_begin_late() -> None:
    script = parse_script("RCPT after=2 452 4.5.3 too many")

    assert [bool(script.find(Stage.RCPT)) for _ in range(4)] == [False, False, True, True]


def test_comments_and_blank_lines_are_nothing() -> None:
    assert not parse_script("# nothing\n\n   # here either\n")


def test_actions_without_a_reply() -> None:
    text = "DOT close\nDATA reset\nQUIT silence\nDOT +1.5s close"

    rules = [parse_rule(line) for line in text.splitlines()]

    assert [rule.action for rule in rules] == [Action.CLOSE, Action.RESET, Action.SILENCE, Action.CLOSE]
    assert [rule.code for rule in rules] == [0, 0, 0, 0]
    assert rules[3].delay == 1.5


def test_raw_bytes_are_sent_as_written() -> None:
    assert parse_rule(r'EHLO raw "250-\xff\r\n\0"').reply == b"250-\xff\r\n\0"


def test_dripping_reply_has_its_interval() -> None:
    rule = parse_rule("CONNECT drip 50ms 220 mx")

    assert (rule.action, rule.interval, rule.reply) == (Action.DRIP, 0.05, b"220 mx\r\n")


def test_old_names_of_stages_are_understood() -> None:
    assert parse_rule("banner 421 no").stage is Stage.CONNECT
    assert parse_rule("HELO 250 mx").stage is Stage.EHLO


@pytest.mark.parametrize(
    "line",
    [
        "RCPT",
        "NOWHERE 250 ok",
        "RCPT 25 ok",
        "RCPT fly away",
        "RCPT /(/ 550 no",
        'EHLO raw "\\x"',
        "DOT +x 250",
    ],
)
def test_bad_line_is_named(line: str) -> None:
    with pytest.raises(ConfigError, match="script line 2"):
        parse_script(f"MAIL 250 ok\n{line}")


@given(st.text())
def test_any_text_is_a_script_or_a_clear_error(text: str) -> None:
    with contextlib.suppress(ConfigError):
        parse_script(text)


@pytest.mark.parametrize(("text", "seconds"), [("100ms", 0.1), ("2s", 2.0), ("0.5s", 0.5), ("40", 0.04)])
def test_delay_is_read_in_milliseconds_unless_it_says_so(text: str, seconds: float) -> None:
    assert parse_delay(text) == seconds


def test_delay_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="no delay"):
        parse_delay("soon")
