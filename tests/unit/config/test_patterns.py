"""Entries of pattern lists, rules and DKIM keys."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.config.patterns import (
    read_address_pattern,
    read_bounce_pattern,
    read_bounce_rule,
    read_domain_key,
    read_reply_pattern,
)
from mta.config.problems import Origin

HERE = Origin(Path("config"), 1)


def test_an_action_keeps_its_option() -> None:
    entry = read_reply_pattern("reply", "/x/ disable-source-ip, reenable-after=2h, mode=backoff", HERE)

    assert [(action.name, dict(action.arguments)) for action in entry.actions] == [
        ("disable-source-ip", {"reenable-after": "2h"}),
        ("mode=backoff", {}),
    ]


@pytest.mark.parametrize(
    "value",
    [
        "/x/",
        "/x/ explode",
        "/x/ reenable-after=2h",
        "/x/ skip-mx, reenable-after=2h",
        "/x/ disable-source-ip, reenable-after=soon",
        "x skip-mx",
        "/(/ skip-mx",
    ],
)
def test_other_entries_are_refused(value: str) -> None:
    with pytest.raises(ValueError):
        read_reply_pattern("reply", value, HERE)


@pytest.mark.parametrize("value", [r'"5\.2\.2" action delete', r"/5\.2\.2/ action DELETE", r"5\.2\.2 delete"])
def test_a_rule_may_be_quoted_slashed_or_bare(value: str) -> None:
    rule = read_bounce_rule(value, HERE)

    assert (rule.regex.source, rule.action) == (r"5\.2\.2", "delete")
    assert rule.regex.search("5.2.2 550 mailbox full")


@pytest.mark.parametrize(
    "value", ["", '"x"', '"x" action', '"x" action explode', '"x" action delete now', '"x']
)
def test_other_rules_are_refused(value: str) -> None:
    with pytest.raises(ValueError):
        read_bounce_rule(value, HERE)


def test_a_category_may_be_missing() -> None:
    assert read_bounce_pattern("/x/", HERE).category == "other"
    assert read_bounce_pattern("// my-own", HERE).category == "my-own"


def test_results_of_address_patterns() -> None:
    entry = read_address_pattern("header", "X-Class: /bulk/ virtual-mta=b recipient-priority=10", HERE, ())

    assert (entry.header, entry.vmta, entry.priority, entry.call_to) == ("x-class", "b", 10, "")
    assert read_address_pattern("rcpt-to", "/x/ call-to:other", HERE, ()).call_to == "other"


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("header", "Subject"),
        ("mail-from", "/x/"),
        ("mail-from", "/x/ vmta=b"),
        ("*", ""),
        ("rcpt-to", "x y=z"),
    ],
)
def test_address_patterns_without_sense_are_refused(kind: str, value: str) -> None:
    with pytest.raises(ValueError):
        read_address_pattern(kind, value, HERE, ())


def test_a_key_has_selector_domain_and_file() -> None:
    key = read_domain_key("s1, Bücher.example , /etc/keys/a,b.pem", HERE)

    assert (key.selector, key.domain, key.path) == ("s1", "xn--bcher-kva.example", "/etc/keys/a,b.pem")
    assert read_domain_key('"s1,*,/k"', HERE).matches("anything.example")


@pytest.mark.parametrize(
    "value", ["", "s", "s,d.e", "s,,/k", "s,*.d.e,/k", "s,d..e,/k", "s t,d.e,/k", "s,[1.2.3.4],/k"]
)
def test_other_keys_are_refused(value: str) -> None:
    with pytest.raises(ValueError):
        read_domain_key(value, HERE)


@given(st.text(alphabet='/\\"ab,=: *#()+-', max_size=40))
def test_no_text_does_more_harm_than_a_value_error(text: str) -> None:
    for read in (read_bounce_rule, read_bounce_pattern, read_domain_key):
        with contextlib.suppress(ValueError):
            read(text, HERE)
    with contextlib.suppress(ValueError):
        read_reply_pattern("reply", text, HERE)
    with contextlib.suppress(ValueError):
        read_address_pattern("header", text, HERE, ())


@pytest.mark.parametrize("between", [",", ", ", " "])
def test_an_option_stands_behind_a_comma_or_a_blank(between: str) -> None:
    entry = read_reply_pattern("reply", f"/x/ disable-source-ip{between}reenable-after=2h", HERE)

    assert [(action.name, dict(action.arguments)) for action in entry.actions] == [
        ("disable-source-ip", {"reenable-after": "2h"})
    ]


def test_a_wrong_action_is_told_the_right_ones_with_their_options() -> None:
    with pytest.raises(ValueError, match=r"disable-source-ip\[,reenable-after=TIME\]"):
        read_reply_pattern("reply", "/x/ explode", HERE)
