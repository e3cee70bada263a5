from __future__ import annotations

import sys

from hypothesis import given
from hypothesis import strategies as st

from mta.spool.deferrals import Deferrals
from mta.spool.index import Index, Place
from mta.spool.record import Deferral


def filled(*rows: tuple[int, int, int, int, int]) -> Index:
    index = Index()
    index.extend(rows)
    return index


def test_a_message_is_found_where_it_was_put() -> None:
    index = filled((5, 1, 4096, 100, 1), (9, 2, 4096, 200, 1))

    assert index.place(5) == Place(1, 4096, 100)
    assert index.place(9) == Place(2, 4096, 200)
    assert index.place(7) is None
    assert (index.messages, index.recipients, index.bytes) == (2, 2, 300)


def test_the_last_recipient_frees_the_message() -> None:
    index = filled((5, 1, 4096, 100, 3))

    assert index.settle(5, 0) is None
    assert index.settle(5, 2) is None
    assert index.settled_in_part(5) == 0b101
    assert index.is_waiting(5, 1)
    assert index.settle(5, 1) == Place(1, 4096, 100)
    assert (index.messages, index.recipients, index.bytes) == (0, 0, 0)


def test_settling_twice_counts_once() -> None:
    index = filled((5, 1, 4096, 100, 2), (6, 1, 5000, 100, 1))

    assert index.settle(5, 0) is None
    assert index.settle(5, 0) is None
    assert index.waiting(5) == 1
    assert index.settle(6, 0) is not None
    assert index.settle(6, 0) is None
    assert index.recipients == 1


def test_settling_an_unknown_message_does_nothing() -> None:
    assert Index().settle(1, 0) is None


def test_a_settled_message_keeps_its_row_until_its_file_is_dropped() -> None:
    index = filled((5, 1, 4096, 100, 1), (6, 2, 4096, 100, 1))
    index.settle(5, 0)

    assert index.row(5) == 0
    assert index.drop(1, 5, 5) == 0
    assert index.row(5) == -1
    assert index.row(6) == 0


def test_dropping_a_file_leaves_messages_of_other_files_in_its_range() -> None:
    index = filled((1, 1, 0, 10, 1), (2, 2, 0, 10, 1), (3, 1, 0, 10, 1))
    index.settle(1, 0)
    index.settle(3, 0)

    assert index.drop(1, 1, 3) == 0
    assert [index.row(message) for message in (1, 2, 3)] == [-1, 0, -1]


def test_dropping_a_file_with_somebody_waiting_says_how_many_messages_are_lost() -> None:
    index = filled((1, 1, 0, 10, 2))

    assert index.drop(1, 1, 1) == 1
    assert (index.messages, index.recipients, index.bytes) == (0, 0, 0)


def test_a_moved_message_is_read_from_its_new_place() -> None:
    index = filled((1, 1, 0, 10, 1))

    assert index.move(1, 1, 7, 4096, 10)
    assert index.place(1) == Place(7, 4096, 10)
    assert not index.move(1, 1, 8, 0, 10)
    assert index.live_bytes() == {7: 10}


def test_a_settled_message_stays_known_while_an_old_copy_is_on_disk() -> None:
    index = filled((1, 1, 0, 10, 1))
    index.move(1, 1, 7, 4096, 10)
    index.settle(1, 0)

    index.drop(7, 1, 1)
    assert index.row(1) == 0, "file 1 still holds the message: its settle record is needed"
    index.drop(1, 1, 1)
    assert index.row(1) == -1


def test_the_source_of_a_move_may_go_first() -> None:
    index = filled((1, 1, 0, 10, 1))
    index.move(1, 1, 7, 4096, 10)

    assert index.drop(1, 1, 1) == 0
    assert index.place(1) == Place(7, 4096, 10)
    index.settle(1, 0)
    index.drop(7, 1, 1)
    assert len(index) == 0


def test_merging_sorts_and_the_copy_in_the_higher_file_counts() -> None:
    index = filled((5, 1, 0, 10, 1), (6, 1, 10, 10, 2))

    index.merge([(2, 3, 0, 20, 1), (6, 4, 30, 10, 2), (9, 3, 20, 10, 1)])

    assert list(index.all_waiting()) == [2, 5, 6, 9]
    assert index.place(6) == Place(4, 30, 10)
    assert (index.messages, index.recipients, index.bytes) == (4, 5, 50)
    for recipient in (0, 1):
        index.settle(6, recipient)
    index.drop(4, 6, 6)
    assert index.row(6) >= 0, "file 1 still holds the older copy"


def test_ids_of_a_file_are_those_that_wait() -> None:
    index = filled((1, 1, 0, 10, 1), (2, 1, 10, 10, 1), (3, 2, 0, 10, 1), (4, 1, 20, 10, 1))
    index.settle(2, 0)

    assert index.ids(1, 1, 4) == [1, 4]


def test_iterating_survives_messages_that_come_and_go() -> None:
    index = filled((1, 1, 0, 10, 1), (2, 1, 10, 10, 1), (3, 2, 0, 10, 1))

    waiting = index.all_waiting()
    assert next(waiting) == 1
    index.settle(1, 0)
    index.extend([(4, 2, 10, 10, 1)])
    assert list(waiting) == [2, 3]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), max_size=60))
def test_counts_agree_with_a_simple_model(settled: list[tuple[int, int]]) -> None:
    index = filled(*((message, 1 + message // 3, message * 10, 10, 4) for message in range(6)))
    model = {(message, recipient) for message in range(6) for recipient in range(4)}

    for message, recipient in settled:
        index.settle(message, recipient)
        model.discard((message, recipient))

    assert index.recipients == len(model)
    assert index.messages == len({message for message, _ in model})
    for message in range(6):
        for recipient in range(4):
            assert index.is_waiting(message, recipient) == ((message, recipient) in model)


def test_the_latest_deferral_counts_in_any_order() -> None:
    index = filled((1, 1, 0, 10, 2), (2, 1, 10, 10, 1))
    deferrals = Deferrals(index)

    for recipient in (0, 1):
        deferrals.note(1, recipient, Deferral(7, 700.0, 3))
        deferrals.note(1, recipient, Deferral(5, 500.0, 2))
    deferrals.note(99, 0, Deferral(9, 1.0, 1))

    assert deferrals.find(1, 0) == deferrals.find(1, 1) == Deferral(7, 700.0, 3)
    assert deferrals.find(2, 0) is None
    assert deferrals.find(99, 0) is None
    assert deferrals.highest == 9


def test_a_million_waiting_messages_take_less_than_forty_bytes_each() -> None:
    index = Index()
    for message in range(1_000_000):
        index.extend([(message, 1 + message // 10_000, 4096, 500, 1)])

    size = sum(sys.getsizeof(column) for column in index._young.columns())
    assert size / 1_000_000 < 26
    deferrals = Deferrals(index)
    deferrals.note(500_000, 0, Deferral(1, 2.0, 3))
    gathered = (deferrals._sequences, deferrals._dues, deferrals._attempts)
    assert (size + sum(sys.getsizeof(column) for column in gathered)) / 1_000_000 < 44


def test_a_walk_finds_what_waits_while_messages_come_and_go() -> None:
    index = Index()
    for message in range(1, 11):
        index.extend([(message, 1 if message < 6 else 2, message * 100, 50, 2)])
    index.settle(3, 1)
    walk = index.walk()
    first = next(walk)
    for recipient in (0, 1):
        index.settle(2, recipient)
    index.settle(7, 0)
    index.move(8, 2, 3, 4096, 60)
    for message in (4, 5):
        index.settle(message, 0)
        index.settle(message, 1)
    index.extend([(11, 3, 8192, 50, 1)])
    rest = list(walk)

    assert first == (1, (1, 100, 50), 0)
    assert [message for message, _, _ in rest] == [3, 6, 7, 8, 9, 10]
    assert rest[0] == (3, (1, 300, 50), 2)
    assert rest[2] == (7, (2, 700, 50), 1)
    assert rest[3] == (8, (3, 4096, 60), 0)


def test_a_walk_goes_on_when_rows_before_it_are_dropped() -> None:
    index = Index()
    for message in range(1, 7):
        index.extend([(message, 1 if message < 4 else 2, message * 100, 50, 1)])
    walk = index.walk()
    seen = [next(walk)[0]]
    for message in (1, 2, 3):
        index.settle(message, 0)
    index.drop(1, 1, 3)

    assert seen + [message for message, _, _ in walk] == [1, 4, 5, 6]
