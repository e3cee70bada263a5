"""A message as one of its recipients gets it: a return path of its own, and a template filled in.

In a template `[name]` stands for a value, `[[` for a bracket; names don't care about case. Names that begin
with `*` are ours: *from, *to, *envid, *vmta, *jobid, *date and *parts have values without anybody giving
them. A bracket that begins no name is left alone.

The content is in wire form before and after: values are put in while the dots are as the sender meant them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import formatdate

import msgspec

from mta.message.envelope import Envelope
from mta.smtp.address import to_ace

__all__ = ["VERP_LIMIT", "expand", "personal_content", "personal_envelope", "return_path"]

#: Octets of a local part with a recipient in it. More than RFC 5321 has room for: receivers take it, and a
#: shorter limit would take from some recipients what the sender's bounce processing counts on.
VERP_LIMIT = 128

_FIELD = re.compile(rb"\[(?:\[|(\*?[A-Za-z][A-Za-z0-9_.\-]{0,63})\])")


def return_path(originator: str, recipient: str) -> str | None:
    """The return path with the recipient in it: `local-rcptlocal=rcptdomain@domain`.

    None when there is none: a null or quoted return path, a quoted recipient, or one that is too long.
    """
    local, at, domain = originator.rpartition("@")
    rcpt_local, rcpt_at, rcpt_domain = recipient.rpartition("@")
    rcpt_domain = to_ace(rcpt_domain)
    if not (at and rcpt_at and local and rcpt_local and rcpt_domain) or rcpt_domain.startswith("["):
        return None
    if '"' in local or '"' in rcpt_local or "@" in rcpt_local:
        return None
    made = f"{local}-{rcpt_local}={rcpt_domain}"
    return f"{made}@{domain}" if len(made.encode("utf-8")) <= VERP_LIMIT else None


def personal_envelope(envelope: Envelope, index: int) -> Envelope:
    """The envelope with the return path and envelope id that hold for one recipient."""
    personal = envelope.recipients[index].personal
    if personal is None or (personal.originator is None and not personal.envelope_id):
        return envelope
    return msgspec.structs.replace(
        envelope,
        originator=envelope.originator if personal.originator is None else personal.originator,
        envelope_id=personal.envelope_id or envelope.envelope_id,
    )


def personal_content(envelope: Envelope, index: int, content: bytes) -> bytes:
    """The content, in wire form, that one recipient gets."""
    if not envelope.template:
        return content
    personal = envelope.recipients[index].personal
    own, *lengths = envelope.template
    pieces = []
    start = own
    for length in lengths:
        pieces.append(content[start : start + length])
        start += length
    chosen = personal.parts if personal is not None and personal.parts else range(1, len(pieces) + 1)
    text = b"".join([pieces[number - 1] for number in chosen if 0 < number <= len(pieces)])
    filled = expand(_bare(text), _values(envelope, index), drops_unknown=envelope.drops_unknown)
    return content[:own] + _stuffed(filled)


def expand(text: bytes, values: Mapping[str, bytes], *, drops_unknown: bool = True) -> bytes:
    """The text with its fields filled in; fields without a value vanish, or stay as they are."""

    def value(match: re.Match[bytes]) -> bytes:
        name = match[1]
        if name is None:
            return b"["
        found = values.get(name.decode("ascii").lower())
        if found is not None:
            return found
        return b"" if drops_unknown else match[0]

    return _FIELD.sub(value, text)


def _values(envelope: Envelope, index: int) -> dict[str, bytes]:
    recipient = envelope.recipients[index]
    mine = personal_envelope(envelope, index)
    values = {
        "*from": mine.originator.encode("utf-8"),
        "*to": recipient.address.encode("utf-8"),
        "*envid": mine.envelope_id.encode("utf-8"),
        "*jobid": mine.job_id.encode("utf-8"),
        "*vmta": (mine.vmta_pool or mine.vmta).encode("utf-8"),
        "*date": formatdate(mine.received).encode("ascii"),
    }
    personal = recipient.personal
    if personal is not None:
        values["*parts"] = ",".join(map(str, personal.parts)).encode("ascii")
        values.update(personal.variables)
    return values


def _bare(text: bytes) -> bytes:
    text = text.replace(b"\r\n.", b"\r\n")
    return text[1:] if text.startswith(b".") else text


def _stuffed(text: bytes) -> bytes:
    text = text.replace(b"\r\n.", b"\r\n..")
    return b"." + text if text.startswith(b".") else text
