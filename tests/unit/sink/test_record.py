"""The mock receiver's notes."""

from __future__ import annotations

from pathlib import Path

import pytest

from mta.sink.counters import Delivery
from mta.sink.record import Recorder, body_digest, body_of, read_record


def delivery(data: bytes, *recipients: str) -> Delivery:
    return Delivery("1A", "s@example.org", recipients, "127.0.0.2", "me.example", 7, len(data), data, "")


def test_each_recipient_has_a_line_of_its_own(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "record.csv")
    recorder.write(
        delivery(b"Message-Id: <1@x>\r\nA: b\r\n\r\nbody\r\n", "a@example.com", '"b,c"@example.com')
    )
    recorder.close()

    lines = list(read_record(tmp_path / "record.csv"))

    assert [line.recipient for line in lines] == ["a@example.com", '"b,c"@example.com']
    assert lines[0] == (
        "1A",
        "s@example.org",
        "a@example.com",
        "127.0.0.2",
        "me.example",
        7,
        33,
        body_digest(b"body\r\n"),
        "<1@x>",
    )


def test_half_a_last_line_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "record.csv"
    path.write_text(
        "id,sender,recipient,client,greeting,connection,size,digest,messageId\n1,a,b,c,d,1,2,e,f\n2,a,b\n"
    )

    assert [line.id for line in read_record(path)] == ["1"]


@pytest.mark.parametrize(
    ("data", "body"),
    [
        (b"A: b\r\n\r\nx\r\n", b"x\r\n"),
        (b"A: b\r\n\r\n..\r\n...\r\nx..y\r\n", b".\r\n..\r\nx..y\r\n"),
        (b"A: b\r\n\r\n", b""),
        (b"no header end", b""),
    ],
)
def test_body_is_what_the_sender_wrote(data: bytes, body: bytes) -> None:
    assert body_of(data) == body


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (b"A: b\r\nMESSAGE-ID:  <2@x> ", "<2@x>"),
        (b"Message-ID: <3@x>\r\nA: b", "<3@x>"),
        (b"X-Message-ID: <4@x>", ""),
    ],
)
def test_message_id_is_found_wherever_it_stands(tmp_path: Path, header: bytes, found: str) -> None:
    recorder = Recorder(tmp_path / "record.csv")
    recorder.write(delivery(header + b"\r\n\r\nbody\r\n", "a@x"))
    recorder.flush()

    assert next(read_record(tmp_path / "record.csv")).message_id == found
    recorder.close()
