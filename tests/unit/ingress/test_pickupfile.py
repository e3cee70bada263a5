"""Files of the pickup directory, read."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.ingress.pickupfile import read_pickup

HEADERS = b"x-sender: a@x.org\nx-receiver: b@y.org\nX-Receiver: <c@z.org>\nx-envid: e1\nx-job: j1\n"


def test_headers_name_sender_and_recipients_and_are_taken_out() -> None:
    message = read_pickup(HEADERS + b"Subject: hi\n\n.dot\ntext")

    assert message.originator == "a@x.org"
    assert [address for address, _, _ in message.recipients] == ["b@y.org", "c@z.org"]
    assert (message.envelope_id, message.job_id) == ("e1", "j1")
    assert message.chunks == [b"Subject: hi\r\n\r\n..dot\r\ntext\r\n"]


def test_blank_line_may_follow_our_headers() -> None:
    assert read_pickup(HEADERS + b"\nSubject: hi\n\ntext\n").chunks == [b"Subject: hi\r\n\r\ntext\r\n"]


def test_dots_that_are_doubled_already_stay_so() -> None:
    data = HEADERS + b"Subject: hi\n\n..dot\n.\n"

    assert read_pickup(data, is_stuffed=True).chunks == [b"Subject: hi\r\n\r\n..dot\r\n"]


def test_null_and_overridden_senders() -> None:
    assert read_pickup(b"x-sender: <>\nx-receiver: b@y.org\n\nhi\n").originator == ""
    override = b"x-sender: a@x.org\nx-sender-override: o@x.org\nx-receiver: b@y.org\n\nhi\n"
    assert read_pickup(override).originator == "o@x.org"


def test_batch_is_a_dialogue_without_answers() -> None:
    message = read_pickup(
        b"EHLO here\nMAIL FROM:<a@x.org> RET=FULL ENVID=e\nRCPT TO:<b@y.org> NOTIFY=NEVER\n"
        b"DATA\nSubject: hi\n\n..dot\n.\nQUIT\n"
    )

    assert (message.originator, message.ret, message.envelope_id) == ("a@x.org", 1, "e")
    assert message.recipients == [("b@y.org", 1, "")]
    assert message.chunks == [b"Subject: hi\r\n\r\n..dot\r\n"]


def test_batch_may_be_a_mail_merge() -> None:
    message = read_pickup(
        b"XACK OFF\nXMRG FROM:<a@x.org> VERP\nXDFN n=1 *parts=2\nRCPT TO:<b@y.org>\nRCPT TO:<c@y.org>\n"
        b"XPRT 1\none\n.\nXPRT 2 LAST\n.\n"
    )

    assert (message.is_merge, message.wants_verp, message.chunks) == (True, True, [b"one\r\n", b""])
    assert message.wishes[0].personal is not None
    assert message.wishes[0].personal.parts == (2,)
    assert message.wishes[1].personal is not None
    assert message.wishes[1].personal.variables == {}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"Subject: hi\n\nhi\n",
        b"x-sender: a@x.org\n\nhi\n",
        b"x-receiver: a@x.org\n\nhi\n",
        b"x-sender: a@x.org\nx-receiver: nobody\n\nhi\n",
        b"x-sender: a@x.org\nx-receiver: b@y.org\n\nh\ri\n",
        b"MAIL FROM:<a@x.org>\n",
        b"MAIL FROM:<a@x.org>\nRCPT TO:<b@y.org>\nDATA\nno end\n",
        b"MAIL FROM:<a@x.org>\nRCPT TO:<b@y.org>\nDATA\n.\nMAIL FROM:<a@x.org>\n",
        b"MAIL FROM:<a@x.org>\nDATA\n.\n",
        b"MAIL FROM:<a@x.org> WHAT=1\nRCPT TO:<b@y.org>\nDATA\n.\n",
        b"MAIL FROM:<a@x.org>\nXDFN a=b\nRCPT TO:<b@y.org>\nDATA\n.\n",
        b"XMRG FROM:<a@x.org>\nRCPT TO:<b@y.org>\nDATA\n.\n",
        b"XMRG FROM:<a@x.org>\nRCPT TO:<b@y.org>\nXPRT 2 LAST\n.\n",
        b"XMRG FROM:<a@x.org>\nXDFN *parts=3\nRCPT TO:<b@y.org>\nXPRT 1 LAST\n.\n",
        b"XMRG FROM:<a@x.org>\nXDFN *what=3\nRCPT TO:<b@y.org>\nXPRT 1 LAST\n.\n",
        b"HELO x\nRCPT TO:<b@y.org>\n",
        b"HELO x\nVRFY b\n",
    ],
)
def test_what_is_no_message_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_pickup(data)


@given(st.sampled_from([b"", b"MAIL FROM:<a@x.org>\n", HEADERS, b"XMRG FROM:<a@x.org>\n"]), st.binary())
def test_any_file_is_read_or_refused(start: bytes, rest: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert read_pickup(start + rest).recipients
