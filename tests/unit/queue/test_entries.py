from __future__ import annotations

import tracemalloc
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.queue.entries import DeferredEntries, Entry, ReadyEntries

RECEIVED = 1_700_000_000


def ref(message: int, recipient: int = 0) -> int:
    return message << 16 | recipient


def test_messages_come_out_in_order_with_the_recipients_that_lie_together() -> None:
    ready = ReadyEntries()
    for message, recipient in [(1, 0), (1, 1), (2, 0), (1, 2)]:
        ready.append(ref(message, recipient), RECEIVED, 0)
    assert (len(ready), ready.runs) == (4, 3)

    into: dict[int, int] = {}
    assert ready.take_message(10, into) == [ref(1, 0), ref(1, 1)]
    assert ready.take_message(10, into) == [ref(2, 0)]
    assert ready.take_message(10, into) == [ref(1, 2)]
    assert (len(ready), ready.runs, ready.taken) == (0, 0, 4)
    assert set(into.values()) == {RECEIVED}


def test_a_message_is_split_at_the_limit() -> None:
    ready = ReadyEntries()
    for recipient in range(5):
        ready.append(ref(7, recipient), RECEIVED, 0)

    taken = [ready.take_message(2, {}) for _ in range(3)]

    assert [len(refs) for refs in taken] == [2, 2, 1]
    assert ready.runs == 0


def test_what_is_put_back_comes_first_again() -> None:
    ready = ReadyEntries()
    for message in range(1, 4):
        ready.append(ref(message), RECEIVED, 0)
    ready.take_message(1, {})

    ready.push_front(ref(1), RECEIVED, 3)
    ready.push_front(ref(9), RECEIVED, 1)

    assert ready.runs == 4
    assert [entry.ref >> 16 for entry in ready] == [9, 1, 2, 3]
    assert [entry.attempts for entry in ready] == [1, 3, 0, 0]


@given(
    st.lists(st.tuples(st.integers(1, 3), st.integers(0, 5)), unique=True),
    st.integers(0, 20),
    st.lists(st.tuples(st.integers(3, 6), st.integers(6, 9)), unique=True),
    st.integers(0, 2),
)
def test_what_comes_in_together_waits_as_if_it_had_come_one_by_one(
    before: list[tuple[int, int]], taken: int, fresh: list[tuple[int, int]], failures: int
) -> None:
    together, one_by_one = ReadyEntries(), ReadyEntries()
    for ready in (together, one_by_one):
        for message, recipient in before:
            ready.append(ref(message, recipient), RECEIVED, 0)
        for _ in range(failures):
            ready.count_failure()
        for _ in range(min(taken, len(ready))):
            ready.take_message(1, {})

    together.extend({ref(*place): RECEIVED + place[1] for place in fresh})
    for place in fresh:
        one_by_one.append(ref(*place), RECEIVED + place[1], 0)

    assert list(together) == list(one_by_one)
    assert (together.runs, len(together)) == (one_by_one.runs, len(one_by_one))


def test_a_failure_of_the_queue_counts_for_everybody_who_waits_and_for_nobody_later() -> None:
    ready = ReadyEntries()
    ready.append(ref(1), RECEIVED, 0)
    ready.append(ref(2), RECEIVED, 4)
    ready.count_failure()
    ready.append(ref(3), RECEIVED, 0)

    assert [entry.attempts for entry in ready] == [1, 5, 0]
    into: dict[int, int] = {}
    ready.take_message(1, into)
    assert into[ref(1)] == 1 << 32 | RECEIVED
    assert ready.remove_tired(5) == [ref(2)]
    assert ready.clear() == [ref(3)]
    ready.count_failure()
    ready.append(ref(4), RECEIVED, 0)
    assert [entry.attempts for entry in ready] == [0]


def test_old_entries_can_be_taken_out_from_between_the_others() -> None:
    ready = ReadyEntries()
    for message, received in [(1, 100), (2, 50), (3, 100), (3, 60)]:
        ready.append(ref(message, received), received, 0)

    assert ready.oldest() == 50
    assert ready.remove_older(70) == [ref(2, 50), ref(3, 60)]
    assert ready.runs == 2
    assert ready.received_first() == 100


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("append"), st.integers(1, 4), st.integers(0, 5)),
            st.tuples(st.just("front"), st.integers(1, 4), st.integers(0, 5)),
            st.tuples(st.just("take"), st.integers(1, 3), st.just(0)),
            st.tuples(st.just("fail"), st.just(0), st.just(0)),
        ),
        max_size=300,
    )
)
def test_ready_entries_behave_like_a_list(steps: list[tuple[str, int, int]]) -> None:
    ready, model = ReadyEntries(), list[list[int]]()
    for serial, (verb, number, attempts) in enumerate(steps):
        if verb == "append":
            ready.append(ref(number, serial), RECEIVED, attempts)
            model.append([ref(number, serial), attempts])
        elif verb == "front":
            ready.push_front(ref(number, serial), RECEIVED, attempts)
            model.insert(0, [ref(number, serial), attempts])
        elif verb == "fail":
            ready.count_failure()
            for entry in model:
                entry[1] += 1
        elif model:
            into: dict[int, int] = {}
            taken = ready.take_message(number, into)
            expected = [model.pop(0)]
            while model and len(expected) < number and model[0][0] >> 16 == expected[0][0] >> 16:
                expected.append(model.pop(0))
            assert taken == [entry[0] for entry in expected]
            assert [into[reference] >> 32 for reference in taken] == [entry[1] for entry in expected]

    assert [[entry.ref, entry.attempts] for entry in ready] == model
    runs = sum(index == 0 or entry[0] >> 16 != model[index - 1][0] >> 16 for index, entry in enumerate(model))
    assert (len(ready), ready.runs) == (len(model), runs)


def test_deferred_entries_come_out_at_their_second_and_in_order() -> None:
    deferred = DeferredEntries()
    for message, due in [(1, 1000), (2, 700), (3, 1000), (4, 100_000)]:
        deferred.add(ref(message), due, 500, message)

    assert deferred.next_due() == 700.0
    assert deferred.take_due(699.9) == []
    assert deferred.take_due(700.0) == [Entry(ref(2), 500, 2, 700)]
    assert [entry.ref >> 16 for entry in deferred.take_due(1000.5)] == [1, 3]
    assert (len(deferred), deferred.next_due()) == (1, 100_000.0)
    assert [entry.due for entry in deferred.clear()] == [100_000]
    assert deferred.next_due() is None


@given(
    st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 500)), min_size=1, max_size=300),
    st.lists(st.integers(0, 3500), max_size=20),
)
def test_deferred_entries_behave_like_a_sorted_list(entries: list[tuple[int, int]], times: list[int]) -> None:
    deferred, model, serial = DeferredEntries(), list[tuple[int, int]](), 0
    now = 0
    pending = iter(entries)
    for time in [*sorted(times), 10_000]:
        for due, attempts in (entry for _, entry in zip(range(20), pending, strict=False)):
            serial += 1
            deferred.add(serial << 16, max(due, now), 1, attempts)
            model.append((max(due, now), serial << 16))
        now = time
        due_now = sorted(entry for entry in model if entry[0] <= now)
        model = [entry for entry in model if entry[0] > now]
        taken = deferred.take_due(float(now))
        assert sorted((entry.due, entry.ref) for entry in taken) == due_now
        assert [entry.due for entry in taken] == sorted(entry.due for entry in taken)
        assert len(deferred) == len(model)
        assert deferred.next_due() == min((float(entry[0]) for entry in model), default=None)


@pytest.mark.parametrize("queues", [200, 5000])
def test_a_waiting_recipient_costs_at_most_twenty_bytes(queues: int) -> None:
    """A fifth of the million in the slow test; few large and many small queues."""
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    ready = [ReadyEntries() for _ in range(queues)]
    empty = tracemalloc.get_traced_memory()[0] - before
    count = 200_000
    for number in range(count):
        ready[number % queues].append(number << 16, RECEIVED, 0)
    used = tracemalloc.get_traced_memory()[0] - before - empty
    tracemalloc.stop()

    assert used / count <= 20
    assert array("Q").itemsize == 8
