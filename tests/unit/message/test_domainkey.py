"""Key pairs: read, made, refused, published."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from mta.errors import ConfigError
from mta.message.domainkey import DkimKey, generate_private_key, parse_private_key, private_pem, txt_record

RSA = generate_private_key("rsa", 1024)
ED25519 = generate_private_key("ed25519")


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, password: bytes = b"") -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption(),
    )


@pytest.mark.parametrize("key", [RSA, ED25519])
def test_a_key_comes_back_from_its_own_file(key: object) -> None:
    again = parse_private_key(private_pem(key))  # type: ignore[arg-type]

    assert txt_record(again) == txt_record(key)  # type: ignore[arg-type]


def test_files_of_openssl_and_of_opendkim_are_read() -> None:
    assert isinstance(RSA, rsa.RSAPrivateKey)

    assert txt_record(parse_private_key(b"some text\n" + pem(RSA))) == txt_record(RSA)


def test_the_bare_seed_that_other_ed25519_tools_write_is_read() -> None:
    assert not isinstance(ED25519, rsa.RSAPrivateKey)
    seed = base64.b64encode(ED25519.private_bytes_raw())

    assert txt_record(parse_private_key(seed + b"\n")) == txt_record(ED25519)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "neither a private key"),
        (b"hello", "neither a private key"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "not a private key"),
        (pem(rsa.generate_private_key(65537, 1024), b"secret"), "password"),
        (pem(ec.generate_private_key(ec.SECP256R1())), "neither an RSA nor"),
    ],
)
def test_what_can_not_sign_is_refused_with_a_reason(text: bytes, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        parse_private_key(text)


def test_a_key_whose_parts_do_not_fit_together_is_refused() -> None:
    assert isinstance(RSA, rsa.RSAPrivateKey)
    right = RSA.private_numbers()
    numbers = rsa.RSAPrivateNumbers(
        p=right.p, q=right.q, d=right.d + 2, dmp1=right.dmp1 - 2, dmq1=right.dmq1 - 2, iqmp=right.iqmp,
        public_numbers=right.public_numbers,
    )  # fmt: skip
    mixed = numbers.private_key(unsafe_skip_rsa_key_validation=True)

    with pytest.raises(ConfigError, match="fit together"):
        parse_private_key(pem(mixed))


def test_short_keys_and_unknown_kinds_are_not_made() -> None:
    with pytest.raises(ConfigError, match="too few"):
        generate_private_key("rsa", 512)
    with pytest.raises(ConfigError, match="dsa"):
        generate_private_key("dsa")


def test_long_records_are_split_for_the_zone_file() -> None:
    strings = txt_record(generate_private_key("rsa", 2048))

    assert len(strings[0]) == 255
    assert "".join(strings).startswith("v=DKIM1; k=rsa; p=MII")
    assert len(txt_record(ED25519)) == 1


def test_a_key_covers_its_domain_and_what_is_under_it() -> None:
    key = DkimKey("s", "example.com", ED25519)

    assert key.covers("example.com")
    assert key.covers("news.example.com")
    assert not key.covers("badexample.com")
    assert key.signing_domain("news.example.com") == "example.com"


def test_a_star_key_signs_as_whoever_sends() -> None:
    key = DkimKey("s", "*", ED25519)

    assert key.covers("example.net")
    assert key.signing_domain("example.net") == "example.net"


def test_only_long_rsa_keys_are_slow() -> None:
    assert not DkimKey("s", "*", ED25519).is_slow
    assert not DkimKey("s", "*", RSA).is_slow
    assert DkimKey("s", "*", generate_private_key("rsa", 2048)).is_slow
