"""DKIM signatures over 10 KB messages, and their parts."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.micro.samples import BASE64_MESSAGE, HTML_MESSAGE
from mta.message import headers
from mta.message.canonical import Canon, Signable, hash_body
from mta.message.dkim import DkimSigner, SignPolicy
from mta.message.domainkey import DkimKey, generate_private_key

NOW = 1_795_219_200.0
BODY = headers.header_end(HTML_MESSAGE) + 2


def bench_rsa_2048() -> Callable[[], object]:
    """one signature, relaxed/relaxed, HTML"""
    return _signing(HTML_MESSAGE, "rsa", 2048)


def bench_rsa_2048_base64() -> Callable[[], object]:
    """one signature, relaxed/relaxed, base64 body"""
    return _signing(BASE64_MESSAGE, "rsa", 2048)


def bench_rsa_1024() -> Callable[[], object]:
    """one signature, relaxed/relaxed, HTML"""
    return _signing(HTML_MESSAGE, "rsa", 1024)


def bench_ed25519() -> Callable[[], object]:
    """one signature, relaxed/relaxed, HTML"""
    return _signing(HTML_MESSAGE, "ed25519")


def bench_ed25519_simple_body() -> Callable[[], object]:
    """one signature, relaxed/simple, HTML"""
    return _signing(HTML_MESSAGE, "ed25519", policy=SignPolicy(body_canon=Canon.SIMPLE))


def bench_body_relaxed_html() -> Callable[[], object]:
    """hash of a 10 KB body"""
    return lambda: hash_body(HTML_MESSAGE, BODY, Canon.RELAXED)


def bench_body_relaxed_base64() -> Callable[[], object]:
    """hash of a 10 KB body"""
    return lambda: hash_body(BASE64_MESSAGE, BODY, Canon.RELAXED)


def bench_body_simple() -> Callable[[], object]:
    """hash of a 10 KB body"""
    return lambda: hash_body(HTML_MESSAGE, BODY, Canon.SIMPLE)


def bench_fields_relaxed() -> Callable[[], object]:
    """canonical form of twelve fields"""
    return lambda: Signable(HTML_MESSAGE).relaxed


def _signing(
    message: bytes, kind: str, bits: int = 0, policy: SignPolicy | None = None
) -> Callable[[], object]:
    key = DkimKey("sel", "example.com", generate_private_key(kind, bits))
    signer = DkimSigner(key, policy or SignPolicy(), domain="example.com")

    def sign() -> bytes:
        draft = signer.draft(Signable(message), NOW)
        return b"" if draft is None else draft.sealed()

    return sign
