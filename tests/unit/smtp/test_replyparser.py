"""Replies from any bytes in any chunks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.errors import RemoteProtocolError
from mta.smtp.reply import Reply
from mta.smtp.replyparser import (
    MAX_LINE,
    MAX_LINES,
    MAX_TEXT,
    REMEMBERED,
    Phrasebook,
    ReplyParser,
    parse_text,
)


def read(data: bytes) -> list[Reply]:
    return ReplyParser().feed(data)


def read_in_chunks(chunks: list[bytes]) -> tuple[list[Reply], bool]:
    """All replies, and whether the stream broke."""
    parser = ReplyParser()
    replies: list[Reply] = []
    for chunk in chunks:
        try:
            replies += parser.feed(chunk)
        except RemoteProtocolError:
            break
    return replies, parser.broken is not None


def test_one_line_is_one_reply() -> None:
    assert read(b"250 2.1.0 Ok\r\n") == [Reply(250, "2.1.0 Ok", "2.1.0")]


def test_lines_of_one_reply_are_joined_and_the_repeated_enhanced_code_said_once() -> None:
    assert read(b"550-5.1.1 no such user,\r\n550-5.1.1 try again\r\n550 5.1.1 never\r\n") == [
        Reply(550, "5.1.1 no such user, try again never", "5.1.1")
    ]


def test_an_enhanced_code_may_stand_in_the_last_line_only() -> None:
    assert read(b"550-Requested action not taken\r\n550 5.2.1 disabled\r\n")[0].enhanced == "5.2.1"


def test_pipelined_replies_come_out_in_order() -> None:
    replies = read(b"250 a\r\n250-b\r\n250 c\r\n354 d\r\n")

    assert [(reply.code, reply.text) for reply in replies] == [(250, "a"), (250, "b c"), (354, "d")]


def test_a_bare_code_is_a_reply_without_text() -> None:
    assert read(b"250\r\n250 \r\n") == [Reply(250, ""), Reply(250, "")]


def test_lf_alone_ends_a_line() -> None:
    assert read(b"250 a\n250-b\n250 c\n") == [Reply(250, "a"), Reply(250, "b c")]


def test_a_reply_is_not_returned_before_it_is_whole() -> None:
    parser = ReplyParser()

    assert parser.feed(b"250-a\r\n250") == []
    assert not parser.is_idle
    assert parser.feed(b" b\r") == []
    assert parser.feed(b"\n") == [Reply(250, "a b")]
    assert parser.is_idle


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"2",
        b"25",
        b"hello world",
        b"2500 too many digits",
        b"000 x",
        b"099 x",
        b"100 x",
        b"199 x",
        b"600 x",
        b"999 x",
        b" 25 x",
        b"2 0 x",
        b"-25 x",
        b"+25 x",
        b"2_0 x",
        b"250_x",
        b"250\tx",
        b"\xb2\xb5\xb0 x",
        b"\x00250 x",
        b"HTTP/1.1 400 Bad Request",
        b"SSH-2.0-OpenSSH_9.2",
        b"* OK IMAP4rev1 ready",
    ],
)
def test_what_is_no_reply_breaks_the_stream(line: bytes) -> None:
    parser = ReplyParser()

    with pytest.raises(RemoteProtocolError):
        parser.feed(line + b"\r\n")
    with pytest.raises(RemoteProtocolError):
        parser.feed(b"250 ok\r\n")


def test_replies_before_the_breach_are_returned_first() -> None:
    parser = ReplyParser()

    assert parser.feed(b"250 queued\r\ngarbage\r\n250 more\r\n") == [Reply(250, "queued")]
    assert parser.broken is not None


@pytest.mark.parametrize("data", [b"250-yes\r\n550 no\r\n", b"550-no\r\n250 yes\r\n", b"250-a\r\n354 b\r\n"])
def test_a_reply_that_says_yes_and_no_is_an_error(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        read(data)


@pytest.mark.parametrize(
    ("data", "code"),
    [(b"550-a\r\n554 b\r\n", 554), (b"250-a\r\n251 b\r\n", 251), (b"421-a\r\n550 b\r\n", 550)],
)
def test_of_mixed_codes_that_agree_the_last_decides(data: bytes, code: int) -> None:
    assert read(data)[0].code == code


def test_a_line_of_4_kib_passes_and_a_longer_one_does_not() -> None:
    line = b"250 " + b"x" * (MAX_LINE - 4)

    assert len(read(line + b"\r\n")) == 1
    with pytest.raises(RemoteProtocolError, match="line too long"):
        read(line + b"x\r\n")


def test_a_line_without_end_is_given_up_at_the_limit() -> None:
    parser = ReplyParser()
    parser.feed(b"2" * MAX_LINE)

    with pytest.raises(RemoteProtocolError, match="line too long"):
        parser.feed(b"22")


def test_a_reply_of_too_many_lines_is_given_up() -> None:
    parser = ReplyParser()
    parser.feed(b"250-x\r\n" * MAX_LINES)

    with pytest.raises(RemoteProtocolError, match="reply too long"):
        parser.feed(b"250-x\r\n")


def test_a_reply_of_too_many_octets_is_given_up() -> None:
    parser = ReplyParser()
    for _ in range(8):
        parser.feed(b"250-" + b"x" * 4000 + b"\r\n")

    with pytest.raises(RemoteProtocolError, match="reply too long"):
        parser.feed(b"250-" + b"x" * 4000 + b"\r\n")


def test_of_a_long_reply_the_beginning_is_kept() -> None:
    one = read(b"550 5.7.1 " + b"x" * 4000 + b"\r\n")[0]
    many = read((b"550-5.7.1 " + b"y" * 1000 + b"\r\n") * 4 + b"550 5.7.1 z\r\n")[0]

    assert (len(one.text), len(many.text)) == (MAX_TEXT, MAX_TEXT)
    assert one.enhanced == many.enhanced == "5.7.1"


def test_octets_that_are_not_utf8_are_kept_as_escapes() -> None:
    assert read(b"550 caf\xe9 \xff\r\n")[0].text == "caf\\xe9 \\xff"
    assert read("550 café\r\n".encode())[0].text == "café"


def test_control_characters_can_not_leave_the_parser() -> None:
    text = read(b"550 a\x1b[31mred\x00\x07 b\rc\td\r\n")[0].text

    assert text == "a\\x1b[31mred\\x00\\x07 b\\x0dc d"


def test_line_separators_of_unicode_can_not_leave_the_parser() -> None:
    assert parse_text("a\u2028b\u2029c\u202ed".encode()) == "a b c d"


@given(
    st.lists(
        st.tuples(st.integers(200, 599), st.lists(st.text("ab 5.1", max_size=20), min_size=1, max_size=4)),
        max_size=5,
    ),
    st.data(),
)
def test_any_chunking_gives_the_same_replies(
    written: list[tuple[int, list[str]]], data: st.DataObject
) -> None:
    wire = b""
    for code, lines in written:
        for line in lines[:-1]:
            wire += f"{code}-{line}\r\n".encode()
        wire += f"{code} {lines[-1]}\r\n".encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=10)))

    chunks = [wire[a:b] for a, b in zip([0, *cuts], [*cuts, len(wire)], strict=True)]

    assert read_in_chunks(chunks) == read_in_chunks([wire])
    assert [reply.code for reply in read_in_chunks(chunks)[0]] == [code for code, _ in written]


@given(
    st.lists(
        st.sampled_from([b"250 ok", b"250-a", b"550 5.1.1 no", b"\r\n", b"\n", b"\xff", b"9", b"-"])
        | st.binary()
    )
)
def test_any_bytes_in_any_chunks_give_the_same_replies_and_the_same_breach(chunks: list[bytes]) -> None:
    whole = b"".join(chunks)

    assert read_in_chunks(chunks) == read_in_chunks([whole])


@given(st.binary(max_size=200))
def test_text_is_printable_whatever_comes(raw: bytes) -> None:
    assert parse_text(raw).isprintable()


def test_connections_that_share_a_book_get_the_same_replies() -> None:
    book = Phrasebook()
    first, second = ReplyParser(book), ReplyParser(book)
    chunk = b"250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n354 go\r\n"

    first.feed(chunk)
    replies = list(first.feed(chunk))

    assert second.feed(chunk) is first.feed(chunk)
    assert list(second.feed(chunk)) == replies
    assert second.is_idle
    assert second.feed(b"250 2.1.5 Ok\r\n")[0] is replies[1]


def test_a_known_chunk_means_something_else_in_the_midst_of_a_reply() -> None:
    parser = ReplyParser()
    parser.feed(b"250 b\r\n")

    assert parser.feed(b"250-a\r\n") == []
    assert parser.feed(b"250 b\r\n") == [Reply(250, "a b")]
    assert parser.lines == ("a", "b")


def test_a_book_is_bounded() -> None:
    book = Phrasebook()
    parser = ReplyParser(book)
    for number in range(REMEMBERED + 10):
        for _ in range(2):
            parser.feed(b"250 ok %d\r\n" % number)
            parser.feed(b"250 " + b"x" * 200 + b"\r\n")

    assert len(book.lines) == len(book.chunks) == 10
