"""Variable envelope return paths: the recipient written into the return path, so that a bounce names it.

    bounces@example.com  +  bob@example.net   →   bounces+bob=example.net@example.com

What stands behind the last `+` of the local part is the recipient, its `@` written as `=`; octets of its
local part that would be misread (`+`, `%`, and all that needs quotes) become %XX. With a secret, a tag
follows that nobody else can make, so that a stranger can't have a mailbox suppressed by inventing bounces:

    bounces+bob=example.net=k3j2h1g0@example.com

Local parts may come back with their case changed: the tag does not depend on case.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re

from mta.smtp.address import LOCAL_LIMIT, is_valid_domain, to_ace

__all__ = ["decode_verp", "encode_verp"]

#: Characters of a recipient's local part that stay as they are: atext without our own signs.
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!#$&'*-/?^_`{|}~.")
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
#: Characters of the tag: 40 bits.
_TAG_LENGTH = 8


def encode_verp(originator: str, recipient: str, secret: bytes = b"") -> str | None:
    """The return path that stands for this recipient.

    None when it can't be made: an address without a domain, a domain that is no name, or a local part over
    the 64 octets that receivers accept. The caller then sends with the plain originator.
    """
    local, at, domain = originator.rpartition("@")
    rcpt_local, rcpt_at, rcpt_domain = recipient.rpartition("@")
    rcpt_domain = to_ace(rcpt_domain)
    if not (local and at and domain and rcpt_local and rcpt_at and is_valid_domain(rcpt_domain)):
        return None
    if local.startswith('"'):
        return None
    inner = f"{_escape(rcpt_local)}={rcpt_domain}"
    if secret:
        inner += "=" + _tag(secret, originator, recipient)
    encoded = f"{local}+{inner}"
    return f"{encoded}@{domain}" if len(encoded.encode()) <= LOCAL_LIMIT else None


def decode_verp(address: str, secret: bytes = b"") -> tuple[str, str] | None:
    """(originator, recipient) of a return path that `encode_verp` made; None for any other address.

    With a secret, an address without its right tag is one of the others.
    """
    local, at, domain = address.rpartition("@")
    local, plus, inner = local.rpartition("+")
    if not (at and plus and local):
        return None
    tag = ""
    if secret:
        inner, _, tag = inner.rpartition("=")
    rcpt_local, equals, rcpt_domain = inner.rpartition("=")
    if not (equals and rcpt_local and rcpt_domain):
        return None
    try:
        recipient = f"{_unescape(rcpt_local)}@{rcpt_domain}"
    except UnicodeDecodeError:
        return None
    originator = f"{local}@{domain}"
    if secret and not hmac.compare_digest(tag.lower().encode(), _tag(secret, originator, recipient).encode()):
        return None
    return originator, recipient


def _escape(local: str) -> str:
    return "".join(chr(octet) if octet in _PLAIN else f"%{octet:02X}" for octet in local.encode())


def _unescape(local: str) -> str:
    return _ESCAPE.sub(lambda match: binascii.unhexlify(match[1]), local.encode()).decode()


def _tag(secret: bytes, originator: str, recipient: str) -> str:
    name, _, domain = recipient.rpartition("@")
    text = f"{originator}\0{name}@{to_ace(domain)}".lower().encode()
    digest = hmac.digest(secret, text, hashlib.sha256)
    return base64.b32encode(digest)[:_TAG_LENGTH].decode("ascii").lower()
