"""The readers of DATA and BDAT: where content ends, what is refused, and that chunking never matters."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.smtp.data import (
    BARE_LINE_END,
    LINE_TOO_LONG,
    NUL_IN_CONTENT,
    TOO_BIG,
    ChunkReader,
    DataReader,
)
from mta.smtp.reply import Reply

END = b".\r\n"


def read(
    wire: bytes, sizes: list[int] | None = None, *, max_size: int | None = None, max_line: int = 998
) -> tuple[DataReader, bytes]:
    """Feed the wire in pieces of these sizes (the last one repeated); the reader and what it left over."""
    reader = DataReader(max_size, max_line)
    sizes = sizes or [len(wire) or 1]
    position, turn = 0, 0
    while position < len(wire):
        piece = wire[position : position + sizes[min(turn, len(sizes) - 1)]]
        used = reader.feed(piece)
        if used >= 0:
            return reader, wire[position + used :]
        position += len(piece)
        turn += 1
    return reader, b"(unfinished)"


@pytest.mark.parametrize(
    "content", [b"", b"\r\n", b"a\r\n", b"..\r\n", b"a\r\n..b\r\n", b"a: b\r\n\r\ntext\r\n"]
)
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 1000])
def test_content_is_kept_in_wire_form(content: bytes, size: int) -> None:
    reader, left = read(content + END + b"QUIT\r\n"[: 6 if size > 5 else 0], [size])

    assert reader.refusal is None
    assert b"".join(reader.chunks) == content
    assert reader.size == len(content)
    assert left == (b"QUIT\r\n" if size > 5 else b"")


SMUGGLING = [
    b"\n.\n",
    b"\n.\r",
    b"\r.\n",
    b"\r.\r",
    b"\n.\r\n",
    b"\r.\r\n",
    b"\r\n.\n",
    b"\r\n.\r",
    b"\r\n\x00.\r\n",
    b"\r\n.\x00\r\n",
    b"\r\r\n.\r\r\n",
    b"\r\n\r.\r\n",
    b"\n\r\n.\r\r\n",
    b"\r\n.\r\r\n",
    b"\r\x00\n.\r\n",
]


@pytest.mark.parametrize("mark", SMUGGLING)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 10_000])
def test_no_other_mark_ends_a_message_and_its_carrier_is_refused(mark: bytes, size: int) -> None:
    inner = (
        b"MAIL FROM:<evil@example.com>\r\nRCPT TO:<victim@example.net>\r\nDATA\r\n"
        b"Subject: smuggled\r\n\r\nboo\r\n"
    )
    wire = b"Subject: outer\r\n\r\ntext" + mark + inner + END

    reader, left = read(wire, [size])

    assert left == b""
    assert reader.refusal in (BARE_LINE_END, NUL_IN_CONTENT)
    assert reader.chunks == []
    assert reader.held == 0


@pytest.mark.parametrize("size", [1, 2, 10_000])
def test_a_real_end_mark_is_an_end_mark(size: int) -> None:
    reader, left = read(b"a\r\n.\r\nrest", [size])

    assert b"".join(reader.chunks) == b"a\r\n"
    assert left == b"rest" if size == 10_000 else left in (b"rest", b"rest"[1:])


@pytest.mark.parametrize("size", [1, 3, 500, 998, 999, 1000, 5000])
@pytest.mark.parametrize(
    ("line", "refusal"),
    [
        (b"x" * 997, None),
        (b"x" * 998, None),
        (b"." + b"." * 998, None),
        (b"x" * 999, LINE_TOO_LONG),
        (b"x" * 1000, LINE_TOO_LONG),
        (b"." + b"." * 999, LINE_TOO_LONG),
        (b"x" * 2048, LINE_TOO_LONG),
    ],
)
def test_line_limit_is_exact_in_any_chunking(line: bytes, refusal: Reply | None, size: int) -> None:
    for wire in (
        line + b"\r\n",
        b"short\r\n" + line + b"\r\nshort\r\n",
        b"y" * 998 + b"\r\n" + line + b"\r\n",
    ):
        reader, _ = read(wire + END, [size])

        assert reader.refusal is refusal


@pytest.mark.parametrize("size", [1, 2, 3, 10_000])
def test_size_limit_is_exact_in_any_chunking(size: int) -> None:
    fits, _ = read(b"x" * 98 + b"\r\n" + END, [size], max_size=100)
    over, _ = read(b"x" * 99 + b"\r\n" + END, [size], max_size=100)

    assert fits.refusal is None
    assert over.refusal is TOO_BIG


def test_oversized_content_is_dropped_while_it_arrives() -> None:
    reader = DataReader(100_000)

    for _ in range(50):
        assert reader.feed(b"x" * 998 + b"\r\n" + b"y" * 9000) == -1
        assert reader.held <= 100_000
        assert sum(map(len, reader.chunks)) <= 100_000
    assert reader.feed(b"\r\n.\r\n") == 5
    assert reader.refusal in (TOO_BIG, LINE_TOO_LONG)
    assert reader.size > 400_000


def test_octets_one_by_one_are_gathered_from_the_first_on() -> None:
    waiting = DataReader(None)
    for _ in range(2000):
        waiting.feed(b"x")
        assert len(waiting._early or ()) <= 64

    reader, _ = read(b"0123456\r\n" * 20_000 + END, [1])

    assert len(reader.chunks) <= 3
    assert b"".join(reader.chunks) == b"0123456\r\n" * 20_000


def test_reader_starts_afresh() -> None:
    reader, _ = read(b"a\rb\r\n" + END)
    assert reader.refusal is BARE_LINE_END

    reader.clear()

    assert reader.feed(b"c\r\n" + END) == 6
    assert reader.refusal is None
    assert reader.chunks == [b"c\r\n"]


@pytest.mark.parametrize("flawed", [b"a\nb\r\n", b"a\rb\r\n", b"\x00\r\n", b"x" * 999 + b"\r\n"])
def test_a_flaw_is_not_held_against_the_next_message(flawed: bytes) -> None:
    reader = DataReader(None)
    reader.feed(flawed + END)
    assert reader.refusal is not None
    reader.clear()

    reader.feed(b"fine\r\n" + END)

    assert (reader.refusal, reader.chunks) == (None, [b"fine\r\n"])


def test_other_limits_hold_from_the_next_message_on() -> None:
    reader = DataReader(None)
    long, large = b"x" * 60 + b"\r\n", b"y\r\n" * 40
    reader.limit(100, 50)

    refusals = []
    for content in (long, large, b"z" * 50 + b"\r\n"):
        reader.feed(content + END)
        refusals.append(reader.refusal)
        reader.clear()

    assert refusals == [LINE_TOO_LONG, TOO_BIG, None]


def test_high_bits_are_noticed_in_any_chunk() -> None:
    assert not read(b"plain\r\n" + END)[0].is_8bit
    assert read("grå\r\n".encode() + END)[0].is_8bit
    assert read(b"x" * 70 + b"\r\n" + "grå\r\n".encode() + b"tail\r\n" + END, [10])[0].is_8bit


def reference(wire: bytes) -> tuple[Reply | None, bytes, bytes]:
    """What the reader must find, said as simply as possible."""
    at = (b"\r\n" + wire).find(b"\r\n.\r\n")
    content, left = wire[:at], wire[at + 3 :]
    if b"\0" in content:
        return NUL_IN_CONTENT, b"", left
    lines = re.split(rb"(?<=\n)", content)
    for line in lines:
        bare = line.removesuffix(b"\n").removesuffix(b"\r") if line.endswith(b"\n") else line
        if len(bare) - bare.startswith(b".") > 20:
            return LINE_TOO_LONG, b"", left
    if content.replace(b"\r\n", b"").strip(b"\r\n") != content.replace(b"\r\n", b"") or re.search(
        rb"\r(?!\n)|(?<!\r)\n", content
    ):
        return BARE_LINE_END, b"", left
    return None, content, left


ALPHABET = st.sampled_from(
    [b"\r\n", b"\r", b"\n", b".", b"..", b"x", b"xxxxxxxx", b"\0", b"\xe5", b"\r\n.", b".\r"]
)


@given(st.lists(ALPHABET, max_size=30).map(b"".join), st.lists(st.integers(1, 9), min_size=1, max_size=8))
def test_any_chunking_gives_the_same_answer(content: bytes, sizes: list[int]) -> None:
    wire = content + b"\r\n.\r\nREST"
    refusal, expected, left = reference(wire)

    # Whole pieces behind the end belong to the next command; feed one octet at a time near the end instead.
    for pieces in (sizes, [1], [len(wire)]):
        reader, remaining = read(wire, pieces, max_line=20)

        assert remaining == left or len(pieces) > 1 or left.endswith(remaining)
        if refusal is None:
            assert reader.refusal is None
            assert b"".join(reader.chunks) == expected
        else:
            assert reader.refusal is not None


@given(st.lists(st.binary(max_size=40).map(lambda b: re.sub(rb"[\r\n\0]", b"", b)), max_size=20))
def test_stuffed_lines_always_pass_and_never_end_early(lines: list[bytes]) -> None:
    content = b"".join((b"." + line if line.startswith(b".") else line) + b"\r\n" for line in lines)

    for size in (1, 7, 100_000):
        reader, left = read(content + END, [size])
        assert left == b""
        assert reader.refusal is None
        assert b"".join(reader.chunks) == content


def chunked(parts: list[bytes], *, max_size: int | None = None, piece: int = 100_000) -> ChunkReader:
    reader = ChunkReader(max_size)
    for part in parts:
        reader.expect(len(part))
        used = -1 if part else reader.feed(b"")
        for position in range(0, len(part), piece):
            used = reader.feed(part[position : position + piece])
        assert used >= 0
    reader.finish()
    return reader


@given(
    st.lists(st.sampled_from([b".", b"x", b"\r\n", b"\r", b"\n", b".\r\n.", b"a\r\n"]), max_size=20),
    st.integers(1, 5),
)
def test_chunks_become_wire_form(parts: list[bytes], piece: int) -> None:
    content = b"".join(parts)

    reader = chunked(parts, piece=piece)

    if re.search(rb"\r(?!\n)|(?<!\r)\n", content):
        assert reader.refusal is BARE_LINE_END
        return
    stuffed = b"".join(reader.chunks)
    plain = re.sub(rb"(?m)^\.", b"", stuffed)
    assert reader.refusal is None
    assert plain == (content if content.endswith(b"\r\n") or not content else content + b"\r\n")
    assert b"\r\n.\r\n" not in b"\r\n" + stuffed
    assert reader.size == len(stuffed)


def test_announced_size_over_the_limit_is_refused_before_it_arrives() -> None:
    reader = ChunkReader(100)

    reader.expect(101)

    assert reader.refusal is TOO_BIG
    assert reader.feed(b"x" * 50) == -1
    assert reader.feed(b"x" * 51 + b"QUIT") == 51
    assert reader.chunks == []


def test_octets_behind_a_chunk_are_left_over() -> None:
    reader = ChunkReader(None)
    reader.expect(3)

    assert reader.feed(b"a\r\nBDAT 0 LAST\r\n") == 3


@pytest.mark.parametrize("length", [40_000, 65_536, 65_537, 200_000])
@pytest.mark.parametrize("piece", [900, 1448, 30_000])
def test_messages_around_the_size_that_is_checked_as_a_whole_are_kept_in_wire_form(
    length: int, piece: int
) -> None:
    content = (b"x" * 78 + b"\r\n") * (length // 80) + b"y" * (length % 80) + b"\r\n"

    reader, left = read(content + END, [piece])

    assert (reader.refusal, left) == (None, b"")
    assert b"".join(reader.chunks) == content
    assert reader.size == len(content)


@pytest.mark.parametrize("place", [0, 5_000, 70_000])
@pytest.mark.parametrize("flaw", [b"\r", b"\n", b"\0", b"z" * 1000])
def test_a_flaw_is_found_wherever_it_lies(flaw: bytes, place: int) -> None:
    line = b"x" * 78 + b"\r\n"
    content = line * (place // 80) + b"a" + flaw + b"b\r\n" + line * 40

    verdicts = {read(content + END, [piece])[0].refusal for piece in (1, 1448, 30_000, 1 << 20)}

    expected = {b"\r": BARE_LINE_END, b"\n": BARE_LINE_END, b"\0": NUL_IN_CONTENT}
    assert verdicts == {expected.get(flaw, LINE_TOO_LONG)}


def test_pieces_that_were_kept_unchecked_count_as_held_and_are_dropped_on_refusal() -> None:
    reader = DataReader(None)
    reader.feed(b"x" * 500)
    reader.feed(b"x" * 500)
    assert reader.held == 1000

    reader.refuse(TOO_BIG)

    assert reader.held == 0
    assert reader.feed(b"\r\n.\r\n") == 5
    assert reader.refusal is TOO_BIG
    assert reader.chunks == []
