from __future__ import annotations

import itertools
import random

from hypothesis import given
from hypothesis import strategies as st

from mta.spool.record import (
    DATA_START,
    Deferral,
    FileHeader,
    FileKind,
    FileState,
    RecordKind,
    body_check,
    encode_accept,
    encode_deferral,
    encode_end,
    encode_record,
    event_of,
    record_mark,
    sound_events,
)
from mta.spool.scan import HOLE, Found, Scanner

HEADER = FileHeader(FileKind.ACCEPT, FileState.IN_USE, 5, 0xABCD1234, 1, 1 << 20)


def accept(message: int, body: bytes, header: FileHeader = HEADER) -> bytes:
    check = body_check([body])
    prefix = encode_accept(
        header.salt, header.number, RecordKind.ACCEPT, 1, message, b"env", len(body), check
    )
    return prefix + body


def settle(message: int, event: bytes = b"event", header: FileHeader = HEADER) -> bytes:
    return encode_record(header.salt, header.number, RecordKind.SETTLE, 0, message, event)


def scan(data: bytes, *, bodies: bool = True, limit: int | None = None) -> tuple[list[Found], Scanner]:
    file = bytes(DATA_START) + data
    scanner = Scanner(
        lambda length, at: file[at : at + length],
        HEADER,
        limit if limit is not None else len(file),
        bodies=bodies,
    )
    return list(scanner), scanner


def messages(found: list[Found]) -> list[int]:
    return [one[3] for one in found if one[0] != HOLE]


def test_records_come_in_order_until_the_zeros() -> None:
    found, scanner = scan(accept(1, b"one") + settle(2) + accept(3, b"") + bytes(5000))

    assert messages(found) == [1, 2, 3]
    assert not scanner.is_sealed
    assert scanner.end == DATA_START + len(accept(1, b"one") + settle(2) + accept(3, b""))


def test_nothing_behind_the_end_record_counts() -> None:
    at = DATA_START + len(settle(1))
    found, scanner = scan(settle(1) + encode_end(HEADER.salt, HEADER.number, at) + settle(2))

    assert messages(found) == [1]
    assert scanner.is_sealed


def test_a_strayed_head_hides_no_record_that_lies_where_its_body_would_be() -> None:
    head = accept(9, b"x" * 500)[:-500]
    found, _ = scan(head + accept(1, b"one") + accept(2, b"two") + bytes(600), bodies=True)

    assert found[0][0] == HOLE
    assert messages(found) == [1, 2]


def test_an_end_record_in_another_place_is_damage_and_ends_nothing() -> None:
    at = DATA_START + 10 * len(settle(1))
    found, scanner = scan(settle(1) + encode_end(HEADER.salt, HEADER.number, at) + settle(2))

    assert [one[0] for one in found] == [RecordKind.SETTLE, HOLE, RecordKind.SETTLE]
    assert messages(found) == [1, 2]
    assert not scanner.is_sealed


def test_records_of_an_earlier_use_never_reappear() -> None:
    stale = HEADER._replace(number=4, salt=0x1111)
    old = b"".join(accept(message, b"x" * 100, stale) for message in range(100))
    new = accept(200, b"new")

    found, scanner = scan(new + old[len(new) :])

    assert [one[0] for one in found] == [RecordKind.ACCEPT]
    assert scanner.end == DATA_START + len(new)


def test_a_record_forged_inside_a_body_is_not_found_behind_damage() -> None:
    forged = accept(999, b"forged", HEADER._replace(salt=0))
    sound = accept(1, b"good " + forged + b" more")
    damaged = bytes([sound[0] ^ 1]) + sound[1:]

    found, _ = scan(damaged + accept(2, b"two"))

    assert messages(found) == [2]


def test_a_damaged_head_costs_only_its_record() -> None:
    first, second, third = accept(1, b"a" * 50), accept(2, b"b" * 50), accept(3, b"c" * 50)
    damaged = second[:20] + b"\xff" + second[21:]

    found, _ = scan(first + damaged + third)

    assert messages(found) == [1, 3]
    hole = found[1]
    assert (hole[0], hole[1], hole[5]) == (
        HOLE,
        DATA_START + len(first),
        DATA_START + len(first) + len(second),
    )


def test_a_damaged_body_is_a_hole_only_when_bodies_are_checked() -> None:
    sound = accept(1, b"a" * 50)
    data = sound[:-1] + b"!" + accept(2, b"b")

    assert messages(scan(data, bodies=False)[0]) == [1, 2]
    assert messages(scan(data, bodies=True)[0]) == [2]


def test_a_body_larger_than_the_window_is_skipped_and_checked() -> None:
    body = random.Random(1).randbytes(1_000_000)
    data = accept(1, body) + accept(2, b"two")

    assert messages(scan(data, bodies=False)[0]) == [1, 2]
    assert messages(scan(data, bodies=True)[0]) == [1, 2]
    broken = (
        data[:900_000] + b"\0" + data[900_001:] if data[900_000] else data[:900_000] + b"\1" + data[900_001:]
    )
    assert messages(scan(broken, bodies=True)[0]) == [2]


def test_damage_longer_than_the_window_is_passed() -> None:
    data = accept(1, b"one") + b"\xee" * 700_000 + accept(2, b"two")

    assert messages(scan(data)[0]) == [1, 2]


def test_a_file_that_is_shorter_than_it_says_is_read_to_its_end() -> None:
    assert messages(scan(accept(1, b"one"), limit=1 << 20)[0]) == [1]


records = st.lists(
    st.one_of(
        st.builds(accept, st.integers(1, 9), st.binary(max_size=40)),
        st.builds(settle, st.integers(1, 9), st.binary(max_size=40)),
    ),
    min_size=1,
    max_size=6,
)


@given(records, st.data())
def test_a_file_cut_anywhere_gives_the_records_before_the_cut(
    parts: list[bytes], data: st.DataObject
) -> None:
    whole = b"".join(parts)
    cut = data.draw(st.integers(0, len(whole)))
    ends = [DATA_START + sum(map(len, parts[: i + 1])) for i in range(len(parts))]
    complete = sum(end <= DATA_START + cut for end in ends)

    found, scanner = scan(whole[:cut])

    assert len(found) == complete
    assert HOLE not in [one[0] for one in found]
    assert scanner.end == (ends[complete - 1] if complete else DATA_START)


@given(records, st.integers(0, 10_000), st.integers(1, 255))
def test_a_flipped_byte_hits_one_record(parts: list[bytes], place: int, change: int) -> None:
    whole = bytearray(b"".join(parts))
    place %= len(whole)
    whole[place] ^= change
    hit = next(i for i in range(len(parts)) if place < sum(map(len, parts[: i + 1])))

    found, _ = scan(bytes(whole))

    expected = [(one[0], one[3]) for one in scan(b"".join(parts))[0]]
    assert [(one[0], one[3]) for one in found if one[0] != HOLE] == expected[:hit] + expected[hit + 1 :]


@given(st.binary(max_size=3000))
def test_random_bytes_are_no_records(data: bytes) -> None:
    assert scan(data)[0] == []


heads = st.binary(max_size=12).flatmap(
    lambda event: st.sampled_from(
        [
            (RecordKind.SETTLE, event),
            (RecordKind.RECORD, event),
            (RecordKind.DEFER, encode_deferral(Deferral(1, 2.0, 3), event)),
            (RecordKind.DEFER, event),  # too short to be one
        ]
    )
)


@given(
    st.lists(heads, max_size=6),
    st.integers(1, 7),
    st.integers(0, 400),
    st.integers(0, 255),
    st.integers(0, 40),
)
def test_events_read_at_once_are_those_that_the_scanner_finds_before_anything_strange(
    records: list[tuple[int, bytes]], most: int, place: int, flips: int, cut: int
) -> None:
    data = bytearray().join(
        encode_record(HEADER.salt, HEADER.number, kind, 0, number, head)
        for number, (kind, head) in enumerate(records, 1)
    )
    data += encode_end(HEADER.salt, HEADER.number, DATA_START + len(data))
    if place < len(data):
        data[place] ^= flips
    data = data[: len(data) - cut]

    found = scan(bytes(data))[0]
    sound = list(itertools.takewhile(lambda one: one[0] != HOLE, found))
    events, end = sound_events(bytes(data), record_mark(HEADER), most)

    assert events == [event for one in sound[:most] if (event := event_of(one[0], one[4]))]
    assert end == (sound[:most][-1][5] - DATA_START if sound else 0)
