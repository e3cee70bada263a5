"""What is inside messages, and what we write about them: headers, signatures, reports, records."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
from collections.abc import Hashable
from typing import Any, cast

import dkim.canonicalization as reference

from mta.config.load import load_text
from mta.errors import ConfigError, LocalProtocolError
from mta.events.accounting import Format, FormatOptions
from mta.message import headers
from mta.message.author import author_domain
from mta.message.canonical import Canon, Signable
from mta.message.domainkey import parse_private_key
from mta.message.envelope import Ret
from mta.message.event import Event
from mta.message.report import Action, Report, ReportedRecipient, compose
from mta.message.verp import decode_verp, encode_verp
from mta.queue.classify import Classifier
from tests.fuzz.target import Target, sentence
from tests.fuzz.wire import stuffed

__all__ = ["TARGETS"]

NOW = 1_795_219_200.0


def as_wire(data: bytes) -> bytes:
    """Any octets as content in wire form."""
    lines = data.replace(b"\0", b"").replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    return b"\r\n".join(b"." + line if line[:1] == b"." else line for line in lines) + b"\r\n"


def run_headers(data: bytes) -> Hashable:
    message = as_wire(data)
    block = message[: headers.header_end(message)]
    found = list(headers.fields(block))
    assert b"".join(field.raw for field in found) == block
    for field in found:
        assert b"\n" not in field.value, field
        assert field.name == field.name.lower()
    names = {field.name for field in found if field.name}
    for name in list(names)[:5]:
        values = headers.get_all(block, name)
        assert len(values) == headers.count(block, name) >= 1, name
        assert headers.get(block, name) == values[0]
        left = headers.remove(block, (name,))
        assert not headers.has(left, name), name
        assert len(list(headers.fields(left))) >= len(found) - len(values) - 1
    try:
        made = headers.make_field(b"X-Made", data)
    except LocalProtocolError:
        assert set(b"\r\n\0") & set(data)
    else:
        assert made.endswith(b"\r\n")
        assert b"\r\n\r\n" not in made
        (only,) = headers.fields(made)
        assert only.value == data.strip(b" \t")
    author_domain(block)
    return len(found), len(names)


def run_dkim(data: bytes) -> Hashable:
    """Our canonical forms against dkimpy's."""
    message = as_wire(data)
    sent = message[1:] if message[:1] == b"." else message
    sent = sent.replace(b"\r\n.", b"\r\n")
    end = headers.header_end(message)
    start_of_body = sent.find(b"\r\n\r\n")
    body = (
        sent[2:] if message.startswith(b"\r\n") else b"" if start_of_body < 0 else sent[start_of_body + 4 :]
    )
    signable = Signable(message)
    for canon, theirs in ((Canon.SIMPLE, reference.Simple), (Canon.RELAXED, reference.Relaxed)):
        expected = cast(Any, theirs).canonicalize_body(body)
        digest, length = signable.body_hash(canon)
        assert base64.b64decode(digest) == hashlib.sha256(expected).digest(), canon
        assert length == len(expected), canon
    for names, values in (signable.simple(), signable.relaxed):
        assert len(names) == len(values)
    return end == len(message), len(body) > 10


def run_key(data: bytes) -> Hashable:
    try:
        key = parse_private_key(data)
    except ConfigError as error:
        return sentence(error)
    return type(key).__name__


def run_verp(data: bytes) -> Hashable:
    text = data.decode("utf-8", "replace")
    first, _, second = text.partition("|")
    for secret in (b"", b"key"):
        decode_verp(text, secret)
        made = encode_verp(first, second, secret)
        if made is None:
            continue
        assert len(made.rpartition("@")[0].encode()) <= 64
        found = decode_verp(made, secret)
        assert found is not None, made
        assert found[0] == first
        assert found[1].rpartition("@")[0] == second.rpartition("@")[0]
        if secret:
            assert decode_verp(made.lower(), secret) is not None or made.lower() != made
            forged = made.replace("+", "+x", 1)
            assert decode_verp(forged, secret) is None
    return made is None


def run_report(data: bytes) -> Hashable:
    """A DSN about anything is safe to send."""
    text = data.decode("utf-8", "replace")
    words = (text.split("|") + [""] * 8)[:8]
    report = Report(
        (Action.FAILED, Action.DELAYED, Action.RELAYED)[len(data) % 3],
        "mta.example.com",
        "alice@example.com" if data[:1] < b"\xc0" else "älice@example.com",
        (
            # Lengths are those that the listener lets in.
            ReportedRecipient(
                words[0][:320], words[1][:5] or "5.0.0", words[2], words[3][:300], words[4][:500], NOW
            ),
            ReportedRecipient("bob@example.net", "4.0.0"),
        ),
        NOW - 60,
        "QID1",
        words[5][:60],
        words[6][:100],
        (Ret.NONE, Ret.FULL, Ret.HDRS)[len(words[7]) % 3],
    )
    original = as_wire(data)
    made = compose(report, original, now=NOW, report_id="R1")
    stuffed(made)
    block = made[: headers.header_end(made)]
    assert headers.count(block, b"from") == headers.count(block, b"to") == 1
    assert headers.count(block, b"content-type") == 1
    assert not headers.has(block, b"bcc")
    assert max(map(len, made.split(b"\r\n"))) <= 998 + 1 or max(map(len, original.split(b"\r\n"))) > 900
    return len(made) > 3000


FORMAT = Format(FormatOptions(types=("b", "d", "t")))
_COLUMNS = len(FORMAT.header.decode().split(","))


def run_accounting(data: bytes) -> Hashable:
    """Whatever a server says, a record is one line with the right number of columns."""
    text = data.decode("utf-8", "surrogateescape") if data[:1] != b"\xff" else data.decode("latin-1")
    words = (text.split("|") + [""] * 8)[:8]
    event = Event(
        "b",
        "e1",
        NOW,
        originator=words[0],
        recipient=words[1],
        dsn_action="failed",
        dsn_status=words[2][:8],
        dsn_diag=words[3],
        dsn_mta=words[4],
        queue=words[5],
        job_id=words[6],
        envelope_id=words[7],
        vmta="v",
    )
    line = FORMAT.line(event)
    assert line.endswith("\n")
    rows = list(csv.reader(io.StringIO(line, newline="")))
    assert len(rows) == 1
    assert len(rows[0]) == _COLUMNS, rows
    line.encode("utf-8", "backslashreplace")
    assert "\n" not in line[:-1]
    assert "\r" not in line
    assert "\0" not in line
    assert "\x1b" not in line
    return line.count('"') > 4


CLASSIFIER = Classifier(load_text("host-name mx.test").readable.bounce_categories())


def run_classifier(data: bytes) -> Hashable:
    text = data.decode("utf-8", "surrogateescape")
    category = CLASSIFIER.category(text[:5], text[5:])
    assert category
    assert category == CLASSIFIER.category(text[:5], text[5:])
    return category


MAIL = b"From: a@b.example\r\nTo: c,\r\n d\r\nSubject : x\r\nReceived: y\r\n\r\n.body  \t x \r\n\r\n\r\n"
WORDS = (
    b"\r\n",
    b"\r\n ",
    b": ",
    b"From:",
    b"Bcc:",
    b"Received:",
    b"\r\n\r\n",
    b"\t",
    b".",
    b"  ",
    b"=?utf-8?q?=0A?=",
)

TARGETS = (
    Target("headers", run_headers, (MAIL, b"no header\n\nx", b": x\r\n y: z\r\n"), WORDS),
    Target("dkim", run_dkim, (MAIL, b"\r\nbody", b"A: b"), WORDS),
    Target(
        "private-key",
        run_key,
        (
            b"-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA==\n-----END PRIVATE KEY-----\n",
            b"A" * 43 + b"=",
        ),
        (b"-----BEGIN ", b"RSA ", b"PRIVATE KEY-----"),
        2000,
    ),
    Target(
        "verp",
        run_verp,
        (b"news@example.org|a@example.com", b"n+a=example.com@example.org"),
        (b"+", b"=", b"%40", b"@"),
        200,
    ),
    Target("report", run_report, (b"a@b|5.1.1|smtp;550 no|mx (1.2.3.4)|rfc822;x@y|v|env|z", MAIL), WORDS),
    Target(
        "accounting",
        run_accounting,
        (b'a@b|c@d|5.1.1|smtp;550 "x", no|mx|q/v|j|e',),
        (b'"', b",", b"\n", b"\x1b[31m", b"\0"),
        2000,
    ),
    Target(
        "classifier",
        run_classifier,
        (b"5.1.1smtp;550 user unknown", b"4.2.2quota exceeded"),
        (b"blocked", b"spam", b"mailbox full"),
        2000,
    ),
)
