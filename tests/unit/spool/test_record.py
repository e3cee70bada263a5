from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.spool.record import (
    ACCEPT_OVERHEAD,
    DATA_START,
    HEADER_COPIES,
    RECORD_SIZE,
    Deferral,
    FileHeader,
    FileKind,
    FileState,
    FormatVersionError,
    RecordKind,
    body_check,
    decode_accept_head,
    decode_deferral,
    decode_file_header,
    encode_accept,
    encode_deferral,
    encode_end,
    encode_file_header,
    encode_record,
    event_of,
    is_sound,
    record_mark,
    unpack_record,
)

HEADER = FileHeader(FileKind.ACCEPT, FileState.IN_USE, 7, 0xCAFE, 42, 1 << 20)

headers = st.builds(
    FileHeader,
    st.sampled_from(FileKind),
    st.sampled_from(FileState),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**48 - 1),
    st.integers(0, 2**48),
)


def page(*copies: bytes) -> bytes:
    found = bytearray(DATA_START)
    for at, copy in zip(HEADER_COPIES, copies, strict=False):
        found[at : at + len(copy)] = copy
    return bytes(found)


@given(headers)
def test_a_file_header_reads_back(header: FileHeader) -> None:
    assert decode_file_header(page(encode_file_header(header))) == header


@given(st.integers(0, 2**48 - 1), st.integers(0, 65535), st.binary(max_size=300))
def test_a_record_reads_back(message: int, recipient: int, head: bytes) -> None:
    record = encode_record(1, 2, RecordKind.SETTLE, recipient, message, head)

    check, salt, number, kind, _, its_recipient, length, its_message = unpack_record(record, 0)
    assert (salt, number, kind, its_recipient, its_message) == (1, 2, RecordKind.SETTLE, recipient, message)
    assert record[RECORD_SIZE : RECORD_SIZE + length] == head
    assert is_sound(record, 0, check, len(record))


@given(st.binary(max_size=60), st.lists(st.binary(max_size=50), max_size=5))
def test_an_accept_record_gives_envelope_and_body_apart(envelope: bytes, body: list[bytes]) -> None:
    size = sum(map(len, body))
    prefix = encode_accept(1, 2, RecordKind.ACCEPT, 3, 4, envelope, size, body_check(body))

    assert len(prefix) == ACCEPT_OVERHEAD + len(envelope)
    its_size, check, its_envelope = decode_accept_head(prefix[RECORD_SIZE:])
    assert (its_size, its_envelope) == (size, envelope)
    assert check == body_check([b"".join(body)])


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_any_changed_byte_of_a_record_is_noticed(place: int, change: int) -> None:
    record = bytearray(encode_record(1, 2, RecordKind.SETTLE, 3, 4, b"an event"))
    record[place % len(record)] ^= change

    check, _, _, _, _, _, length, _ = unpack_record(record, 0)
    end = RECORD_SIZE + length
    assert end > len(record) or not is_sound(record, 0, check, end)


def test_a_damaged_header_copy_is_replaced_by_the_other() -> None:
    good = encode_file_header(HEADER)
    bad = bytes([good[0] ^ 1]) + good[1:]

    assert decode_file_header(page(bad, good)) == HEADER
    assert decode_file_header(page(good, bad)) == HEADER
    assert decode_file_header(page(bad, bad)) is None


def test_of_two_different_copies_the_newer_use_counts() -> None:
    older = HEADER._replace(number=3, state=FileState.FREE)

    assert decode_file_header(page(encode_file_header(HEADER), encode_file_header(older))) == HEADER
    assert decode_file_header(page(encode_file_header(older), encode_file_header(HEADER))) == HEADER


def test_a_half_written_free_mark_counts_as_free() -> None:
    free = HEADER._replace(state=FileState.FREE)

    assert decode_file_header(page(encode_file_header(free), encode_file_header(HEADER))) == free
    assert decode_file_header(page(encode_file_header(HEADER), encode_file_header(free))) == free


def test_another_format_version_is_refused_by_name() -> None:
    from zlib import crc32

    changed = bytearray(encode_file_header(HEADER))
    changed[8] = 99
    changed[40:44] = crc32(bytes(changed[:40])).to_bytes(4, "little")

    with pytest.raises(FormatVersionError, match="version 99"):
        decode_file_header(page(bytes(changed)))


def test_zeros_are_not_a_header() -> None:
    assert decode_file_header(bytes(DATA_START)) is None
    assert decode_file_header(b"") is None


def test_zeros_are_not_a_record() -> None:
    assert unpack_record(bytes(RECORD_SIZE), 0)[3] not in set(RecordKind)


@given(st.integers(0, 2**64 - 1), st.floats(0, 1e12), st.integers(0, 2**32 - 1), st.binary(max_size=20))
def test_a_deferral_reads_back_with_and_without_its_event(
    sequence: int, due: float, attempts: int, event: bytes
) -> None:
    head = encode_deferral(Deferral(sequence, due, attempts), event)

    assert decode_deferral(head) == Deferral(sequence, due, attempts)
    assert event_of(RecordKind.DEFER, head) == event


def test_only_settle_files_hold_events() -> None:
    assert event_of(RecordKind.SETTLE, b"e") == b"e"
    assert event_of(RecordKind.RECORD, b"e") == b"e"
    assert event_of(RecordKind.ACCEPT, b"an envelope") == b""


def test_the_mark_is_what_a_record_carries_behind_its_checksum() -> None:
    assert encode_end(HEADER.salt, HEADER.number, 0)[4:12] == record_mark(HEADER)
