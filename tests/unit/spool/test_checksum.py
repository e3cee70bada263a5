from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.spool.checksum import crc32, crc32_of


@given(st.binary(max_size=300), st.integers(0, 20_000), st.integers(0, (1 << 32) - 1))
def test_the_spool_checks_octets_of_any_length_with_the_figures_of_zlib(
    data: bytes, more: int, before: int
) -> None:
    whole = data + b"x" * more + data
    assert crc32(whole) == zlib.crc32(whole)
    assert crc32(memoryview(whole)[1:], before) == zlib.crc32(whole[1:], before)


def test_what_is_written_with_one_checksum_is_sound_for_the_other() -> None:
    by_isal = pytest.importorskip("isal.isal_zlib").crc32
    by_zlib = crc32_of(["a module that nobody has", "zlib"])
    assert by_zlib is zlib.crc32
    data = bytes(range(256)) * 5000
    # Lengths and beginnings on both sides of the widths in which the octets are taken together.
    for start in range(17):
        for size in (*range(300), 1023, 4096, 5119, 5121, 10_240, 1 << 20):
            assert by_isal(data[start : start + size]) == by_zlib(data[start : start + size])


def test_the_checksum_is_that_of_the_first_module_there_is() -> None:
    with pytest.raises(ImportError, match="this one, that one"):
        crc32_of(["this one", "that one"])
    assert crc32_of(["this one", "binascii"])(b"123456789") == 0xCBF43926
