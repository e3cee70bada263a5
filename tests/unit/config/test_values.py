"""Values by kind."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.config.directives import TABLE
from mta.config.kinds import Directive, Kind, Scope, Status
from mta.config.units import Rate
from mta.config.values import EMPTY, HostPort, list_of, parse_host_port, parse_value


def row(kind: Kind, **more: Any) -> Directive:
    return Directive("x", frozenset({Scope.GLOBAL}), kind, None, "", **more)


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (Kind.BOOLEAN, "True", True),
        (Kind.INTEGER, "42", 42),
        (Kind.INTEGER, '"42"', 42),
        (Kind.INTEGER, "unlimited", 0),
        (Kind.PERCENT, "90%", 90),
        (Kind.INTERVAL, "never", None),
        (Kind.INTERVALS, "1m, 2m", (60.0, 120.0)),
        (Kind.RATE, "5/h", Rate(5, 3600)),
        (Kind.SIZE, "1K", 1024),
        (Kind.VOLUME_RATE, "1K/s", Rate(1024, 1)),
        (Kind.BOOLEAN_OR_INTERVAL, "yes", True),
        (Kind.BOOLEAN_OR_INTERVAL, "4h", 14400.0),
        (Kind.BOOLEAN_OR_INTERVAL, "never", False),
        (Kind.TEXT, '"a b"', "a b"),
        (Kind.TEXT, '""', ""),
        (Kind.TEXTS, "a, b", ("a", "b")),
        (Kind.TEXTS, '""', ()),
        (Kind.ADDRESS, "<a@b.c>", "a@b.c"),
        (Kind.ADDRESSES, "a@b, c@d", ("a@b", "c@d")),
        (Kind.IP, "[IPv6:::1]", "::1"),
        (Kind.PORT, "2525", 2525),
        (Kind.FILE, '"/a b" secret', ("/a b", "secret")),
        (Kind.HOST_NAME, "Mail.Example.com", "Mail.Example.com"),
        (Kind.HOST_NAME, "bücher.example", "xn--bcher-kva.example"),
        (Kind.DAILY, "50/day, 100/d", (50, 100)),
        (Kind.WORDS, 'a "b c"', ("a", "b c")),
        (Kind.NOTHING, "", ""),
    ],
)
def test_each_kind_reads_its_values(kind: Kind, text: str, value: object) -> None:
    assert parse_value(row(kind), text) == value


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (Kind.BOOLEAN, "maybe"),
        (Kind.BOOLEAN, ""),
        (Kind.BOOLEAN, '""'),
        (Kind.INTEGER, "-1"),
        (Kind.INTEGER, "1.5"),
        (Kind.PERCENT, "101"),
        (Kind.ADDRESS, "a b@c"),
        (Kind.IP, "localhost"),
        (Kind.PORT, "65536"),
        (Kind.HOST_NAME, "-a"),
        (Kind.DOMAIN_PATTERN, "a.*"),
        (Kind.NETWORK_INTEGER, "10/8"),
        (Kind.NETWORK_RATE, "10/8 fast"),
        (Kind.PATTERN_INTEGER, "*.a 1 2"),
        (Kind.DAILY, "50/week"),
    ],
)
def test_each_kind_refuses_others(kind: Kind, text: str) -> None:
    with pytest.raises(ValueError):
        parse_value(row(kind), text)


def test_limits_of_networks_keep_network_and_limit() -> None:
    limit = parse_value(row(Kind.NETWORK_RATE), "10/8 100/15m")

    assert [str(network) for network in limit.networks] == ["10.0.0.0/8"]
    assert limit.limit == Rate(100, 900)


def test_words_of_a_set_keep_the_spelling_of_the_table() -> None:
    assert parse_value(row(Kind.ENUM, choices=("no", "yes", "override")), "Override") == "override"
    assert parse_value(row(Kind.ENUM, choices=("no", "yes", "override")), "true") == "yes"
    with pytest.raises(ValueError, match="is not one of no, yes"):
        parse_value(row(Kind.ENUM, choices=("no", "yes")), "both")


def test_a_number_may_be_a_word_where_the_table_says_so() -> None:
    assert parse_value(row(Kind.INTEGER, choices=("auto",), minimum=1), "auto") == 0


def test_bounds_of_the_table_are_kept() -> None:
    with pytest.raises(ValueError, match="above the greatest value"):
        parse_value(row(Kind.INTERVAL, maximum=600), "11m")
    with pytest.raises(ValueError, match="below the least value"):
        parse_value(row(Kind.INTEGER, minimum=2), "1")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1", HostPort("127.0.0.1", 0)),
        ("127.0.0.1:53", HostPort("127.0.0.1", 53)),
        ("[::1]:53", HostPort("::1", 53)),
        ("[IPv6:::1]", HostPort("::1", 0)),
        ("::1", HostPort("::1", 0)),
        ("mx.example.com:25", HostPort("mx.example.com", 25)),
    ],
)
def test_addresses_may_have_ports(text: str, address: HostPort) -> None:
    assert parse_host_port(text) == address


@pytest.mark.parametrize("text", ["", ":25", "[::1]25", "[::1", "a:b", "a b:1", "1.2.3.4:"])
def test_other_texts_are_no_addresses(text: str) -> None:
    with pytest.raises(ValueError):
        parse_host_port(text)


def test_values_as_texts() -> None:
    assert list_of(("a", "b")) == ("a", "b")
    assert list_of("a") == ("a",)
    assert list_of(None) == list_of("") == ()


def test_every_default_of_the_table_is_a_value_of_its_kind() -> None:
    for directive in TABLE:
        if directive.default is not None and directive.status is not Status.FOREIGN:
            parse_value(directive, directive.default)


@given(st.sampled_from(list(Kind)), st.text(max_size=30))
def test_no_text_does_more_harm_than_a_value_error(kind: Kind, text: str) -> None:
    with contextlib.suppress(ValueError):
        parse_value(row(kind, choices=("yes", "no") if kind in (Kind.ENUM, Kind.ENUMS) else ()), text)


def test_every_kind_has_something_for_nothing() -> None:
    texts = {Kind.ENUM, Kind.TEXT, Kind.ADDRESS, Kind.IP, Kind.HOST_NAME, Kind.ENTRY}

    assert set(EMPTY) | texts == set(Kind)
