"""The domain a message speaks for, however its From line is written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.message.author import author_domain, first_domain


@pytest.mark.parametrize(
    ("value", "domain"),
    [
        (b"alice@example.com", "example.com"),
        (b"<alice@Example.COM>", "example.com"),
        (b"Alice <alice@example.com>", "example.com"),
        (b'"Alice (x) <a@evil.test>, b" <alice@example.com>', "example.com"),
        (b'"quo\\"te@x" <alice@example.com>', "example.com"),
        (b"Alice (at work, @ home \\) ) <alice@example.com>", "example.com"),
        (b"alice@example.com (Alice)", "example.com"),
        (b"a@example.com, B <b@example.net>", "example.com"),
        (b"A <a@example.com>, b@example.net", "example.com"),
        (b"alice@work <alice@example.com>", "example.com"),
        (b'"a b"@example.com', "example.com"),
        (b"Friends: a@example.com, b@example.net;", "example.com"),
        ("Jürgen <j@müller.example>".encode(), "xn--mller-kva.example"),
        (b"undisclosed-recipients:;", ""),
        (b"nobody", ""),
        (b"", ""),
        (b"<alice@>", ""),
    ],
)
def test_the_first_domain_of_an_address_list(value: bytes, domain: str) -> None:
    assert first_domain(value) == domain


def test_the_sender_line_comes_before_the_from_line() -> None:
    block = b"From: a@example.com\r\nSender: <b@example.net>\r\n"

    assert author_domain(block) == "example.net"
    assert author_domain(block.replace(b"Sender", b"X-Sender")) == "example.com"


def test_a_sender_line_without_an_address_does_not_count() -> None:
    assert author_domain(b"Sender: me\r\nFrom: a@example.com\r\n") == "example.com"
    assert author_domain(b"Subject: x\r\n") == ""


@given(st.binary(max_size=60))
def test_no_bytes_make_it_fail(value: bytes) -> None:
    first_domain(value)
