"""Abuse of commands, on paper: what is refused, counted and ended; and random sequences against a model."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from mta.errors import SpoolFull
from tests.support.papercall import PaperCall

CLOSED = "always-allow-relaying no"


@pytest.mark.parametrize("octet", [*range(32), 127])
def test_control_characters_are_refused_in_every_command(octet: int) -> None:
    if octet == 10:
        return
    bad = bytes([octet])
    call = PaperCall()
    call.begin()
    call.say(b"RSET\r\nEHLO ok\r\n")
    call.heard()

    call.say(b"EHLO a" + bad + b"b\r\n", b"MAIL FROM:<a" + bad + b"@b.example>\r\n")
    call.say(b"NO" + bad + b"OP\r\n", b"VRFY a" + bad + b"\r\n", b"HELP " + bad + b"\r\n")

    assert call.codes() == ["501"] * 5


def test_line_feed_alone_ends_no_command() -> None:
    call = PaperCall()
    call.heard()

    call.say(b"NOOP\nNOOP\r\n", b"EHLO a\n")

    assert call.codes() == ["500", "250", "500"]


@pytest.mark.parametrize(
    "line",
    [
        b"GET / HTTP/1.1",
        b"POST / HTTP/1.0",
        b"CONNECT mx:25 HTTP/1.1",
        b"OPTIONS * HTTP/1.1",
        b"PROXY TCP4 192.0.2.9 192.0.2.25 1 25",
    ],
)
def test_other_protocols_are_sent_away_at_once(line: bytes) -> None:
    call = PaperCall()
    call.heard()

    call.say(line + b"\r\nHost: mx\r\nMAIL FROM:<a@b.example>\r\n\r\n")

    assert call.codes() == ["421"]
    assert call.transport.is_closed


@pytest.mark.parametrize(
    "line",
    [
        b"XCLIENT ADDR=192.0.2.9",
        b"XFORWARD NAME=x",
        b"TURN",
        b"ETRN @x",
        b"SEND FROM:<a@b>",
        b"SAML FROM:<a@b>",
    ],
)
def test_commands_of_other_servers_are_not_implemented(line: bytes) -> None:
    call = PaperCall()
    call.heard()

    call.say(line + b"\r\n")

    assert call.codes() == ["502"]


def test_recipients_come_before_the_first_chunk() -> None:
    call = PaperCall()
    call.begin()

    call.say(b"BDAT 6\r\nA: b\r\n", b"RCPT TO:<late@d.example>\r\n", b"BDAT 2 LAST\r\n\r\n")

    assert call.codes() == ["250", "503", "250"]
    assert len(call.admitted[0].recipients) == 1


def test_twenty_mistakes_are_forgiven_and_the_next_is_not() -> None:
    call = PaperCall()
    call.heard()

    call.say(b"FROB\r\n" * 30)

    assert call.codes() == ["500"] * 21 + ["421"]
    assert call.transport.is_closed


@pytest.mark.parametrize("command", [b"NOOP", b"RSET", b"HELP", b"VRFY x", b"EHLO x"])
def test_talk_without_mail_ends(command: bytes) -> None:
    call = PaperCall()
    call.heard()

    call.say((command + b"\r\n") * 150)

    codes = call.codes()
    assert codes[-1] == "421"
    assert 100 <= len(codes) <= 102


def test_a_message_wipes_the_slate() -> None:
    call = PaperCall()
    call.say(b"EHLO x\r\n")
    for _ in range(10):
        call.say(b"FROB\r\n" * 15 + b"NOOP\r\n" * 80)
        call.say(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nA: b\r\n\r\n.\r\n")

    assert not call.transport.is_closed
    assert len(call.partition.stored) == 10


@pytest.mark.parametrize("size", [4095, 5000, 12_000])
def test_too_long_command_is_refused_whole(size: int) -> None:
    call = PaperCall()
    call.heard()

    call.say(b"NOOP " + b"x" * size + b"\r\nNOOP\r\n")

    assert call.codes() == ["500", "250"]


def test_recipients_up_to_the_limit_and_not_one_more() -> None:
    call = PaperCall(source="always-allow-relaying yes\nmax-rcpt-per-message 1000")
    call.say(b"EHLO x\r\nMAIL FROM:<a@b.example>\r\n")
    call.heard()

    for number in range(1200):
        call.say(b"RCPT TO:<r%d@d.example>\r\n" % number)
    answers = call.heard()
    assert answers[999] == "250 2.1.5 Recipient OK"
    assert set(answers[1000:]) == {"452 4.5.3 Too many recipients"}
    call.say(b"DATA\r\nA: b\r\n\r\n.\r\n")

    assert len(call.partition.envelopes[0].recipients) == 1000


def test_hundred_thousand_recipients_end_the_connection() -> None:
    call = PaperCall()
    call.say(b"EHLO x\r\nMAIL FROM:<a@b.example>\r\n")
    call.heard()
    for start in range(0, 100_000, 1000):
        call.say(b"".join(b"RCPT TO:<r%d@d.example>\r\n" % number for number in range(start, start + 1000)))
    codes = call.codes()

    assert codes.count("250") == 50_000
    assert codes[-1] == "421"
    assert len(codes) <= 51_003


def test_relaying_denied_to_many_ends_the_connection() -> None:
    call = PaperCall(source=CLOSED)
    call.say(b"EHLO x\r\nMAIL FROM:<>\r\n")
    call.heard()
    call.say(b"RCPT TO:<x@d.example>\r\n" * 2000)
    codes = call.codes()

    assert codes[:1001] == ["550"] * 1001
    assert codes[1001:] == ["421"]


@pytest.mark.parametrize("declared", [b"10", b"99999", b"0"])
def test_declared_size_is_believed_by_nobody(declared: bytes) -> None:
    call = PaperCall(source="always-allow-relaying yes\nmax-message-size 100000")
    call.say(b"EHLO x\r\nMAIL FROM:<a@b.example> SIZE=" + declared + b"\r\nRCPT TO:<c@d.example>\r\nDATA\r\n")
    call.heard()

    call.say(b"A: b\r\n\r\n" + (b"x" * 78 + b"\r\n") * 2000 + b".\r\n")

    assert call.heard() == ["552 5.3.4 Message is larger than the limit"]


LINES = [
    (997, "250"),
    (998, "250"),
    (999, "550"),
    (1000, "550"),
    (1002, "550"),
    (2048, "550"),
    (1_048_576, "550"),
]


@pytest.mark.parametrize(("length", "code"), LINES)
def test_content_lines_have_a_limit(length: int, code: str) -> None:
    call = PaperCall()
    call.begin(data=True)

    call.say(b"A: b\r\n\r\n" + b"x" * length + b"\r\n.\r\n")

    assert call.codes() == [code]


def test_two_mebibytes_of_empty_lines_are_two_mebibytes() -> None:
    call = PaperCall()
    call.begin(data=True)
    for _ in range(32):
        call.say(b"\r\n" * 32_768)
        assert sum(map(len, call.conversation.reader.chunks)) <= 2**21
    call.say(b".\r\n")

    assert call.codes() == ["250"]
    assert call.partition.bodies[0].endswith(b"\r\n" * 2**20)


def test_ten_million_tiny_headers_are_refused() -> None:
    call = PaperCall()
    call.begin(data=True)
    for _ in range(30):
        call.say(b"a:\r\n" * 16_384)
    call.say(b".\r\n")

    assert call.heard() == ["552 5.3.4 Message header is larger than the limit"]


def test_a_loop_is_noticed() -> None:
    call = PaperCall()
    call.begin(data=True)

    call.say(b"Received: from a by b; date\r\n" * 101 + b"A: b\r\n\r\n.\r\n")

    assert call.heard()[0].startswith("554 5.4.6")


def test_eight_bit_content_is_remembered_without_being_declared() -> None:
    call = PaperCall()
    call.begin(data=True)

    call.say(b"A: b\r\n\r\ngr\xc3\xa5\r\n.\r\n")

    assert call.partition.envelopes[0].is_8bit
    assert call.partition.bodies[0].endswith(b"gr\xc3\xa5\r\n")


@pytest.mark.parametrize(
    ("parameters", "is_8bit"), [(b"", False), (b" BODY=7BIT", False), (b" SIZE=8 BODY=8BITMIME", True)]
)
def test_what_mail_says_of_the_body_holds_for_its_message_alone(parameters: bytes, is_8bit: bool) -> None:
    call = PaperCall()
    call.say(b"EHLO client.test\r\n")
    call.heard()
    rest = [b"RCPT TO:<c@d.example>\r\n", b"DATA\r\n", b"A: b\r\n\r\nc\r\n.\r\n"]

    for line in [b"MAIL FROM:<a@b.example>%b\r\n" % parameters, *rest, b"MAIL FROM:<a@b.example>\r\n", *rest]:
        call.say(line)

    assert call.codes() == ["250", "250", "354", "250"] * 2
    assert [envelope.is_8bit for envelope in call.partition.envelopes] == [is_8bit, False]


@pytest.mark.parametrize(("hops", "code"), [(100, "250"), (101, "554")])
def test_the_shortest_hops_count_too(hops: int, code: str) -> None:
    call = PaperCall()
    call.begin(data=True)

    call.say(b"Received:\r\n" * hops + b"\r\n.\r\n")

    assert call.codes() == [code]


SMUGGLERS = [
    b"\n.\n", b"\n.\r", b"\r.\n", b"\r.\r", b"\n.\r\n", b"\r.\r\n", b"\r\n.\n", b"\r\n.\r", b"\r\n\x00.\r\n",
    b"\r\n.\x00\r\n", b"\r\r\n.\r\r\n", b"\r\n\r.\r\n", b"\r\n.\r\r\n", b"\r\x00\n.\r\n",
]  # fmt: skip


@pytest.mark.parametrize("mark", SMUGGLERS)
@pytest.mark.parametrize("size", [1, 5, 4096])
def test_one_message_never_becomes_two(mark: bytes, size: int) -> None:
    inner = b"MAIL FROM:<evil@b.example>\r\nRCPT TO:<victim@d.example>\r\nDATA\r\nA: inner\r\n\r\nx\r\n.\r\n"
    talk = b"A: outer\r\n\r\ntext" + mark + inner
    call = PaperCall()
    call.begin(data=True)

    for position in range(0, len(talk), size):
        call.say(talk[position : position + size])

    assert call.codes()[0] == "550"
    assert call.partition.stored == []


HELLO_NAMES = [b"a b", b"", b"\xc3\xa5", b"x" * 256, b"a\x00b", b"a\tb"]


@pytest.mark.parametrize("name", HELLO_NAMES)
def test_hello_takes_names_that_can_stand_in_a_header(name: bytes) -> None:
    call = PaperCall()
    call.heard()

    call.say(b"EHLO " + name + b"\r\n", b"HELO " + name + b"\r\n")

    assert call.codes() == ["501", "501"]


def test_records_hold_one_line_whatever_the_client_says() -> None:
    call = PaperCall("<acct-file /tmp/a.csv>\nrecords r\n</acct-file>")
    call.say(b'EHLO h"(,;\r\nMAIL FROM:<"q,\\" x"@b.example> ENVID=a+2Cb\r\nRCPT TO:<"r,x"@d.example>\r\n')
    call.say(b"DATA\r\nA: b\r\n\r\n.\r\n")

    event = call.partition.events[0]
    for text in (event.originator, event.recipient, event.source_mta, event.envelope_id):
        assert text.isprintable()
    assert event.envelope_id == "a,b"
    assert event.source_mta == 'h"(,; (192.0.2.1)'


# ---- random sequences against a model


COMMANDS = [
    b"EHLO x", b"HELO x", b"MAIL FROM:<a@b.example>", b"mail from:<>", b"RCPT TO:<c@d.example>",
    b"RCPT TO:<bad", b"DATA", b"RSET", b"NOOP", b"FROB", b"BDAT 3\r\nA\r\n", b"BDAT 3 LAST\r\nA\r\n",
    b"BDAT 0 LAST", b"VRFY x",
]  # fmt: skip


class Model:
    """RFC 5321 4.1.4 and RFC 3030 in a page."""

    def __init__(self) -> None:
        self.hello = self.sender = self.chunking = False
        self.recipients = self.stored = 0

    def answer(self, command: bytes) -> list[str]:
        verb = command[:4].upper()
        if verb in (b"EHLO", b"HELO"):
            self.hello = True
            self.clear()
            return ["250"]
        if verb == b"MAIL":
            if not self.hello or self.sender:
                return ["503"]
            self.sender = True
            return ["250"]
        if verb == b"RCPT":
            if not self.sender or self.chunking:
                return ["503"]
            if command.endswith(b"bad"):
                return ["501"]
            self.recipients += 1
            return ["250"]
        if verb == b"DATA":
            if not self.sender or self.chunking:
                return ["503"]
            if not self.recipients:
                return ["554"]
            self.stored += 1
            self.clear()
            return ["354", "250"]
        if verb == b"BDAT":
            return self.chunk(b"LAST" in command)
        if verb == b"RSET":
            self.clear()
        return {b"FROB": ["500"], b"VRFY": ["252"]}.get(verb, ["250"])

    def chunk(self, is_last: bool) -> list[str]:
        if not self.sender or not self.recipients:
            code = "503" if not self.sender else "554"
            self.clear()
            return [code]
        self.chunking = not is_last
        if is_last:
            self.stored += 1
            self.clear()
        return ["250"]

    def clear(self) -> None:
        self.sender = self.chunking = False
        self.recipients = 0


@examples(max_examples=150)
@given(st.lists(st.sampled_from(COMMANDS), max_size=18), st.lists(st.integers(1, 40), min_size=1, max_size=6))
def test_any_sequence_in_any_segmentation_is_answered_as_the_model_says(
    commands: list[bytes], sizes: list[int]
) -> None:
    model = Model()
    expected: list[str] = []
    talk = b""
    for command in commands:
        answers = model.answer(command)
        expected += answers
        talk += command if command.startswith(b"BDAT 3") else command + b"\r\n"
        if answers[0] == "354":
            talk += b"A: b\r\n\r\n.\r\n"

    for segments in (sizes, [len(talk) or 1]):
        call = PaperCall()
        call.heard()
        position = turn = 0
        while position < len(talk):
            size = segments[turn % len(segments)]
            call.say(talk[position : position + size])
            position += size
            turn += 1

        assert call.codes() == expected
        assert len(call.partition.stored) == model.stored


@given(st.binary(max_size=400), st.integers(1, 100))
def test_any_octets_at_all_are_survived(octets: bytes, size: int) -> None:
    call = PaperCall()
    call.begin()
    for position in range(0, len(octets), size):
        call.say(octets[position : position + size])
    call.hang_up()

    assert not any(reply.startswith("421 4.3.0") for reply in call.heard())
    assert call.reception.receiving == 0
    assert call.reception.guests == set()


def test_each_message_has_the_return_path_that_was_given_for_it() -> None:
    call = PaperCall()
    call.say(b"EHLO client.test\r\n")
    paths = [
        b"<a@b.example>",
        b"<a@b.example>",
        b"<a@b.example> BODY=8BITMIME",
        b"<z@b.example>",
        b"<z@b.example>",
    ]

    for path in [*paths, b"<a@b.example>"]:
        call.say(b"MAIL FROM:" + path + b"\r\n", b"RCPT TO:<c@d.example>\r\n", b"DATA\r\n", b"x\r\n.\r\n")

    told = [(envelope.originator, envelope.is_8bit) for envelope in call.admitted]
    a, z = "a@b.example", "z@b.example"
    assert told == [(a, False), (a, False), (a, True), (z, False), (z, False), (a, False)]


def test_return_path_of_the_last_message_is_looked_at_anew_when_there_was_no_room_for_one() -> None:
    call = PaperCall()
    mail = b"MAIL FROM:<a@b.example>\r\n"
    call.say(b"EHLO client.test\r\n")
    message = (mail, b"RCPT TO:<c@d.example>\r\n", b"DATA\r\n", b"x\r\n.\r\n")
    call.say(*message, *message)
    call.heard()

    call.partition.refuses = SpoolFull("no room")
    call.say(*message)
    call.say(mail)

    assert call.codes() == ["250", "250", "354", "452", "452"]
