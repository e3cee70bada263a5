"""Our own header lines."""

from __future__ import annotations

from email.utils import parsedate_to_datetime

import pytest

from mta.ingress.stamp import Stamp

NOW = 1_790_000_000.0


def received(**changes: str) -> bytes:
    facts = {
        "helo": "client.test",
        "source_ip": "192.0.2.1",
        "protocol": "ESMTP",
        "queue_id": "QID",
        "recipient": "rcpt@example.net",
    }
    facts.update(changes)
    return Stamp("mx.test").received(**facts, now=NOW)


def test_received_line_says_from_by_with_id_for_and_when() -> None:
    assert received() == (
        b"Received: from client.test ([192.0.2.1])\r\n"
        b"\tby mx.test (mta) with ESMTP id QID\r\n"
        b"\tfor <rcpt@example.net>;\r\n"
        b"\tMon, 21 Sep 2026 14:13:20 +0000\r\n"
    )


def test_source_and_recipient_can_be_left_out() -> None:
    assert received(source_ip="", recipient="") == (
        b"Received: by mx.test (mta) with ESMTP id QID;\r\n\tMon, 21 Sep 2026 14:13:20 +0000\r\n"
    )
    assert b"for" not in received(recipient="gr\u00e5@example.net")


@pytest.mark.parametrize("helo", ["a(b)", "a\r\nX: y", "a;b", "<a>", 'a"b', "\u00e5", "a\x00b"])
def test_what_a_client_calls_itself_cannot_break_the_line(helo: str) -> None:
    line = received(helo=helo)

    assert line.count(b"\r\n") == 4
    assert line.split(b"\r\n")[0].strip(b"Received: from abXy?").startswith(b"([192")


def test_date_is_that_of_the_moment_even_when_time_goes_on() -> None:
    stamp = Stamp("mx.test")

    for now in (NOW, NOW + 0.9, NOW + 1, NOW + 86_400, 0.0):
        assert parsedate_to_datetime(stamp.date(now)).timestamp() == int(now)


def test_date_and_message_id_lines() -> None:
    stamp = Stamp("mx.test")

    assert stamp.date_line(NOW) == b"Date: Mon, 21 Sep 2026 14:13:20 +0000\r\n"
    assert stamp.message_id_line("QID") == b"Message-ID: <QID@mx.test>\r\n"


def test_what_is_remembered_of_one_client_is_not_said_of_another() -> None:
    stamp = Stamp("mx.example")

    def line(helo: str, source_ip: str, protocol: str) -> bytes:
        return stamp.received(
            helo=helo, source_ip=source_ip, protocol=protocol, queue_id="q", recipient="", now=0.0
        )

    clients = [("a", "192.0.2.1", "SMTP"), ("b", "192.0.2.1", "SMTP"), ("a", "", "ESMTP")]
    clients += [(f"h{number}", "192.0.2.1", "SMTP") for number in range(3000)]
    first = [line(*client) for client in clients]

    assert len(set(first)) == len(clients)
    assert [line(*client) for client in clients] == first
