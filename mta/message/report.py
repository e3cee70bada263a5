"""Delivery status notifications as messages in wire form (RFC 3464 in RFC 6522; NOTIFY and RET of RFC 3461).

    multipart/report
      text/plain                 for people
      message/delivery-status    for programs
      text/rfc822-headers        the header of the message it is about, or message/rfc822: all of it

or, where the receivers of reports want no attachments (`is_plain`), all of it as one text/plain.

The report is ASCII unless it has to go to an internationalised address: foreign letters in recipients are
written as RFC 6533 3 provides for 7-bit reports, those in the returned header as quoted-printable. For an
internationalised originator the whole report is UTF-8, with the message/global types of RFC 6533.

Pure: time, names and ids come in. Whether a report is due is `is_due`; sending it is `ingress/returns`.
"""

from __future__ import annotations

import binascii
import enum
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.errors import MessageError
from email.header import Header, decode_header, make_header
from email.utils import format_datetime, formataddr, parseaddr

from mta.message import headers
from mta.message.envelope import Notify, Ret
from mta.message.wording import Wording, fill

__all__ = ["FULL_LIMIT", "Action", "Report", "ReportedRecipient", "compose", "is_due"]

#: A longer original is returned without its body: a report must not multiply what could not be delivered.
FULL_LIMIT = 512 * 1024
#: Characters of a receiver's reply that are passed on.
DIAGNOSTIC_LIMIT = 900
#: Longer lines are encoded (RFC 5321 4.5.3.1.6 allows 998 octets).
LINE_LIMIT = 990

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]")


class Action(enum.Enum):
    """What became of the recipients (RFC 3464 2.3.3)."""

    FAILED = "failed"
    DELAYED = "delayed"
    RELAYED = "relayed"  # handed to a server that sends no reports of its own


_SUBJECTS = {
    Action.FAILED: "Your message could not be delivered",
    Action.DELAYED: "Your message is delayed",
    Action.RELAYED: "Your message was passed on",
}
_SENTENCES = {
    Action.FAILED: (
        "Your message could not be delivered to the recipients below. There will be no further attempt."
    ),
    Action.DELAYED: (
        "Your message has not reached the recipients below yet. There will be more attempts until {until}; "
        "you need not send it again."
    ),
    Action.RELAYED: (
        "Your message was passed on for the recipients below, to servers that do not report what becomes "
        "of it."
    ),
}
#: When nobody gave a status.
_STATUS = {Action.FAILED: "5.0.0", Action.DELAYED: "4.0.0", Action.RELAYED: "2.0.0"}


@dataclass(frozen=True, slots=True)
class ReportedRecipient:
    """One recipient of a report.

    `orcpt` is as the client gave it ("" = not given), `diagnostic` is `smtp;` and the reply, `remote_mta` is
    "host (ip)" or "", `last_attempt` epoch seconds (0 = there was none).
    """

    address: str
    status: str
    diagnostic: str = ""
    remote_mta: str = ""
    orcpt: str = ""
    last_attempt: float = 0.0


@dataclass(frozen=True, slots=True)
class Report:
    """What one DSN says. `host_name` is the reporting server, times are epoch seconds, "" = not known.

    `retry_after` and `bounce_after` are as the operator wrote them, for his own `wording`.
    """

    action: Action
    host_name: str
    originator: str
    recipients: tuple[ReportedRecipient, ...]
    arrival: float
    queue_id: str
    vmta: str = ""
    envelope_id: str = ""
    ret: Ret = Ret.NONE
    retry_until: float = 0.0
    wording: Wording = field(default_factory=Wording)
    is_plain: bool = False
    retry_after: str = ""
    bounce_after: str = ""

    @property
    def is_utf8(self) -> bool:
        """Whether the report can only be sent with SMTPUTF8."""
        return not self.originator.isascii()


def is_due(action: Action, notify: int) -> bool:
    """Whether the sender wants to hear of this for a recipient with this NOTIFY (RFC 3461 4.1).

    Without NOTIFY, failures are reported and nothing else.
    """
    if notify & Notify.NEVER:
        return False
    if notify == 0:
        return action is Action.FAILED
    wanted = {Action.FAILED: Notify.FAILURE, Action.DELAYED: Notify.DELAY, Action.RELAYED: Notify.SUCCESS}
    return bool(notify & wanted[action])


def compose(report: Report, original: bytes, *, now: float, report_id: str) -> bytes:
    """The DSN in wire form, dots stuffed, without the end of data.

    `original` is the message it is about, in wire form; `report_id` names the DSN and is unique.
    """
    variables = _variables(report, original, now)
    top = [
        f"From: {_sender(report, variables)}",
        f"To: <{_clean(report.originator)}>",
        f"Subject: {_subject(report, variables)}",
        f"Date: {_date(now)}",
        f"Message-ID: <{report_id}.dsn@{report.host_name}>",
        "Auto-Submitted: auto-replied",
        "MIME-Version: 1.0",
    ]
    if report.is_plain:
        return _plain(report, top, _text(report, variables), original)
    boundary = _boundary(report_id, original)
    text, encoding = _encoded(report, _text(report, variables))
    returned = _returned_part(report, original)
    top += [
        "Content-Type: multipart/report; report-type=delivery-status;",
        f'\tboundary="{boundary}"',
        f"Content-Transfer-Encoding: {'8bit' if report.is_utf8 or not returned.isascii() else '7bit'}",
        "",
        f"--{boundary}",
        f"Content-Type: text/plain; charset={'us-ascii' if encoding == '7bit' else 'utf-8'}",
        f"Content-Transfer-Encoding: {encoding}",
    ]
    middle = [
        "",
        f"--{boundary}",
        f"Content-Type: message/{'global-delivery-status' if report.is_utf8 else 'delivery-status'}",
        f"Content-Transfer-Encoding: {'8bit' if report.is_utf8 else '7bit'}",
    ]
    own = _lines(top) + text + _lines(middle) + _status_part(report)
    return b"".join(
        (_stuff(own), f"\r\n--{boundary}\r\n".encode(), returned, f"\r\n--{boundary}--\r\n".encode())
    )


def _plain(report: Report, top: list[str], text: str, original: bytes) -> bytes:
    """The whole report as text: what happened, and the header of the message it is about."""
    block = original[: headers.header_end(original)].replace(b"\r\n.", b"\r\n").removeprefix(b".")
    if block:
        text += "\r\nThe header of your message:\r\n\r\n" + block.decode("utf-8", "replace")
    content, encoding = _encoded(report, text)
    charset = "us-ascii" if encoding == "7bit" else "utf-8"
    top += [f"Content-Type: text/plain; charset={charset}", f"Content-Transfer-Encoding: {encoding}"]
    return _stuff(_lines(top) + content)


def _variables(report: Report, original: bytes, now: float) -> dict[str, str]:
    """What the operator's templates may speak of; no value can end a line."""
    first = report.recipients[0] if report.recipients else ReportedRecipient("", "")
    block = original[: headers.header_end(original)]
    values = {
        "hostname": report.host_name,
        "originator": report.originator,
        "recipient": ", ".join(recipient.address for recipient in report.recipients),
        "subject": _decoded(headers.get(block, b"subject") or b""),
        "retryAfter": report.retry_after,
        "bounceAfter": report.bounce_after,
        "date": _date(now),
        "timeQueued": _date(report.arrival),
        "response": first.diagnostic.removeprefix("smtp;")[:DIAGNOSTIC_LIMIT],
    }
    return {name: _clean(value) for name, value in values.items()}


def _decoded(value: bytes) -> str:
    """A header's text without RFC 2047's letters, if they can be read."""
    text = value.decode("utf-8", "replace")[:DIAGNOSTIC_LIMIT]
    try:
        return str(make_header(decode_header(text)))
    except (MessageError, LookupError, ValueError):
        return text


def _sender(report: Report, variables: Mapping[str, str]) -> str:
    """The From line."""
    wording = report.wording
    template = wording.sender
    if report.action is Action.FAILED and wording.failed_sender:
        template = wording.failed_sender
    if not template:
        return f"Mail Delivery System <mailer-daemon@{report.host_name}>"
    text = _clean(fill(template, variables))
    if text.isascii() or report.is_utf8:
        return _folded("From", text)
    name, address = parseaddr(text)
    return formataddr((name, address.encode("ascii", "replace").decode()))


def _subject(report: Report, variables: Mapping[str, str]) -> str:
    template = report.wording.failed_subject
    if report.action is not Action.FAILED or not template:
        return _SUBJECTS[report.action]
    text = _clean(fill(template, variables))
    if text.isascii() or report.is_utf8:
        return _folded("Subject", text)
    return Header(text, "utf-8", header_name="Subject", maxlinelen=76).encode(linesep="\r\n")


def _folded(name: str, text: str) -> str:
    """A value that may be long, in lines."""
    field = headers.fold(f"{name}: {text}".encode("utf-8", "replace"))
    return field.decode().removeprefix(f"{name}: ").removesuffix("\r\n")


def _lines(lines: list[str]) -> bytes:
    """The lines, and the blank one that ends a header."""
    return "".join(line + "\r\n" for line in [*lines, ""]).encode()


def _text(report: Report, variables: Mapping[str, str]) -> str:
    """What people read."""
    if report.action is Action.FAILED and report.wording.failed_body:
        filled = fill(report.wording.failed_body, variables)
        return "".join(_clean(line) + "\r\n" for line in filled.splitlines())
    lines = [f"This is the mail server {report.host_name}.", ""]
    sentence = _SENTENCES[report.action].format(until=_date(report.retry_until))
    lines += [*textwrap.wrap(sentence, 76), ""]
    for recipient in report.recipients:
        lines.append(f"  <{_clean(recipient.address)}>")
        reply = _clean(recipient.diagnostic.removeprefix("smtp;"))[:DIAGNOSTIC_LIMIT]
        if reply:
            who = f"{_clean(recipient.remote_mta)} answered: " if recipient.remote_mta else ""
            lines += textwrap.wrap(who + reply, 76, initial_indent="    ", subsequent_indent="    ")
        lines.append("")
    lines += [
        f"The message was received on {_date(report.arrival)}",
        f"and has the queue id {report.queue_id}.",
    ]
    return "".join(line + "\r\n" for line in lines)


def _encoded(report: Report, content: str) -> tuple[bytes, str]:
    """A text and its transfer encoding."""
    text = content.encode("utf-8", "replace")
    is_short = all(len(line) <= LINE_LIMIT for line in text.split(b"\r\n"))
    if text.isascii() and is_short:
        return text, "7bit"
    if report.is_utf8 and is_short:
        return text, "8bit"
    return _quoted_printable(text), "quoted-printable"


def _status_part(report: Report) -> bytes:
    """The part for programs: a group of fields for the message, and one for each recipient."""
    groups = [list(_message_fields(report))]
    groups += [list(_recipient_fields(report, recipient)) for recipient in report.recipients]
    return b"\r\n".join(b"".join(_field(report, *field) for field in group) for group in groups)


def _message_fields(report: Report) -> Iterator[tuple[str, str]]:
    yield "Reporting-MTA", f"dns;{report.host_name}"
    if report.envelope_id:
        yield "Original-Envelope-Id", report.envelope_id
    if report.vmta:
        yield "X-MTA-VirtualMTA", report.vmta
    yield "X-MTA-QueueId", report.queue_id
    yield "Arrival-Date", _date(report.arrival)


def _recipient_fields(report: Report, recipient: ReportedRecipient) -> Iterator[tuple[str, str]]:
    if recipient.orcpt:
        # Envelopes hold it decoded already: `Bob+2BNews` may be somebody's name.
        yield "Original-Recipient", recipient.orcpt
    yield "Final-Recipient", _typed_address(recipient.address, as_utf8=report.is_utf8)
    yield "Action", report.action.value
    yield "Status", recipient.status or _STATUS[report.action]
    if recipient.remote_mta:
        yield "Remote-MTA", f"dns;{recipient.remote_mta}"
    if recipient.diagnostic:
        diagnostic = recipient.diagnostic
        yield "Diagnostic-Code", diagnostic if diagnostic.startswith("smtp;") else f"smtp;{diagnostic}"
    if recipient.last_attempt:
        yield "Last-Attempt-Date", _date(recipient.last_attempt)
    if report.action is Action.DELAYED and report.retry_until:
        yield "Will-Retry-Until", _date(report.retry_until)


def _field(report: Report, name: str, value: str) -> bytes:
    clean = _clean(value)[:DIAGNOSTIC_LIMIT]
    encoded = clean.encode("utf-8", "replace") if report.is_utf8 else clean.encode("ascii", "replace")
    return headers.fold(name.encode() + b": " + encoded)


def _returned_part(report: Report, original: bytes) -> bytes:
    """The header of the original or all of it, in wire form, with the fields that say what it is."""
    if report.ret is Ret.FULL and report.action is Action.FAILED and len(original) <= FULL_LIMIT:
        block = original[: headers.header_end(original)]
        kind = b"rfc822" if block.isascii() else b"global"
        encoding = b"7bit" if original.isascii() else b"8bit"
        return _part(b"message/" + kind, encoding, original)
    block = original[: headers.header_end(original)]
    if block.isascii():
        return _part(b"text/rfc822-headers", b"7bit", block)
    if report.is_utf8:
        return _part(b"message/global-headers", b"8bit", block)
    # RFC 6522 4 allows the encoding for headers that are not 7-bit.
    plain = b"\r\n".join(line.removeprefix(b".") for line in block.split(b"\r\n"))
    return _part(b"text/rfc822-headers", b"quoted-printable", _stuff(_quoted_printable(plain)))


def _part(kind: bytes, encoding: bytes, content: bytes) -> bytes:
    end = b"" if not content or content.endswith(b"\r\n") else b"\r\n"
    return b"Content-Type: %s\r\nContent-Transfer-Encoding: %s\r\n\r\n%s%s" % (kind, encoding, content, end)


def _typed_address(address: str, *, as_utf8: bool) -> str:
    if address.isascii():
        return f"rfc822;{address}"
    if as_utf8:
        return f"utf-8;{address}"
    # utf-8-addr-xtext: what is not a plain printable character becomes \x{its number}.
    return "utf-8;" + "".join(
        character if "!" <= character <= "~" and character not in "+=\\" else f"\\x{{{ord(character):X}}}"
        for character in address
    )


def _clean(text: str) -> str:
    """Text from outside without anything that could end a line or a field."""
    return _UNPRINTABLE.sub(" ", text)


def _quoted_printable(text: bytes) -> bytes:
    return binascii.b2a_qp(text)


def _boundary(report_id: str, original: bytes) -> str:
    boundary = f"=_report.{report_id}"
    while boundary.encode() in original:
        boundary += "_"
    return boundary


def _stuff(text: bytes) -> bytes:
    """Double the dot of each line that begins with one (RFC 5321 4.5.2)."""
    stuffed = text.replace(b"\r\n.", b"\r\n..")
    return b"." + stuffed if stuffed.startswith(b".") else stuffed


def _date(moment: float) -> str:
    """RFC 5322 3.3, in UTC."""
    return format_datetime(datetime.fromtimestamp(int(moment), UTC))
