"""The content of a submission: its header block found, control headers obeyed, our lines made.

Nothing here is proportional to the size of the body.
"""

from __future__ import annotations

import re

import msgspec

from mta.ingress.relaying import SourcePolicy
from mta.ingress.stamp import Stamp
from mta.ingress.submission import Submission
from mta.message import headers
from mta.message.schedule import Windows, parse_schedule
from mta.smtp.reply import Reply

__all__ = [
    "CAPTURE_LIMIT",
    "HEADER_LIMIT",
    "Content",
    "field_text",
    "open_content",
    "own_lines",
    "strip",
]

#: Octets of a header block; Postfix has 100 KiB.
HEADER_LIMIT = 128 * 1024
#: Characters of a job id, envelope id or captured header that are kept.
_VALUE_LIMIT = 256
CAPTURE_LIMIT = 1024
_SCHEDULE_LIMIT = 8192
#: Characters of a reply that tells what is wrong.
_WORDS_LIMIT = 200
#: Characters of a private key that comes along: an RSA key of 16,384 bits has 12,000.
KEY_LIMIT = 16_384

_LOOP = Reply(554, "5.4.6 Too many hops: this message goes round in a loop", "5.4.6")
_HEADER_TOO_BIG = Reply(552, "5.3.4 Message header is larger than the limit", "5.3.4")

#: What each server that a message has passed has written on top, lower case.
_HOP = b"received:"
_HOP_SIZE = len(_HOP)
#: A name of printable ASCII characters but the colon; said by what it may not have, it takes half the time.
_FIELD_START = re.compile(rb"[^\x00-\x20:\x7f-\xff]++[ \t]*+:").match


class Content(msgspec.Struct, gc=False):
    """A message between parsing its header and writing it down."""

    block: bytes
    prefix: bytes = b""
    vmta_header: bytes | None = None
    job_id: str = ""
    envelope_id: str = ""
    schedule: Windows = ()
    dkim_options: str = ""
    dkim_key: str = ""


def open_content(submission: Submission) -> Content | Reply:
    """Find the header block and do to it what the source's settings say. Changes `submission.chunks`."""
    policy, chunks = submission.source, submission.chunks
    if len(chunks) > 1 and not submission.parts:
        _gather_header(chunks)
    first = chunks[0] if chunks else b""
    block = first[: headers.header_end(first)]
    size, most = len(block), policy.max_message_hops
    if size > HEADER_LIMIT:
        return _HEADER_TOO_BIG
    # In most headers there is no room for so many hops.
    if size > most * _HOP_SIZE and block.lower().count(_HOP) > most and headers.count_received(block) > most:
        return _LOOP
    content = Content(block)
    if block and not _FIELD_START(block):
        _make_body(submission, content)
    elif policy.has_control_headers:
        return _obeyed(policy, content)
    return content


def _obeyed(policy: SourcePolicy, content: Content) -> Content | Reply:
    """The content with what its control headers say."""
    block = content.block
    lowered = block.lower()
    if policy.process_vmta and (at := headers.find(lowered, b"x-virtual-mta")) >= 0:
        content.vmta_header = headers.value_at(block, at)
    if policy.process_job and (at := headers.find(lowered, b"x-job")) >= 0:
        content.job_id = field_text(block, at, _VALUE_LIMIT)
    if policy.job_header and not content.job_id:
        at = headers.find(lowered, policy.job_header.encode("utf-8"))
        content.job_id = field_text(block, at, _VALUE_LIMIT) if at >= 0 else ""
    if policy.process_envid and (at := headers.find(lowered, b"x-envid")) >= 0:
        content.envelope_id = field_text(block, at, _VALUE_LIMIT)
    if policy.process_schedule and (at := headers.find(lowered, b"x-schedule")) >= 0:
        try:
            content.schedule = parse_schedule(field_text(block, at, _SCHEDULE_LIMIT))
        except ValueError as error:
            # Sent at once it would come at the wrong time.
            return Reply(554, f"5.6.0 x-schedule: {error}"[:_WORDS_LIMIT], "5.6.0")
    if policy.process_dkim_options and (at := headers.find(lowered, b"x-dkim-options")) >= 0:
        content.dkim_options = field_text(block, at, CAPTURE_LIMIT)
        if policy.process_dkim_key and (at := headers.find(lowered, b"x-dkim-key")) >= 0:
            content.dkim_key = field_text(block, at, KEY_LIMIT)
    return content


def _gather_header(chunks: list[bytes]) -> None:
    """Bring the header block into the first of several chunks.

    Not those of a template: its header is in its first part, and what it has in others is filled in and left
    alone.
    """
    first = chunks[0]
    if b"\r\n\r\n" in first or first.startswith(b"\r\n"):
        return
    count = 1
    length = len(first)
    while count < len(chunks) and length <= HEADER_LIMIT:
        length += len(chunks[count])
        count += 1
        # The blank line may lie across two chunks: look at what they are together.
        if b"\r\n\r\n" in chunks[count - 2][-3:] + chunks[count - 1]:
            break
    chunks[:count] = [b"".join(chunks[:count])]


def _make_body(submission: Submission, content: Content) -> None:
    """The first line is no header field: what follows is a body, or mail out of an mbox file."""
    chunks = submission.chunks
    if content.block.startswith((b"From ", b">From ")):
        end = content.block.index(b"\r\n") + 2
        chunks[0] = chunks[0][end:]
        content.block = content.block[end:]
        if not content.block or _FIELD_START(content.block):
            return
    # Our lines will stand in front of it; without a blank line it would become part of the header.
    chunks[:1] = [b"\r\n" + chunks[0]] if submission.parts else [b"\r\n", chunks[0]]
    content.block = b""


def field_text(block: bytes, at: int, limit: int) -> str:
    """A header value as text that can't break a line, a record or a log."""
    text = headers.value_at(block, at)[: 4 * limit].decode("utf-8", "replace")
    if not text.isprintable():
        text = "".join(character if character.isprintable() else " " for character in text).strip()
    return text[:limit]


def strip(submission: Submission, content: Content) -> None:
    """Take out what was to be taken out."""
    block = content.block
    kept = headers.remove(block, submission.source.stripped)
    if kept is not block:
        chunks = submission.chunks
        chunks[0] = kept + chunks[0][len(block) :]
        content.block = kept


def own_lines(
    stamp: Stamp,
    submission: Submission,
    content: Content,
    queue_id: str,
    now: float,
    included: bytes = b"",
) -> list[bytes]:
    """Our lines; `included` are those that the operator wants behind Received."""
    policy = submission.source
    if policy.add_received:
        client, recipients = submission.client, submission.recipients
        source_ip = "" if policy.hide_source else client.source_ip
        recipient = recipients[0][0] if len(recipients) == 1 else ""
        lines = [stamp.received(client.helo, source_ip, client.protocol, queue_id, recipient, now)]
    else:
        lines = []
    if included:
        lines.append(included)
    if not policy.completes_header:
        return lines
    block = content.block
    if policy.add_date != "no" and not policy.dates_at_delivery and not headers.has(block, b"date"):
        lines.append(stamp.date_line(now))
    if policy.add_message_id and not headers.has(block, b"message-id"):
        lines.append(stamp.message_id_line(queue_id))
    return lines
