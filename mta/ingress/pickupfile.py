"""One file of the pickup directory, read: headers `x-sender` and `x-receiver` before the message, or BSMTP.

BSMTP is the client's side of an SMTP dialogue (RFC 2442), and begins with HELO, EHLO, MAIL, XMRG or XACK.
Lines may end in LF or CRLF. Content comes back in wire form.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from mta.errors import RemoteProtocolError
from mta.ingress.definitions import parse_definitions, wish_of
from mta.ingress.submission import Wish
from mta.message import headers
from mta.smtp.address import parse_path
from mta.smtp.params import parse_mail_parameters, parse_rcpt_parameters

__all__ = ["PickupMessage", "read_pickup"]

_COMMAND = re.compile(rb"(HELO|EHLO|MAIL|XMRG|XACK)(?: |\r\n)", re.IGNORECASE)
_PART = re.compile(rb"([1-9][0-9]{0,3})(?: +(LAST))?", re.IGNORECASE)
_OURS = frozenset((b"x-sender", b"x-sender-override", b"x-receiver", b"x-envid", b"x-job"))
_SENDER_LIMIT = 128
_VALUE_LIMIT = 256


@dataclass(slots=True)
class PickupMessage:
    """What a file asks for; several chunks are the parts of a mail merge."""

    originator: str = ""
    recipients: list[tuple[str, int, str]] = field(default_factory=list)
    chunks: list[bytes] = field(default_factory=list)
    wishes: list[Wish] = field(default_factory=list)
    is_merge: bool = False
    wants_verp: bool = False
    is_smtputf8: bool = False
    ret: int = 0
    envelope_id: str = ""
    job_id: str = ""


def read_pickup(data: bytes, *, is_stuffed: bool = False) -> PickupMessage:
    """The message in a file; ValueError says what is wrong with it.

    `is_stuffed` (pickup-remove-dot) says that a message behind headers has its dots doubled already.
    """
    data = data.replace(b"\r\n", b"\n")
    if b"\r" in data:
        raise ValueError("a carriage return inside a line")
    if not data.endswith(b"\n"):
        data += b"\n"
    data = data.replace(b"\n", b"\r\n")
    message = _Batch(data).read() if _COMMAND.match(data) else _with_headers(data, is_stuffed)
    if not message.recipients:
        raise ValueError("no recipients")
    return message


def _with_headers(data: bytes, is_stuffed: bool) -> PickupMessage:
    message = PickupMessage()
    end = headers.header_end(data)
    sender = override = None
    kept = []
    for found in headers.fields(data[:end]):
        if found.name not in _OURS:
            kept.append(found.raw)
        elif found.name == b"x-sender":
            sender = _address(found.value, "x-sender", may_be_null=True)
        elif found.name == b"x-sender-override":
            override = _address(found.value, "x-sender-override", may_be_null=True)
        elif found.name == b"x-receiver":
            message.recipients.append((_address(found.value, "x-receiver"), 0, ""))
        elif found.name == b"x-envid":
            message.envelope_id = _text(found.value)
        else:
            message.job_id = _text(found.value)
    if sender is None and override is None:
        raise ValueError("no x-sender header")
    message.originator = (sender if override is None else override) or ""
    content = b"".join(kept) + data[end:]
    if not kept and content.startswith(b"\r\n") and headers.header_end(content[2:]):
        # The blank line may stand between our headers and those of the message.
        content = content[2:]
    if is_stuffed:
        stop = content.find(b"\r\n.\r\n")
        content = content if stop < 0 else content[: stop + 2]
    else:
        content = _stuffed(content)
    message.chunks = [content]
    message.is_smtputf8 = not all(address.isascii() for address, _, _ in message.recipients)
    return message


class _Batch:
    """A BSMTP file, command by command."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0
        self._message = PickupMessage()
        self._defined: dict[bytes, bytes] = {}
        self._has_sender = False
        self._is_complete = False

    def read(self) -> PickupMessage:
        while self._position < len(self._data):
            line = self._line()
            verb, _, argument = line.partition(b" ")
            try:
                self._take(verb.upper(), argument.strip(b" "))
            except RemoteProtocolError as error:
                raise ValueError(str(error)) from None
        if not self._is_complete:
            raise ValueError("the file ends before the message does")
        return self._message

    def _take(self, verb: bytes, argument: bytes) -> None:
        if verb in (b"HELO", b"EHLO", b"XACK", b"NOOP", b"QUIT", b"RSET", b""):
            return
        if self._is_complete:
            raise ValueError("more than one message in a file")
        if verb in (b"MAIL", b"XMRG"):
            self._sender(verb, argument)
        elif not self._has_sender:
            raise ValueError("MAIL or XMRG is missing")
        elif verb == b"RCPT":
            self._recipient(argument)
        elif verb == b"XDFN" and self._message.is_merge:
            parse_definitions(argument, self._defined)
        elif verb == b"DATA" and not self._message.is_merge:
            self._message.chunks = [self._content()]
            self._is_complete = True
        elif verb == b"XPRT" and self._message.is_merge:
            self._part(argument)
        else:
            raise ValueError(f"unexpected command {verb[:20].decode('ascii', 'replace')!r}")

    def _sender(self, verb: bytes, argument: bytes) -> None:
        if argument[:5].upper() != b"FROM:" or self._has_sender:
            raise ValueError("bad MAIL or XMRG command")
        argument = argument[5:].lstrip(b" ")
        path = parse_path(argument, 0, is_utf8=True, local_limit=_SENDER_LIMIT)
        if path is None:
            raise ValueError("bad sender address")
        found = parse_mail_parameters(argument[path.end :], with_verp=True)
        message = self._message
        message.originator = path.address
        message.is_merge = verb == b"XMRG"
        message.wants_verp, message.ret = found.wants_verp, found.ret
        message.is_smtputf8, message.envelope_id = found.is_smtputf8, found.envelope_id
        self._has_sender = True

    def _recipient(self, argument: bytes) -> None:
        if argument[:3].upper() != b"TO:":
            raise ValueError("bad RCPT command")
        argument = argument[3:].lstrip(b" ")
        path = parse_path(argument, 0, is_utf8=True)
        if path is None or "@" not in path.address:
            raise ValueError(f"bad recipient address {_text(argument)!r}")
        found = parse_rcpt_parameters(argument[path.end :], is_utf8=True)
        self._message.recipients.append((path.address, found.notify, found.orcpt))
        if self._message.is_merge:
            self._message.wishes.append(wish_of(self._defined))
            self._defined = {}

    def _part(self, argument: bytes) -> None:
        match = _PART.fullmatch(argument)
        if match is None or int(match[1]) != len(self._message.chunks) + 1:
            raise ValueError("parts must be numbered from 1: XPRT number [LAST]")
        self._message.chunks.append(self._content())
        self._is_complete = match[2] is not None
        wanted = max(
            (max(wish.personal.parts, default=0) for wish in self._message.wishes if wish.personal), default=0
        )
        if self._is_complete and wanted > len(self._message.chunks):
            raise ValueError("*parts names a part that is not there")

    def _content(self) -> bytes:
        """What stands before the line with a single dot."""
        start = self._position
        if self._data.startswith(b".\r\n", start):
            self._position = start + 3
            return b""
        end = self._data.find(b"\r\n.\r\n", start)
        if end < 0:
            raise ValueError("the message has no final dot")
        self._position = end + 5
        return self._data[start : end + 2]

    def _line(self) -> bytes:
        end = self._data.index(b"\r\n", self._position)
        line = self._data[self._position : end]
        self._position = end + 2
        return line


def _address(value: bytes, name: str, *, may_be_null: bool = False) -> str:
    if not value.startswith(b"<"):
        value = b"<" + value + b">"
    path = parse_path(value, 0, is_utf8=True, local_limit=_SENDER_LIMIT if may_be_null else 64)
    is_usable = path is not None and path.end == len(value)
    if path is None or not is_usable or not ("@" in path.address or (may_be_null and not path.address)):
        raise ValueError(f"{name}: bad address {_text(value)!r}")
    return path.address


def _text(value: bytes) -> str:
    text = value[: 4 * _VALUE_LIMIT].decode("utf-8", "replace")
    return "".join(character for character in text if character.isprintable())[:_VALUE_LIMIT]


def _stuffed(content: bytes) -> bytes:
    content = content.replace(b"\r\n.", b"\r\n..")
    return b"." + content if content.startswith(b".") else content
