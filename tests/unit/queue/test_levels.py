from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mta.queue.entries import DeferredEntries, ReadyEntries, priority_of
from mta.queue.key import QueueKey
from mta.queue.levels import LeveledEntries
from mta.queue.policy import QueuePolicy, VmtaPolicy
from mta.queue.queue import DeliveryQueue
from mta.queue.rings import LOWER_TURN
from mta.queue.vmta import VmtaState

RECEIVED = 1_700_000_000


def ref(message: int, recipient: int = 0) -> int:
    return message << 16 | recipient


def leveled(*priorities: int) -> LeveledEntries:
    """Messages 1, 2, 3 ... of these priorities."""
    entries = LeveledEntries(ReadyEntries(priorities[0]))
    for message, priority in enumerate(priorities, 1):
        entries.append(ref(message), RECEIVED, 0, priority)
    return entries


def taken(entries: LeveledEntries, count: int) -> list[int]:
    return [entries.take_message(1, {})[0] >> 16 for _ in range(count)]


def queue_of() -> DeliveryQueue:
    vmta = VmtaState("v1", VmtaPolicy(), 1, lambda message: 0)
    return DeliveryQueue(QueueKey("example.com", "v1"), QueuePolicy(), vmta, 1)


def test_the_highest_priority_goes_first_and_equals_in_the_order_they_came() -> None:
    entries = leveled(50, 10, 90, 50, 90)

    assert taken(entries, 5) == [3, 5, 1, 4, 2]
    assert (len(entries), entries.runs, entries.taken) == (0, 0, 5)


def test_one_message_in_ten_comes_from_a_lower_level_and_lower_levels_take_turns() -> None:
    entries = leveled(*[90] * 100, *[50] * 5, *[10] * 5)

    order = taken(entries, 40)

    lower = [place for place, message in enumerate(order, 1) if message > 100]
    assert lower == [LOWER_TURN, 2 * LOWER_TURN, 3 * LOWER_TURN, 4 * LOWER_TURN]
    assert {message <= 105 for message in order if message > 100} == {True, False}


def test_what_the_front_shows_is_what_is_taken() -> None:
    entries = leveled(*[90] * 20, *[50] * 3)

    while entries.runs:
        shown = entries.first()
        assert entries.take_message(1, {}) == [shown]


def test_what_is_put_back_comes_first_in_its_own_level() -> None:
    entries = leveled(50, 90, 50)
    into: dict[int, int] = {}
    entries.take_message(1, into)
    entries.take_message(1, into)

    entries.push_front(ref(1), RECEIVED, 0, priority_of(into[ref(1)]))

    assert [entry.ref >> 16 for entry in entries] == [1, 3]
    assert [priority_of(word) for word in into.values()] == [90, 50]


def test_priorities_survive_a_failure_of_the_queue() -> None:
    entries = leveled(50, 90)
    entries.count_failure()
    into: dict[int, int] = {}

    entries.take_message(1, into)

    assert priority_of(into[ref(2)]) == 90
    assert into[ref(2)] >> 32 & 0xFFFF == 1
    assert [(entry.priority, entry.attempts) for entry in entries] == [(50, 1)]


def test_a_queue_has_levels_only_while_its_recipients_differ() -> None:
    queue = queue_of()
    queue.add_ready(ref(1), RECEIVED, 0, 80)
    assert queue.ready.level == 80

    queue.add_ready(ref(2), RECEIVED, 0)
    assert queue.ready.level == LeveledEntries.level
    queue.ready.take_message(1, {})
    queue.ready.take_message(1, {})

    queue.add_ready(ref(3), RECEIVED, 0)
    assert queue.ready.level == 50
    assert queue.ready.taken == 2


def test_another_priority_keeps_times_and_attempts() -> None:
    queue = queue_of()
    queue.add_ready(ref(1), RECEIVED, 3)
    queue.add_ready(ref(2), RECEIVED, 0)
    queue.defer(ref(3), RECEIVED, 7, RECEIVED + 300)

    assert queue.prioritize({ref(2), ref(3), ref(9)}, 90) == 2
    assert queue.prioritize({ref(2), ref(3), ref(9)}, 90) == 0

    assert [(entry.ref >> 16, entry.attempts, entry.due, entry.priority) for entry in queue.entries()] == [
        (2, 0, 0, 90),
        (1, 3, 0, 50),
        (3, 7, RECEIVED + 300, 90),
    ]
    queue.hurry(RECEIVED + 1)
    assert [entry.ref >> 16 for entry in queue.ready] == [2, 3, 1]


def test_a_deferred_entry_keeps_its_priority_at_the_end_of_a_bucket() -> None:
    deferred = DeferredEntries()
    due = (RECEIVED >> 8 << 8) + 255
    deferred.add(ref(1), due, RECEIVED, 0x7FFF, 100)
    deferred.add(ref(2), due - 255, RECEIVED, 0, 0)

    assert [(entry.due, entry.attempts, entry.priority) for entry in deferred] == [
        (due - 255, 0, 0),
        (due, 0x7FFF, 100),
    ]
    assert deferred.next_due() == due - 255


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("append"), st.integers(1, 4), st.sampled_from([0, 50, 50, 100])),
            st.tuples(st.just("front"), st.integers(1, 4), st.sampled_from([0, 50, 50, 100])),
            st.tuples(st.just("take"), st.integers(1, 3), st.just(0)),
            st.tuples(st.just("old"), st.integers(0, 300), st.just(0)),
        ),
        max_size=300,
    )
)
def test_a_queue_with_priorities_behaves_like_a_list_for_each(steps: list[tuple[str, int, int]]) -> None:
    queue = queue_of()
    model: dict[int, list[tuple[int, int]]] = {}
    for serial, (verb, number, priority) in enumerate(steps):
        level = model.setdefault(priority, [])
        if verb == "append":
            queue.add_ready(ref(number, serial), serial, 0, priority)
            level.append((ref(number, serial), serial))
        elif verb == "front":
            queue.return_ready(ref(number, serial), serial, 0, priority)
            level.insert(0, (ref(number, serial), serial))
        elif verb == "old":
            removed = queue.ready.remove_older(number)
            assert sorted(removed) == sorted(r for rows in model.values() for r, at in rows if at < number)
            model = {name: [row for row in rows if row[1] >= number] for name, rows in model.items()}
        elif queue.ready.runs:
            into: dict[int, int] = {}
            refs = queue.ready.take_message(number, into)
            rows = model[priority_of(into[refs[0]])]
            assert refs == [found for found, _ in rows[: len(refs)]]
            del rows[: len(refs)]
    expected = [row for name in sorted(model, reverse=True) for row in model[name]]
    assert [(entry.ref, entry.received) for entry in queue.ready] == expected
    assert len(queue.ready) == len(expected)
    runs = 0
    for rows in model.values():
        messages = [found >> 16 for found, _ in rows]
        runs += sum(place == 0 or messages[place - 1] != name for place, name in enumerate(messages))
    assert queue.ready.runs == runs
    if expected:
        assert queue.ready.oldest() == min(at for _, at in expected)
