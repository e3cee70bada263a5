"""Return paths that name the recipient."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.message.verp import decode_verp, encode_verp
from mta.smtp.address import is_valid_mailbox

SECRET = b"garden"
local_parts = st.one_of(
    st.from_regex(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]{1,12}", fullmatch=True),
    st.from_regex(r'"[ a-z@=+]{1,6}"', fullmatch=True),
    st.text("äöü", min_size=1, max_size=2),
)


def test_the_recipient_stands_in_the_return_path() -> None:
    assert encode_verp("bounces@example.com", "bob@example.net") == "bounces+bob=example.net@example.com"


@given(local_parts, st.sampled_from(["b", "b+x", "a+b+c", "b=c"]), st.booleans())
def test_every_recipient_comes_back(local: str, name: str, signed: bool) -> None:
    secret = SECRET if signed else b""
    originator, recipient = f"{name}@example.com", f"{local}@example.net"

    encoded = encode_verp(originator, recipient, secret)

    assert encoded is not None
    assert is_valid_mailbox(encoded)
    assert decode_verp(encoded, secret) == (originator, recipient)


@pytest.mark.parametrize(
    ("originator", "recipient"),
    [
        ("", "bob@example.net"),
        ("bounces@example.com", "postmaster"),
        ("bounces@example.com", "bob@[192.0.2.1]"),
        ('"b b"@example.com', "bob@example.net"),
        ("bounces@example.com", "b" * 60 + "@example.net"),
    ],
)
def test_what_does_not_fit_gives_none(originator: str, recipient: str) -> None:
    assert encode_verp(originator, recipient) is None


@pytest.mark.parametrize(
    "address", ["", "a@b", "a+b@c", "+b=c@d", "a+=c@d", "a+b=@d", "a+%FF=c@d", "postmaster", "a+b=c"]
)
def test_other_addresses_are_not_ours(address: str) -> None:
    assert decode_verp(address) is None


def test_a_forged_or_missing_tag_is_not_ours() -> None:
    encoded = encode_verp("bounces@example.com", "bob@example.net", SECRET)

    assert encoded is not None
    assert decode_verp(encoded.replace("bob=", "rob="), SECRET) is None
    assert decode_verp("bounces+bob=example.net@example.com", SECRET) is None
    assert decode_verp(encoded, b"other") is None


def test_the_tag_survives_a_change_of_case() -> None:
    encoded = encode_verp("bounces@example.com", "bob@example.net", SECRET)

    assert encoded is not None
    assert decode_verp(encoded.upper(), SECRET) == ("BOUNCES@EXAMPLE.COM", "BOB@EXAMPLE.NET")


@given(st.text(max_size=40))
def test_no_text_makes_decoding_fail(address: str) -> None:
    decode_verp(address.encode("utf-8", "replace").decode(), SECRET)
