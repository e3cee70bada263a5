"""The parameters behind the path of MAIL and RCPT, as a server reads them.

SIZE (RFC 1870), BODY (RFC 6152), SMTPUTF8 (RFC 6531), RET, ENVID, NOTIFY and ORCPT (RFC 3461), AUTH (RFC
4954). Text in xtext is decoded here and may then hold printable characters only: a decoded line end would
be a way into our headers and log files. Bad parameters raise RemoteProtocolError whose text is the reply
behind the code, enhanced code first.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from mta.errors import RemoteProtocolError

__all__ = [
    "MailParameters",
    "RcptParameters",
    "decode_xtext",
    "encode_xtext",
    "parse_mail_parameters",
    "parse_rcpt_parameters",
]

#: RFC 3461 4.4 and 4.2, in octets as sent.
ENVID_LIMIT = 100
ORCPT_LIMIT = 500

_KEYWORD = re.compile(rb"[A-Za-z0-9][A-Za-z0-9-]*\Z")
_XTEXT = re.compile(rb"(?:[!-*,-<>-~]|\+[0-9A-Fa-f]{2})*\Z")
_ESCAPE = re.compile(rb"\+([0-9A-Fa-f]{2})")
_ADDRESS_TYPE = re.compile(rb"[A-Za-z0-9][A-Za-z0-9-]*\Z")
_TO_ESCAPE = re.compile(rb"[^!-*,-<>-~]")

_RET = {b"FULL": 1, b"HDRS": 2}
_NOTIFY = {b"SUCCESS": 2, b"FAILURE": 4, b"DELAY": 8}
_NEVER = 1


class MailParameters(NamedTuple):
    """What MAIL said. `size` is -1 when it was not declared; `ret` has the values of message.envelope.Ret."""

    size: int = -1
    is_8bit: bool = False
    is_smtputf8: bool = False
    ret: int = 0
    envelope_id: str = ""
    wants_verp: bool = False


class RcptParameters(NamedTuple):
    """What RCPT said. `notify` has the bits of message.envelope.Notify; `orcpt` is `type;address`,
    decoded.
    """

    notify: int = 0
    orcpt: str = ""


def parse_mail_parameters(
    text: bytes, *, with_smtputf8: bool = True, with_verp: bool = False
) -> MailParameters:
    """Read what follows the path of MAIL; raises RemoteProtocolError (501, 555).

    `with_verp` knows the word VERP (also written XVERP): a return path of its own for each recipient.
    """
    size, is_8bit, is_smtputf8, ret, envelope_id, wants_verp = -1, False, False, 0, "", False
    for keyword, value in _split(text):
        if keyword == b"SIZE" and value is not None and value.isdigit() and len(value) <= 20:
            size = int(value)
        elif keyword == b"BODY" and value is not None and value.upper() in (b"7BIT", b"8BITMIME"):
            is_8bit = value.upper() == b"8BITMIME"
        elif keyword == b"SMTPUTF8" and value is None and with_smtputf8:
            is_smtputf8 = True
        elif keyword in (b"VERP", b"XVERP") and value is None and with_verp:
            wants_verp = True
        elif keyword == b"RET" and value is not None and value.upper() in _RET:
            ret = _RET[value.upper()]
        elif keyword == b"ENVID" and value:
            envelope_id = _printable(value, ENVID_LIMIT, keyword)
        elif keyword == b"AUTH" and value:
            # Who claims to have sent it first is nothing we act on; only its form is checked.
            _check_xtext(value, keyword)
        else:
            raise _refusal(keyword, value, with_smtputf8)
    return MailParameters(size, is_8bit, is_smtputf8, ret, envelope_id, wants_verp)


def parse_rcpt_parameters(text: bytes, *, is_utf8: bool = False) -> RcptParameters:
    """Read what follows the path of RCPT; raises RemoteProtocolError (501, 555).

    `is_utf8` says that MAIL had SMTPUTF8, so that ORCPT may hold raw UTF-8 (RFC 6533 3).
    """
    notify, orcpt = 0, ""
    for keyword, value in _split(text):
        if keyword == b"NOTIFY" and value:
            notify = _notify(value)
        elif keyword == b"ORCPT" and value:
            orcpt = _orcpt(value, is_utf8)
        elif keyword in (b"NOTIFY", b"ORCPT"):
            raise _syntax(keyword)
        else:
            raise _unknown(keyword)
    return RcptParameters(notify, orcpt)


def decode_xtext(text: bytes) -> bytes:
    """What xtext stands for (RFC 3461 4); raises ValueError when it isn't xtext."""
    if not _XTEXT.match(text):
        raise ValueError("not xtext")
    return _ESCAPE.sub(lambda match: bytes.fromhex(match[1].decode("ascii")), text)


def encode_xtext(text: str) -> str:
    """Text in the form in which ENVID and ORCPT travel."""
    return _TO_ESCAPE.sub(lambda match: b"+%02X" % match[0][0], text.encode("utf-8")).decode("ascii")


def _split(text: bytes) -> list[tuple[bytes, bytes | None]]:
    """Keyword (upper case) and value of every parameter; duplicates and bad keywords are refused."""
    found: list[tuple[bytes, bytes | None]] = []
    seen: set[bytes] = set()
    for part in text.split(b" "):
        if not part:
            continue
        keyword, equals, value = part.partition(b"=")
        keyword = keyword.upper()
        if not _KEYWORD.match(keyword):
            raise RemoteProtocolError("5.5.4 Syntax error in parameters", 501)
        if keyword in seen:
            raise RemoteProtocolError(f"5.5.4 Parameter {keyword.decode('ascii')} given twice", 501)
        seen.add(keyword)
        found.append((keyword, value if equals else None))
    return found


def _notify(value: bytes) -> int:
    words = value.upper().split(b",")
    if words == [b"NEVER"]:
        return _NEVER
    bits = 0
    for word in words:
        if word not in _NOTIFY:
            raise _syntax(b"NOTIFY")
        bits |= _NOTIFY[word]
    return bits


def _orcpt(value: bytes, is_utf8: bool) -> str:
    kind, semicolon, address = value.partition(b";")
    if not semicolon or not address or not _ADDRESS_TYPE.match(kind):
        raise _syntax(b"ORCPT")
    return kind.decode("ascii") + ";" + _printable(address, ORCPT_LIMIT, b"ORCPT", is_utf8=is_utf8)


def _printable(value: bytes, limit: int, keyword: bytes, *, is_utf8: bool = False) -> str:
    if len(value) > limit:
        raise RemoteProtocolError(f"5.5.4 {keyword.decode('ascii')} is too long", 501)
    try:
        if is_utf8 and not value.isascii():
            text = value.decode("utf-8")
        else:
            _check_xtext(value, keyword)
            text = decode_xtext(value).decode("utf-8" if is_utf8 else "ascii")
    except UnicodeDecodeError:
        raise _syntax(keyword) from None
    if not text.isprintable():
        raise _syntax(keyword)
    return text


def _check_xtext(value: bytes, keyword: bytes) -> None:
    if not _XTEXT.match(value):
        raise _syntax(keyword)


def _refusal(keyword: bytes, value: bytes | None, with_smtputf8: bool) -> RemoteProtocolError:
    """A known keyword with a bad value is a syntax error (501), an unknown one is not supported (555)."""
    if keyword == b"BODY" and value is not None and value.upper() == b"BINARYMIME":
        return RemoteProtocolError("5.5.4 BODY=BINARYMIME is not supported", 555)
    if keyword in (b"SIZE", b"BODY", b"RET", b"ENVID", b"AUTH") or (keyword == b"SMTPUTF8" and with_smtputf8):
        return _syntax(keyword)
    return _unknown(keyword)


def _syntax(keyword: bytes) -> RemoteProtocolError:
    return RemoteProtocolError(f"5.5.4 Bad value for parameter {keyword.decode('ascii')}", 501)


def _unknown(keyword: bytes) -> RemoteProtocolError:
    return RemoteProtocolError(f"5.5.4 Parameter {keyword[:64].decode('ascii')} is not supported", 555)
