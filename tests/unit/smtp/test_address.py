"""Addresses of RFC 5321 and 6531: which are valid, and where they end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.smtp.address import is_valid_domain, is_valid_mailbox, parse_path, split_domain, to_ace

VALID = [
    "user@example.com",
    "USER+tag@Example.COM",
    "first.last@sub.example.co.uk",
    "a@b",
    "!#$%&'*+-/=?^_`{|}~@example.com",
    '"quoted local"@example.com',
    '"with \\" escape"@example.com',
    '"@"@example.com',
    '"a>b"@example.com',
    '""@example.com',
    "user%other@example.com",
    "host!user@example.com",
    "user@[192.0.2.1]",
    "user@[IPv6:2001:db8::1]",
    "user@[ipv6:::1]",
    "user@[x400:something]",
    "user@1and1.com",
    "user@example.123a",
    "user@under_score.example.com",
    "user@xn--bcher-kva.example",
    "x" * 64 + "@example.com",
    "a@" + ".".join(["x" * 63] * 3) + "." + "y" * 63,
]

INVALID = [
    "",
    "user",
    "@example.com",
    "user@",
    "user@@example.com",
    "a@b@example.com",
    ".user@example.com",
    "user.@example.com",
    "us..er@example.com",
    "us er@example.com",
    "user@exa mple.com",
    "user@example..com",
    "user@.example.com",
    "user@example.com.",
    "user@-example.com",
    "user@example-.com",
    "user@192.0.2.1",
    "user@[192.0.2.256]",
    "user@[192.0.2]",
    "user@[IPv6:zz::1]",
    "user@[IPv6:fe80::1%eth0]",
    "user@[]",
    "user@[192.0.2.1",
    '"open@example.com',
    '"a"b@example.com',
    "a\x00b@example.com",
    "a\rb@example.com",
    "a\nb@example.com",
    "a\tb@example.com",
    "user@exa\x00mple.com",
    "user(comment)@example.com",
    "user,other@example.com",
    "user;other@example.com",
    "<user@example.com>",
    "x" * 65 + "@example.com",
    "a@" + "x" * 64 + ".com",
    "a@" + ".".join(["x" * 63] * 4) + ".y",
]


@pytest.mark.parametrize("address", VALID)
def test_valid_address_comes_out_as_it_went_in(address: str) -> None:
    path = parse_path(b"<" + address.encode() + b"> SIZE=1")

    assert path is not None
    assert path.address == address
    assert path.end == len(address) + 2
    assert is_valid_mailbox(address)


@pytest.mark.parametrize("address", INVALID)
def test_invalid_address_is_none(address: str) -> None:
    if address:
        assert parse_path(b"<" + address.encode() + b">") is None
    assert not is_valid_mailbox(address)


@pytest.mark.parametrize(
    "text", [b"", b"user@example.com", b"<user@example.com", b" <a@b>", b"<a@b", b">a@b<", b"<<a@b>>"]
)
def test_path_needs_its_brackets(text: bytes) -> None:
    assert parse_path(text) is None


def test_null_path_is_an_empty_address() -> None:
    assert parse_path(b"FROM:<>", 5) == ("", 7)


def test_postmaster_needs_no_domain_and_nobody_else() -> None:
    assert parse_path(b"<PostMaster>") == ("PostMaster", 12)
    assert parse_path(b"<root>") is None


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (b"<@relay.example:user@example.com>", "user@example.com"),
        (b"<@a.example,@b.example:user@example.com>", "user@example.com"),
        (b"<@:user@example.com>", None),
        (b"<@a.example user@example.com>", None),
        (b"<@a..example:user@example.com>", None),
        (b"<@a.example,b.example:user@example.com>", None),
        (b"<@" + b"a" * 600 + b":user@example.com>", None),
    ],
)
def test_source_route_is_cut_off(text: bytes, address: str | None) -> None:
    path = parse_path(text)

    assert (path.address if path else None) == address


def test_longer_local_part_can_be_allowed() -> None:
    long = b"<" + b"x" * 100 + b"@example.com>"

    assert parse_path(long) is None
    assert parse_path(long, local_limit=128) is not None


@pytest.mark.parametrize(
    "address", ["grå@example.com", "user@bücher.example", "用户@例子.广告", '"grå å"@example.com']
)
def test_international_address_needs_smtputf8(address: str) -> None:
    text = b"<" + address.encode() + b">"

    assert parse_path(text) is None
    assert parse_path(text, is_utf8=True) == (address, len(text))
    assert is_valid_mailbox(address)


@pytest.mark.parametrize(
    "text",
    [b"<\xff@example.com>", b"<a@\xc3.example>", b"<a@\xe2\x80\xae.example>", "<a@xn--\u00e9.com>".encode()],
)
def test_bytes_that_are_no_name_are_refused_even_with_smtputf8(text: bytes) -> None:
    assert parse_path(text, is_utf8=True) is None


@pytest.mark.parametrize(
    ("address", "domain"),
    [
        ("user@Example.COM", "example.com"),
        ("user@BÜCHER.example", "xn--bcher-kva.example"),
        ('"a@b"@example.com', "example.com"),
        ("user@[IPv6:2001:DB8::1]", "[ipv6:2001:db8::1]"),
        ("postmaster", ""),
        ("", ""),
        ("user@\u2028x", "\u2028x"),
    ],
)
def test_queue_domain_is_lower_case_ace(address: str, domain: str) -> None:
    assert split_domain(address) == domain


def test_endless_international_domain_is_not_encoded() -> None:
    assert to_ace("ü" * 100_000) == ""
    assert not is_valid_domain("ü" * 100_000)
    assert not is_valid_domain("")


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_give_a_path_or_none(text: bytes, is_utf8: bool) -> None:
    path = parse_path(b"<" + text, is_utf8=is_utf8)

    if path is not None and path.address:
        assert not any(ord(character) < 32 or ord(character) == 127 for character in path.address)
        assert text[path.end - 2 : path.end - 1] == b">"


@given(st.text(max_size=80))
def test_valid_mailbox_never_breaks_a_line(address: str) -> None:
    if is_valid_mailbox(address):
        assert "\r" not in address
        assert "\n" not in address
        assert split_domain(address)
