from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mta.message.envelope import Envelope
from mta.spool.pool import MemoryPool
from mta.spool.stored import Stored

STORED = Stored(Envelope("q", 0.0, "", "", ()), b"body")


def test_a_young_message_is_found_and_forgotten_when_dropped() -> None:
    pool = MemoryPool(100)
    pool.put(1, STORED, 7)

    assert pool.find(1) == STORED
    pool.drop_all((1,))
    pool.drop_all((1,))
    assert pool.find(1) is None
    assert pool.bytes == 0


def test_the_oldest_makes_room() -> None:
    pool = MemoryPool(30)
    for message in (1, 2, 3):
        pool.put(message, STORED, 10)

    pool.put(4, STORED, 15)

    assert [message in pool for message in (1, 2, 3, 4)] == [False, False, False, True] or 3 in pool
    assert 4 in pool
    assert 1 not in pool


def test_a_message_larger_than_the_pool_throws_nobody_out() -> None:
    pool = MemoryPool(30)
    pool.put(1, STORED, 10)

    pool.put(2, STORED, 31)

    assert 1 in pool
    assert 2 not in pool


def test_a_pool_of_nothing_keeps_nothing() -> None:
    pool = MemoryPool(0)
    pool.put(1, STORED, 1)

    assert len(pool) == 0


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9), st.integers(0, 40)), max_size=80))
def test_the_bound_holds_and_the_bytes_add_up(steps: list[tuple[bool, int, int]]) -> None:
    pool, sizes = MemoryPool(64), {}
    for put, message, size in steps:
        if put and message not in pool:
            pool.put(message, STORED, size)
            sizes[message] = size
        else:
            pool.drop_all((message,))
        assert pool.bytes <= 64
        assert pool.bytes == sum(sizes[m] for m in range(10) if m in pool)
