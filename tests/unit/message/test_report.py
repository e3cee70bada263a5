"""DSNs: read back by the standard library, safe to send, and due when the sender asked for them."""

from __future__ import annotations

import email
import email.policy
from dataclasses import replace
from email.message import EmailMessage, Message
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.message.envelope import Notify, Ret
from mta.message.report import FULL_LIMIT, Action, Report, ReportedRecipient, compose, is_due
from mta.message.wording import Wording, fill, unknown_variables

NOW = 1_795_219_200.0  # 2026-11-21 00:00:00 UTC
ORIGINAL = b"From: Alice <alice@example.com>\r\nSubject: hello\r\n\r\nbody\r\n..dot\r\n"
BOB = ReportedRecipient(
    "bob@example.net",
    "5.1.1",
    "smtp;550 5.1.1 <bob@example.net>: user unknown",
    "mx.example.net (192.0.2.1)",
    "rfc822;Bob+News+41@example.net",
    NOW - 10,
)
REPORT = Report(
    Action.FAILED, "mta.example.com", "alice@example.com", (BOB,), NOW - 60, "QID1", "vmta1", "env id+41"
)


def unstuff(wire: bytes) -> bytes:
    return b"\r\n".join(line.removeprefix(b".") for line in wire.split(b"\r\n"))


def read(report: Report, original: bytes = ORIGINAL) -> EmailMessage:
    wire = compose(report, original, now=NOW, report_id="R1")
    assert wire.endswith(b"\r\n")
    return cast(EmailMessage, email.message_from_bytes(unstuff(wire), policy=email.policy.SMTP))


def parts(message: EmailMessage) -> list[EmailMessage]:
    return cast(list[EmailMessage], list(message.iter_parts()))


def status_groups(message: EmailMessage) -> list[Message]:
    return cast(list[Message], parts(message)[1].get_payload())


def test_a_report_has_a_part_for_people_one_for_programs_and_the_header() -> None:
    message = read(REPORT)

    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "delivery-status"
    assert [part.get_content_type() for part in parts(message)] == [
        "text/plain",
        "message/delivery-status",
        "text/rfc822-headers",
    ]
    assert message.defects == []


def test_the_top_of_a_report_keeps_robots_quiet() -> None:
    message = read(REPORT)

    assert message["To"] == "alice@example.com"
    assert message["From"] == "Mail Delivery System <mailer-daemon@mta.example.com>"
    assert message["Auto-Submitted"] == "auto-replied"
    assert message["Date"] == "Sat, 21 Nov 2026 00:00:00 +0000"
    assert message["Message-ID"] == "<R1.dsn@mta.example.com>"


def test_people_read_who_said_what() -> None:
    text = parts(read(REPORT))[0].get_content()

    assert "<bob@example.net>" in text
    assert "mx.example.net (192.0.2.1) answered: 550 5.1.1" in text
    assert "QID1" in text


def test_programs_read_every_field_of_rfc_3464() -> None:
    about, bob = status_groups(read(REPORT))

    assert about["Reporting-MTA"] == "dns;mta.example.com"
    assert about["Original-Envelope-Id"] == "env id+41"
    assert about["X-MTA-VirtualMTA"] == "vmta1"
    assert about["Arrival-Date"] == "Fri, 20 Nov 2026 23:59:00 +0000"
    assert bob["Original-Recipient"] == "rfc822;Bob+News+41@example.net"
    assert bob["Final-Recipient"] == "rfc822;bob@example.net"
    assert bob["Action"] == "failed"
    assert bob["Status"] == "5.1.1"
    assert bob["Remote-MTA"] == "dns;mx.example.net (192.0.2.1)"
    assert bob["Diagnostic-Code"] == "smtp;550 5.1.1 <bob@example.net>: user unknown"
    assert bob["Last-Attempt-Date"] == "Fri, 20 Nov 2026 23:59:50 +0000"


def test_several_recipients_share_a_report() -> None:
    carol = ReportedRecipient("carol@example.net", "5.2.2", "552 full")

    groups = status_groups(read(replace(REPORT, recipients=(BOB, carol))))

    assert [group["Final-Recipient"] for group in groups[1:]] == [
        "rfc822;bob@example.net",
        "rfc822;carol@example.net",
    ]
    assert groups[2]["Diagnostic-Code"] == "smtp;552 full"
    assert "Remote-MTA" not in groups[2]


def test_a_delay_says_until_when_and_never_returns_the_body() -> None:
    message = read(replace(REPORT, action=Action.DELAYED, retry_until=NOW + 86400, ret=Ret.FULL))

    assert status_groups(message)[1]["Will-Retry-Until"] == "Sun, 22 Nov 2026 00:00:00 +0000"
    assert "Sun, 22 Nov 2026" in parts(message)[0].get_content()
    assert parts(message)[2].get_content_type() == "text/rfc822-headers"


def test_what_is_not_known_is_left_out() -> None:
    bare = Report(Action.RELAYED, "h", "a@b", (ReportedRecipient("c@d", ""),), NOW, "Q")

    about, one = status_groups(read(bare))

    assert "Original-Envelope-Id" not in about
    assert "X-MTA-VirtualMTA" not in about
    assert "Diagnostic-Code" not in one
    assert (one["Action"], one["Status"]) == ("relayed", "2.0.0")


def test_ret_full_returns_the_whole_message() -> None:
    returned = parts(read(replace(REPORT, ret=Ret.FULL)))[2]

    assert returned.get_content_type() == "message/rfc822"
    inner = cast(list[EmailMessage], returned.get_payload())[0]
    assert inner["Subject"] == "hello"
    assert inner.get_payload() == "body\r\n.dot\r\n"


def test_a_huge_message_is_never_returned_whole() -> None:
    original = ORIGINAL + b"x" * FULL_LIMIT + b"\r\n"

    wire = compose(replace(REPORT, ret=Ret.FULL), original, now=NOW, report_id="R1")

    assert len(wire) < 5000


def test_an_eight_bit_message_makes_an_eight_bit_report() -> None:
    message = read(replace(REPORT, ret=Ret.FULL), ORIGINAL + b"gr\xc3\xbc\xc3\x9fe\r\n")

    assert message["Content-Transfer-Encoding"] == "8bit"
    assert parts(message)[2]["Content-Transfer-Encoding"] == "8bit"


def test_foreign_letters_are_encoded_for_an_ascii_sender() -> None:
    recipient = ReportedRecipient("jürgen+x@example.net", "5.1.1", "smtp;550 unbekannt: jürgen")
    report = replace(REPORT, recipients=(recipient,))
    wire = compose(report, "Subject: grüße\r\n\r\n".encode(), now=NOW, report_id="R1")

    assert wire.isascii()
    message = read(report, "Subject: grüße\r\n\r\n".encode())
    assert status_groups(message)[1]["Final-Recipient"] == r"utf-8;j\x{FC}rgen\x{2B}x@example.net"
    assert "jürgen" in parts(message)[0].get_content()
    assert parts(message)[2]["Content-Transfer-Encoding"] == "quoted-printable"


def test_an_internationalised_sender_gets_the_types_of_rfc_6533() -> None:
    recipient = ReportedRecipient(
        "jürgen@example.net", "5.1.1", "smtp;550 nein", orcpt="utf-8;jürgen@example.net"
    )
    report = replace(REPORT, originator="grün@example.com", recipients=(recipient,))

    wire = compose(report, "Subject: grüße\r\n\r\n".encode(), now=NOW, report_id="R1")

    assert report.is_utf8
    assert "To: <grün@example.com>\r\n".encode() in wire
    assert b"Content-Type: message/global-delivery-status\r\n" in wire
    assert b"Content-Type: message/global-headers\r\n" in wire
    assert "Final-Recipient: utf-8;jürgen@example.net\r\n".encode() in wire
    assert "Original-Recipient: utf-8;jürgen@example.net\r\n".encode() in wire


hostile = st.text(st.sampled_from("a.\r\n\0é;: +="), max_size=30)


@given(hostile, hostile, hostile, st.sampled_from(list(Ret)), st.booleans())
def test_text_from_outside_can_not_break_the_report(
    diagnostic: str, mta: str, address: str, ret: Ret, international: bool
) -> None:
    recipient = ReportedRecipient(address, "5.0.0", diagnostic, mta, diagnostic)
    report = replace(REPORT, recipients=(recipient,), ret=ret, originator="ü@b" if international else "a@b")

    wire = compose(report, b"Subject: x\r\n\r\n..\r\n", now=NOW, report_id="R1")

    assert b"\r\n.\r\n" not in wire
    assert wire.replace(b"\r\n", b"").count(b"\r") == 0
    assert wire.replace(b"\r\n", b"").count(b"\n") == 0
    assert wire.count(b"Final-Recipient:") == 1
    assert max(len(line) for line in wire.split(b"\r\n")) <= 998


@given(st.binary(max_size=60))
def test_any_original_can_be_reported_on(original: bytes) -> None:
    compose(REPORT, original, now=NOW, report_id="R1")


def test_the_border_between_parts_never_occurs_in_the_message() -> None:
    message = read(replace(REPORT, ret=Ret.FULL), ORIGINAL + b"--=_report.R1--\r\n")

    assert len(parts(message)) == 3


@pytest.mark.parametrize(
    ("notify", "due"),
    [
        (0, {Action.FAILED}),
        (Notify.NEVER, set()),
        (Notify.FAILURE, {Action.FAILED}),
        (Notify.DELAY, {Action.DELAYED}),
        (Notify.SUCCESS, {Action.RELAYED}),
        (Notify.SUCCESS | Notify.FAILURE, {Action.FAILED, Action.RELAYED}),
    ],
)
def test_a_report_is_due_when_the_sender_asked(notify: int, due: set[Action]) -> None:
    assert {action for action in Action if is_due(action, notify)} == due


# -- the operator's own words ------------------------------------------------------------------------------

WORDING = Wording(
    sender="Post <post@example.com>",
    failed_sender="Returns of ${hostname} <returns@example.com>",
    failed_subject="Undelivered: ${subject}",
    failed_body="Hello ${originator},\n${recipient} said: ${response}\nTried for ${bounceAfter}. ${nobody}\n",
)


def test_the_operators_words_stand_in_failures() -> None:
    message = read(replace(REPORT, wording=WORDING, bounce_after="4d12h"))

    assert message["From"].addresses[0].display_name == "Returns of mta.example.com"
    assert message["From"].addresses[0].addr_spec == "returns@example.com"
    assert message["Subject"] == "Undelivered: hello"
    assert parts(message)[0].get_content().splitlines() == [
        "Hello alice@example.com,",
        "bob@example.net said: 550 5.1.1 <bob@example.net>: user unknown",
        "Tried for 4d12h. ",
    ]
    assert parts(message)[1].get_content_type() == "message/delivery-status"


def test_other_reports_have_the_general_sender_and_our_words() -> None:
    message = read(replace(REPORT, action=Action.DELAYED, wording=WORDING, retry_until=NOW + 60))

    assert message["From"] == "Post <post@example.com>"
    assert message["Subject"] == "Your message is delayed"


def test_foreign_letters_in_the_operators_words_are_encoded() -> None:
    wording = Wording(
        failed_sender="Zustellfehler für ${hostname} <returns@example.com>",
        failed_subject="Nicht zustellbar: „${subject}“",
        failed_body="Größe\n" + "x" * 3000,
    )
    wire = compose(replace(REPORT, wording=wording), ORIGINAL, now=NOW, report_id="R1")
    message = read(replace(REPORT, wording=wording))

    assert wire.isascii()
    assert max(map(len, wire.split(b"\r\n"))) <= 998
    assert message["From"].addresses[0].display_name == "Zustellfehler für mta.example.com"
    assert message["Subject"] == "Nicht zustellbar: „hello“"
    assert parts(message)[0].get_content().splitlines()[0] == "Größe"


@given(st.binary(max_size=300), st.text(max_size=200), st.text(max_size=300))
def test_no_template_and_no_subject_can_break_the_report(subject: bytes, sender: str, template: str) -> None:
    original = b"Subject: " + subject.replace(b"\r", b"").replace(b"\n", b"") + b"\r\n\r\n"
    wording = Wording(sender, sender, "${subject}" + template, template + "${response}${subject}")
    for is_plain in (False, True):
        wire = compose(replace(REPORT, wording=wording, is_plain=is_plain), original, now=NOW, report_id="R1")
        head = wire[: wire.index(b"\r\n\r\n")]
        names = [line.split(b":")[0] for line in head.split(b"\r\n") if not line.startswith((b" ", b"\t"))]
        assert names[:7] == [
            b"From",
            b"To",
            b"Subject",
            b"Date",
            b"Message-ID",
            b"Auto-Submitted",
            b"MIME-Version",
        ]
        assert len(names) == 9


def test_a_plain_report_is_one_text_with_the_header() -> None:
    message = read(replace(REPORT, is_plain=True))

    assert message.get_content_type() == "text/plain"
    text = message.get_content()
    assert "<bob@example.net>" in text
    assert "Subject: hello" in text
    assert "body" not in text


def test_what_variables_bring_is_not_looked_at_again() -> None:
    assert fill("${subject} ${x}$", {"subject": "${hostname}", "hostname": "h"}) == "${hostname} $"
    assert unknown_variables("${subject} ${x} ${y}") == ["x", "y"]
