from __future__ import annotations

from pathlib import Path

import pytest

from mta.errors import SpoolCorrupt
from mta.spool.heads import HeadReader
from mta.spool.index import Place
from mta.spool.record import FileKind, RecordKind, decode_accept_head, encode_accept
from mta.spool.segment import Segment, SegmentSet
from tests.support.spool import FaultyFiles


@pytest.fixture
def files() -> FaultyFiles:
    return FaultyFiles()


@pytest.fixture
def segment(files: FaultyFiles, tmp_path: Path) -> Segment:
    return SegmentSet(files, tmp_path, FileKind.ACCEPT, (1 << 20, 1 << 20)).obtain(100, 1)[0]


def put(segment: Segment, message: int, envelope: bytes, size: int) -> Place:
    header = segment.header
    prefix = encode_accept(header.salt, header.number, RecordKind.ACCEPT, 1, message, envelope, size, 0)
    at = segment.end
    segment.end = segment.write([prefix, b"b" * size], at)
    return Place(segment.number, at, len(prefix) + size)


def test_many_small_records_cost_few_reads(segment: Segment, files: FaultyFiles) -> None:
    places = [put(segment, message, b"e%d" % message, 50) for message in range(500)]
    heads = HeadReader({segment.number: segment})
    before = files.calls["read"]

    found = [decode_accept_head(heads.read(message, place))[2] for message, place in enumerate(places)]

    assert found == [b"e%d" % message for message in range(500)]
    assert files.calls["read"] - before <= 2


def test_a_head_longer_than_the_probe_is_read_whole(segment: Segment) -> None:
    place = put(segment, 1, b"e" * 20_000, 100_000)

    assert len(decode_accept_head(HeadReader({segment.number: segment}).read(1, place))[2]) == 20_000


def test_another_message_at_the_place_is_damage(segment: Segment) -> None:
    place = put(segment, 1, b"e", 10)
    heads = HeadReader({segment.number: segment})

    with pytest.raises(SpoolCorrupt):
        heads.read(2, place)
    assert heads.read(1, place)


def test_a_file_that_is_gone_is_damage(segment: Segment) -> None:
    with pytest.raises(SpoolCorrupt, match="lost its file"):
        HeadReader({}).read(1, put(segment, 1, b"e", 10))
