"""The line of XDFN: what a mail merge defines for its next recipient."""

from __future__ import annotations

import re

from mta.errors import RemoteProtocolError
from mta.ingress.submission import Wish
from mta.message.envelope import Personal
from mta.message.schedule import parse_schedule
from mta.smtp.address import is_valid_mailbox

__all__ = ["parse_definitions", "parse_parts", "wish_of"]

_DEFINITION = re.compile(
    rb'(\*?[A-Za-z][A-Za-z0-9_.\-]{0,63})=(?:"((?:[^"\\]|\\.)*)"|([^" ][^ ]*|))(?: +|\Z)'
)
_ESCAPED = re.compile(rb"\\(.)")
_RANGE = re.compile(r"([1-9][0-9]{0,3})(?:-([1-9][0-9]{0,3}))?")
_RESERVED = frozenset(
    b"*from *envid *vmta *jobid *parts *to *date *schedule *priority *subaccountid *custommessageid".split()
)
#: Variables of one recipient, their octets, and the numbers in *parts.
_MOST_VARIABLES = 500
_MOST_OCTETS = 64 * 1024
_MOST_PARTS = 1000
_VALUE_LIMIT = 256
_SCHEDULE_LIMIT = 8192


def parse_definitions(argument: bytes, into: dict[bytes, bytes]) -> None:
    """Add `name=value ...` to what is defined so far; raises RemoteProtocolError and adds nothing else.

    Values with blanks stand in quotes, in which a backslash takes the next character as it is. Names don't
    care about case; a name defined again has its last value.
    """
    found: dict[bytes, bytes] = {}
    position = 0
    if not argument:
        raise RemoteProtocolError("5.5.4 Syntax: XDFN name=value ...", 501)
    while position < len(argument):
        match = _DEFINITION.match(argument, position)
        if match is None:
            raise RemoteProtocolError("5.5.4 Syntax: XDFN name=value ...", 501)
        name = match[1].lower()
        if name.startswith(b"*") and name not in _RESERVED:
            raise RemoteProtocolError(f"5.5.4 {name.decode('ascii')} can't be defined here", 504)
        quoted = match[2]
        found[name] = match[3] if quoted is None else _ESCAPED.sub(rb"\1", quoted)
        position = match.end()
    octets = sum(map(len, into.values())) + sum(map(len, found.values()))
    if len(into) + len(found) > _MOST_VARIABLES or octets > _MOST_OCTETS:
        raise RemoteProtocolError("5.5.3 Too many definitions for one recipient", 552)
    wish_of({**into, **found})
    into.update(found)


def wish_of(definitions: dict[bytes, bytes]) -> Wish:
    """What the definitions ask for; raises RemoteProtocolError when a reserved name has a bad value."""
    text = {name: _text(name, value) for name, value in definitions.items() if name.startswith(b"*")}
    originator = text.get(b"*from")
    if originator is not None:
        originator = originator.removeprefix("<").removesuffix(">")
        if originator and not is_valid_mailbox(originator):
            raise RemoteProtocolError("5.1.7 Bad sender address syntax in *from", 501)
    priority = text.get(b"*priority")
    if priority is not None and not (re.fullmatch("[0-9]{1,3}", priority) and 1 <= int(priority) <= 100):
        raise RemoteProtocolError("5.5.4 *priority is a number from 1 to 100", 501)
    parts = parse_parts(text[b"*parts"]) if b"*parts" in text else ()
    try:
        schedule = parse_schedule(text[b"*schedule"]) if b"*schedule" in text else ()
    except ValueError as error:
        raise RemoteProtocolError(f"5.5.4 *schedule: {error}"[:_VALUE_LIMIT], 501) from error
    variables = {
        name.decode("ascii"): value
        for name, value in definitions.items()
        if name not in (b"*from", b"*envid", b"*vmta", b"*jobid", b"*parts", b"*schedule")
    }
    return Wish(
        text.get(b"*vmta", ""),
        text.get(b"*jobid", ""),
        Personal(
            originator, text.get(b"*envid", ""), parts, variables, None if priority is None else int(priority)
        ),
        schedule,
    )


def parse_parts(text: str) -> tuple[int, ...]:
    """`1-3` or `1,3,2`: the numbers in the order given; raises RemoteProtocolError."""
    found: list[int] = []
    for piece in text.replace(" ", "").split(","):
        match = _RANGE.fullmatch(piece)
        first = int(match[1]) if match is not None else 0
        last = int(match[2] or match[1]) if match is not None else -1
        found += range(first, last + 1)
        if last < first or len(found) > _MOST_PARTS:
            raise RemoteProtocolError("5.5.4 *parts is a list of numbers, as in 1-3 or 1,3,2", 501)
    return tuple(found)


def _text(name: bytes, value: bytes) -> str:
    """A value that ends up in records and headers: printable, and not long."""
    text = value.decode("utf-8", "replace")
    limit = _SCHEDULE_LIMIT if name == b"*schedule" else _VALUE_LIMIT
    if len(text) > limit or not text.isprintable():
        raise RemoteProtocolError(f"5.5.4 Bad value of {name.decode('ascii')}", 501)
    return text
