"""Mail addresses as they stand in MAIL and RCPT (RFC 5321 4.1.2, RFC 6531 3.3): is this one, and where does
it end?

Strict on purpose: what one server reads as one address and the next as another is how relays are opened and
queues split. An address that passes here is passed on byte for byte. Two liberties only, both common in real
mail: an underscore in a domain name, and a source route, which is cut off as RFC 5321 appendix C asks.

Nothing here raises on bad input: a parser answers None, and the caller knows which reply to give.
"""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

import idna

__all__ = [
    "DOMAIN_LIMIT",
    "LOCAL_LIMIT",
    "Path",
    "is_valid_domain",
    "is_valid_mailbox",
    "parse_path",
    "split_domain",
    "to_ace",
]

#: RFC 5321 4.5.3.1.1 and 4.5.3.1.2, in octets.
LOCAL_LIMIT = 64
DOMAIN_LIMIT = 255

_ATEXT = rb"A-Za-z0-9!#$%&'*+\-/=?^_`{|}~"
_DOT_ATOM = re.compile(rb"[%b]+(?:\.[%b]+)*" % (_ATEXT, _ATEXT))
_DOT_ATOM_UTF8 = re.compile(rb"[%b\x80-\xff]+(?:\.[%b\x80-\xff]+)*" % (_ATEXT, _ATEXT))
_QUOTED = re.compile(rb'"(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\[\x20-\x7e])*"')
_QUOTED_UTF8 = re.compile(rb'"(?:[\x20\x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\x20-\x7e])*"')
_DOMAIN_BYTES = re.compile(rb"[A-Za-z0-9._\-\x80-\xff]+")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?\Z")
_GENERAL_LITERAL = re.compile(r"[A-Za-z0-9-]*[A-Za-z0-9]:[\x21-\x5a\x5e-\x7e]+\Z")


class Path(NamedTuple):
    """A parsed path: the address without brackets and source route ("" for `<>`), and where the path ends."""

    address: str
    end: int


def parse_path(
    text: bytes, start: int = 0, *, is_utf8: bool = False, local_limit: int = LOCAL_LIMIT
) -> Path | None:
    """Read `<address>` at `start`; None when there is no valid path there.

    `is_utf8` admits internationalised addresses (RFC 6531). `<>` gives an empty address, `<postmaster>` (any
    case) one without a domain (RFC 5321 4.1.1.3); whether either may stand here is the caller's business.
    """
    if text[start : start + 1] != b"<":
        return None
    if text[start + 1 : start + 2] == b">":
        return Path("", start + 2)
    position = _skip_route(text, start + 1)
    if position < 0:
        return None
    local_end = _local_end(text, position, is_utf8)
    if local_end < 0 or local_end - position > local_limit:
        return None
    if text[local_end : local_end + 1] == b">" and text[position:local_end].lower() == b"postmaster":
        return Path(text[position:local_end].decode("ascii"), local_end + 1)
    if text[local_end : local_end + 1] != b"@":
        return None
    end = _domain_end(text, local_end + 1, is_utf8)
    if end < 0 or text[end : end + 1] != b">":
        return None
    try:
        return Path(text[position:end].decode("utf-8"), end + 1)
    except UnicodeDecodeError:
        return None


def is_valid_mailbox(address: str) -> bool:
    """Whether this is one whole `local@domain`, internationalised or not."""
    encoded = address.encode("utf-8", "surrogatepass")
    path = parse_path(b"<" + encoded + b">", is_utf8=True)
    return path is not None and path.end == len(encoded) + 2 and path.address == address and "@" in address


def is_valid_domain(domain: str) -> bool:
    """Whether this is a host or domain name, ASCII or internationalised, not an address literal."""
    ace = to_ace(domain)
    if not ace or len(ace) > DOMAIN_LIMIT:
        return False
    labels = ace.split(".")
    if not all(len(label) <= 63 and _LABEL.match(label) for label in labels):
        return False
    # A name of digits only is an IPv4 address that lacks its brackets.
    return not labels[-1].isdigit()


def split_domain(address: str) -> str:
    """The domain of an address as queues are keyed: lower case, ACE, "" when there is none.

    An address literal keeps its brackets. A domain that is no valid name comes back in lower case.
    """
    domain = address.rpartition("@")[2] if "@" in address else ""
    return to_ace(domain) or domain.lower()


def to_ace(domain: str) -> str:
    """A domain in lower case and ASCII-compatible encoding (RFC 5890), "" when it can't be encoded."""
    if domain.isascii():
        return domain.lower()
    # The limit comes first: IDNA work grows with the length, and the text comes from anybody.
    if len(domain) > DOMAIN_LIMIT:
        return ""
    try:
        return idna.encode(domain, uts46=True).decode("ascii").lower()
    except UnicodeError:
        return ""


def _skip_route(text: bytes, start: int) -> int:
    """Where the mailbox begins behind an optional source route `@a,@b:`; -1 when the route is malformed."""
    if text[start : start + 1] != b"@":
        return start
    colon = text.find(b":", start)
    if colon < 0 or colon - start > 512:
        return -1
    for hop in text[start:colon].split(b","):
        if hop[:1] != b"@" or not hop.isascii() or not is_valid_domain(hop[1:].decode("ascii")):
            return -1
    return colon + 1


def _local_end(text: bytes, start: int, is_utf8: bool) -> int:
    if text[start : start + 1] == b'"':
        match = (_QUOTED_UTF8 if is_utf8 else _QUOTED).match(text, start)
    else:
        match = (_DOT_ATOM_UTF8 if is_utf8 else _DOT_ATOM).match(text, start)
    return match.end() if match else -1


def _domain_end(text: bytes, start: int, is_utf8: bool) -> int:
    """Where the domain that begins at `start` ends; -1 when it is none."""
    if text[start : start + 1] == b"[":
        close = text.find(b"]", start, start + DOMAIN_LIMIT)
        return close + 1 if close > 0 and _is_literal(text[start + 1 : close]) else -1
    match = _DOMAIN_BYTES.match(text, start)
    if match is None or len(match[0]) > DOMAIN_LIMIT or not (is_utf8 or match[0].isascii()):
        return -1
    try:
        domain = match[0].decode("utf-8")
    except UnicodeDecodeError:
        return -1
    return match.end() if is_valid_domain(domain) else -1


def _is_literal(content: bytes) -> bool:
    """What may stand between square brackets (RFC 5321 4.1.3)."""
    if not content.isascii():
        return False
    text = content.decode("ascii")
    try:
        if text[:5].lower() == "ipv6:":
            # A zone index is local to one machine; it names nothing in a mail address.
            return "%" not in text and bool(ipaddress.IPv6Address(text[5:]))
        if ":" not in text:
            return bool(ipaddress.IPv4Address(text))
    except ValueError:
        return False
    return _GENERAL_LITERAL.match(text) is not None
