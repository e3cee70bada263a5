"""Header blocks: found, read and edited without touching a byte that was not asked for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.errors import LocalProtocolError
from mta.message import headers

BLOCK = (
    b"Received: from a by b;\r\n\tSat, 21 Nov 2026 00:00:00 +0000\r\n"
    b"X-Virtual-MTA:  vmta1 \r\n"
    b"Subject: a folded\r\n subject\r\n"
    b"RECEIVED : from c by a\r\n"
    b"To: bob@example.net\r\n"
)

lines = st.lists(
    st.sampled_from(
        [b"Subject: x", b" folded", b"\tfolded", b"no field", b"", b":", b"a b: c", b"..x: y", b"To:b"]
    ),
    max_size=8,
).map(lambda parts: b"".join(part + b"\r\n" for part in parts))
blocks = st.one_of(lines, st.binary(max_size=80))


def test_the_block_ends_before_the_blank_line() -> None:
    message = BLOCK + b"\r\nbody\r\n\r\nmore\r\n"

    end = headers.header_end(message)

    assert message[:end] == BLOCK
    assert message[end:].startswith(b"\r\nbody")


def test_a_message_that_begins_with_a_blank_line_has_an_empty_header() -> None:
    assert headers.header_end(b"\r\nbody\r\n") == 0


def test_a_message_without_a_blank_line_is_all_header() -> None:
    assert headers.header_end(b"Subject: x\r\n") == 12
    assert headers.header_end(b"") == 0


def test_fields_keep_their_folding_and_names_lose_case_and_blanks() -> None:
    found = list(headers.fields(BLOCK))

    assert [field.name for field in found] == [b"received", b"x-virtual-mta", b"subject", b"received", b"to"]
    assert found[2].raw == b"Subject: a folded\r\n subject\r\n"
    assert found[2].value == b"a folded subject"


def test_lines_that_are_no_fields_have_no_name_and_stay() -> None:
    block = b"From alice Sat Nov 21\r\nSubject: x\r\nthis has: a colon\r\n: empty\r\n folded\r\nlast"

    found = list(headers.fields(block))

    assert [field.name for field in found] == [b"", b"subject", b"", b"", b""]
    assert b"".join(field.raw for field in found) == block
    assert found[0].value == b"From alice Sat Nov 21"


@given(blocks)
def test_any_bytes_come_apart_and_together_again(block: bytes) -> None:
    assert b"".join(field.raw for field in headers.fields(block)) == block


@given(blocks, st.sampled_from([b"subject", b"to", b"a", b"missing"]))
def test_lookup_by_offset_agrees_with_the_walk_over_all_fields(block: bytes, name: bytes) -> None:
    walked = [field.value for field in headers.fields(block) if field.name == name]

    assert headers.get_all(block, name) == walked
    assert headers.get(block, name) == (walked[0] if walked else None)
    assert headers.count(block, name) == len(walked)
    assert headers.has(block, name) == bool(walked)


@given(blocks, st.sets(st.sampled_from([b"subject", b"to", b"a"])))
def test_removing_leaves_exactly_the_other_fields(block: bytes, names: set[bytes]) -> None:
    others = b"".join(field.raw for field in headers.fields(block) if field.name not in names)

    assert headers.remove(block, names) == others


@given(blocks)
def test_nothing_to_remove_gives_the_same_object(block: bytes) -> None:
    assert headers.remove(block, (b"x-not-there",)) is block


def test_values_are_unfolded_and_stripped() -> None:
    assert headers.get(BLOCK, b"x-virtual-mta") == b"vmta1"
    assert headers.get(BLOCK, b"subject") == b"a folded subject"
    assert headers.get(BLOCK, b"sub") is None


def test_received_fields_are_counted_in_every_spelling() -> None:
    assert headers.count_received(BLOCK) == 2
    assert headers.count_received(b"Received-SPF: pass\r\nX: received: y\r\n") == 0


def test_removing_takes_whole_folded_fields_and_nothing_else() -> None:
    kept = headers.remove(BLOCK, {b"received", b"subject"})

    assert kept == b"X-Virtual-MTA:  vmta1 \r\nTo: bob@example.net\r\n"


def test_prepended_fields_come_first_in_their_order() -> None:
    assert headers.prepend(b"C: 3\r\n", b"A: 1\r\n", b"B: 2\r\n") == b"A: 1\r\nB: 2\r\nC: 3\r\n"


@pytest.mark.parametrize("value", [b"x\r\nBcc: all", b"x\ny", b"x\ry", b"x\0"])
def test_a_value_can_not_break_out_of_its_field(value: bytes) -> None:
    with pytest.raises(LocalProtocolError, match="Subject"):
        headers.make_field(b"Subject", value)


@given(st.lists(st.from_regex(rb"[!-~]{1,30}", fullmatch=True), max_size=20))
def test_folded_fields_have_short_lines_and_the_same_value(words: list[bytes]) -> None:
    value = b" ".join(words)

    field = headers.make_field(b"Subject", value)

    assert all(len(line) <= 78 for line in field.split(b"\r\n"))
    assert headers.unfold(field.partition(b":")[2]) == value


def test_a_word_longer_than_a_line_stays_whole() -> None:
    word = b"w" * 100

    assert headers.make_field(b"X", word + b" tail") == b"X: " + word + b"\r\n tail\r\n"
    assert headers.make_field(b"X", word) == b"X: " + word + b"\r\n"


def test_trailing_blanks_do_not_become_a_line_of_blanks() -> None:
    field = headers.fold(b"X: " + b"w" * 76 + b"   ")

    assert field == b"X: " + b"w" * 76 + b"   \r\n"
