"""Entries beyond the limit of memory wait on a shelf, and nobody can tell from outside."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta.queue.entries import DeferredEntries, ReadyEntries
from mta.queue.key import QueueKey
from mta.queue.parked import ParkedDeferred, ParkedReady
from mta.queue.parking import Park
from mta.queue.policy import QueuePolicy, VmtaPolicy
from mta.queue.reaction import Reaction
from mta.queue.scheduler import Scheduler
from tests.support.memory_shelf import MemoryShelf

KEY = QueueKey("example.com", "v1")
OTHER = QueueKey("example.net", "v1")
NOW = 1_000_000.0
RECEIVED = int(NOW)


def ref(message: int, recipient: int = 0) -> int:
    return message << 16 | recipient


class Desk:
    """A scheduler with a limit, and a count of what waits."""

    def __init__(self, limit: int, policy: QueuePolicy | None = None, *, refuses: int = 0) -> None:
        self.shelf = MemoryShelf(refuses)
        self.limit = limit
        self.waiting = 0
        self.policy = policy or QueuePolicy()
        self.scheduler = Scheduler(
            policies=lambda key: self.policy,
            vmtas=lambda name: VmtaPolicy(),
            total_max_smtp_out=100,
            park=Park(self.shelf, lambda: self.limit, lambda: self.waiting),
        )

    @property
    def in_memory(self) -> int:
        return self.waiting - self.scheduler.parked

    def admit(self, key: QueueKey, messages: range, due: float | None = None) -> None:
        for message in messages:
            self.waiting += 1
            self.scheduler.admit(key, ref(message), NOW, received=NOW, due=due)

    def look(self, now: float = NOW, times: int = 20) -> None:
        for _ in range(times):
            self.scheduler.take(now, 0)

    def deliver(self, now: float = NOW) -> list[int]:
        """Everything that goes out without waiting, in order, over one connection for each queue."""
        messages = []
        for slot in self.scheduler.take(now):
            while refs := self.scheduler.draw(slot, now):
                self.waiting -= len(refs)
                messages += [one >> 16 for one in refs]
                for one in refs:
                    self.scheduler.settle(slot, now, one, Reaction.DELIVERED)
            self.scheduler.release(slot, now)
        return messages


# -- the two forms do the same ----------------------------------------------------------------------------

steps = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 40), st.integers(1, 3)),
        st.tuples(st.just("push_front"), st.integers(0, 5), st.integers(0, 3)),
        st.tuples(st.just("take"), st.integers(1, 3), st.integers(1, 30)),
        st.tuples(st.just("park"), st.integers(1, 8), st.integers(1, 16)),
        st.tuples(st.just("fail"), st.just(0), st.just(0)),
        st.tuples(st.just("older"), st.integers(0, 60), st.just(0)),
        st.tuples(st.just("tired"), st.integers(1, 6), st.just(0)),
        st.tuples(st.just("remove"), st.integers(1, 7), st.just(0)),
        st.tuples(st.just("clear"), st.just(0), st.just(0)),
    ),
    max_size=30,
)


def removed(entries: ReadyEntries | ParkedReady, step: str, number: int, unwanted: set[int]) -> list[int]:
    """What one of the ways to take entries out takes."""
    if step == "older":
        return entries.remove_older(RECEIVED + number)
    if step == "tired":
        return entries.remove_tired(number)
    return entries.remove(unwanted) if step == "remove" else entries.clear()


@settings(max_examples=40, deadline=None)
@given(steps, st.sampled_from([0, 3]))
def test_parked_ready_entries_do_what_plain_ones_do(steps: list[tuple[str, int, int]], refuses: int) -> None:
    plain, parked = ReadyEntries(), ParkedReady(ReadyEntries(), MemoryShelf(refuses))
    message = 0
    for step, first, second in steps:
        if step == "append":
            for _ in range(first):
                message += 1
                for recipient in range(second):
                    for entries in (plain, parked):
                        entries.append(ref(message, recipient), RECEIVED + message % 60, message % 4)
        elif step == "push_front":
            message += 1
            for entries in (plain, parked):
                entries.push_front(ref(message), RECEIVED + first, second)
        elif step == "take":
            taken: list[int] = []
            for _ in range(second):
                into: dict[int, int] = {}
                if not len(parked):
                    break
                refs = parked.take_message(first, into)
                taken += refs
                for one in refs:  # a message that lies across two pieces comes in two parts
                    words: dict[int, int] = {}
                    assert plain.take_message(1, words) == [one]
                    assert words[one] == into[one]
        elif step == "park":
            parked.put_away(first, 1, second)
        elif step == "fail":
            plain.count_failure()
            parked.count_failure()
        else:
            unwanted = {entry.ref for entry in plain if entry.ref >> 16 & first}
            assert sorted(removed(parked, step, first, unwanted)) == sorted(
                removed(plain, step, first, unwanted)
            )
        assert len(parked) == len(plain)
        assert bool(parked.runs) == bool(plain.runs)
        assert parked.taken == plain.taken
        if not refuses:
            assert list(parked) == list(plain)
        assert sorted(parked) == sorted(plain)
        if len(plain):
            assert parked.oldest() == plain.oldest()
            assert parked.received_first() == next(iter(parked)).received


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.integers(0, 5000), st.integers(1, 30)),
            st.tuples(st.just("park"), st.integers(1, 4), st.integers(4, 40)),
            st.tuples(st.just("wait"), st.integers(1, 2000), st.integers(1, 30)),
            st.tuples(st.just("remove"), st.integers(1, 7), st.just(0)),
        ),
        max_size=30,
    ),
    st.sampled_from([0, 3]),
)
def test_parked_deferred_entries_come_when_plain_ones_do(
    steps: list[tuple[str, int, int]], refuses: int
) -> None:
    plain, parked = DeferredEntries(), ParkedDeferred(DeferredEntries(), MemoryShelf(refuses))
    message, now = 0, RECEIVED
    for step, first, second in steps:
        if step == "add":
            for number in range(second):
                message += 1
                due = now + first + number * first // 7
                for entries in (plain, parked):
                    entries.add(ref(message), due, RECEIVED, number, 50 + number)
        elif step == "park":
            parked.put_away(now, first, second)
        elif step == "wait":
            now += first
            assert sorted(parked.take_due(now)) == sorted(plain.take_due(now))
        else:
            unwanted = {entry.ref for entry in plain if entry.ref >> 16 & first == first}
            assert sorted(parked.remove(unwanted)) == sorted(plain.remove(unwanted))
        assert len(parked) == len(plain)
        assert sorted(parked) == sorted(plain)
        assert (parked.next_due() or 0) == (plain.next_due() or 0)


# -- a limit of memory ------------------------------------------------------------------------------------


def test_what_is_beyond_the_limit_waits_on_the_shelf_and_goes_out_in_order() -> None:
    desk = Desk(limit=100)
    desk.admit(KEY, range(1, 5001))

    desk.look()

    assert desk.in_memory <= 100
    (row,) = desk.scheduler.queues(NOW)
    assert (row.ready, row.waiting) == (5000, 5000)
    assert "5000 recipients are ready" in row.explanation or "Waits" in row.explanation
    assert desk.deliver() == list(range(1, 5001))
    assert desk.scheduler.parked == 0
    assert desk.shelf.pieces == {}


def test_new_mail_stands_behind_what_is_parked() -> None:
    desk = Desk(limit=100)
    desk.admit(KEY, range(1, 301))
    desk.look()
    desk.admit(KEY, range(301, 310))
    assert desk.deliver() == list(range(1, 310))


def test_a_long_queue_leaves_room_for_the_others() -> None:
    desk = Desk(limit=400)
    desk.admit(KEY, range(1, 5001))
    desk.look()
    desk.admit(OTHER, range(6001, 6101))
    desk.look()

    looks = desk.shelf.looks
    slots = {slot.key: slot for slot in desk.scheduler.take(NOW)}
    drawn = [desk.scheduler.draw(slots[OTHER], NOW)[0] >> 16 for _ in range(100)]

    assert drawn == list(range(6001, 6101))
    assert desk.shelf.looks == looks, "the short queue had to be read"
    assert desk.scheduler.draw(slots[KEY], NOW) == [ref(1)]


def test_a_queue_whose_recipients_are_nearly_all_parked_does_not_starve() -> None:
    desk = Desk(limit=1)
    for number in range(50):
        desk.admit(QueueKey(f"d{number}.example", "v1"), range(number * 1000 + 1, number * 1000 + 201))
    desk.look()
    assert desk.in_memory <= 50 * 32

    delivered = [message for _ in range(3) for message in desk.deliver()]

    assert sorted(delivered) == [n * 1000 + m for n in range(50) for m in range(1, 201)]
    for number in range(50):
        mine = [message for message in delivered if message // 1000 == number]
        assert mine == sorted(mine)


def test_failures_of_the_queue_count_for_parked_recipients() -> None:
    desk = Desk(limit=50, policy=QueuePolicy(retry_after=(10.0,)))
    desk.admit(KEY, range(1, 501))
    desk.look()
    (slot,) = desk.scheduler.take(NOW, 1)
    desk.scheduler.failed(slot, NOW, "connection refused")
    desk.admit(KEY, range(501, 503))

    attempts = [entry.attempts for entry in desk.scheduler.entries(KEY)]

    assert attempts == [1] * 500 + [0] * 2


def test_parked_recipients_expire_and_use_up_their_attempts() -> None:
    desk = Desk(limit=50, policy=QueuePolicy(retry_after=(10.0,), bounce_after=1000.0))
    desk.admit(KEY, range(1, 501))
    desk.look()
    desk.admit(KEY, range(501, 503))

    gone = desk.scheduler.expired(NOW + 1001, 10_000)

    assert sorted(one for _, one in gone) == [ref(message) for message in range(1, 503)]
    assert desk.scheduler.parked == 0

    desk = Desk(limit=50, policy=QueuePolicy(retry_after=(10.0,), max_retries=1))
    desk.admit(KEY, range(1, 501))
    desk.look()
    (slot,) = desk.scheduler.take(NOW, 1)
    desk.scheduler.failed(slot, NOW, "connection refused")
    assert len(desk.scheduler.expired(NOW, 10_000)) == 500


def test_recipients_that_wait_for_their_retry_time_are_parked_and_come_when_it_is_due() -> None:
    desk = Desk(limit=100)
    desk.admit(KEY, range(1, 1001), due=NOW + 3600)
    desk.admit(KEY, range(1001, 1101), due=NOW + 60)

    desk.look()

    assert desk.in_memory <= 100
    (row,) = desk.scheduler.queues(NOW)
    assert (row.deferred, row.next_due) == (1100, NOW + 60)
    assert desk.deliver(NOW + 61) == list(range(1001, 1101))
    desk.look(NOW + 62)
    assert desk.scheduler.next_deadline(NOW + 62) == NOW + 3600
    assert desk.deliver(NOW + 3599) == []
    assert sorted(desk.deliver(NOW + 3600)) == list(range(1, 1001))


@pytest.mark.parametrize("due", [None, NOW + 3600])
def test_the_operator_reaches_parked_recipients(due: float | None) -> None:
    desk = Desk(limit=100)
    desk.admit(KEY, range(1, 1001), due=due)
    desk.look()

    assert len(desk.scheduler.entries(KEY)) == 1000
    assert sorted(desk.scheduler.remove(KEY, {ref(5), ref(500), ref(1000)})) == [ref(5), ref(500), ref(1000)]
    assert desk.scheduler.prioritize(KEY, {ref(600)}, 90, NOW) == 1
    desk.scheduler.pause("*/*", NOW)
    assert desk.deliver() == []
    desk.scheduler.resume("*/*", NOW)
    desk.scheduler.schedule_now("*/*", NOW)
    first, *others = desk.deliver()
    assert first == 600
    assert others == [message for message in range(1, 1000) if message not in (5, 500, 600)]


def test_all_of_a_parked_queue_can_be_deleted() -> None:
    desk = Desk(limit=100)
    desk.admit(KEY, range(1, 1001))
    desk.look()
    assert len(desk.scheduler.delete("example.com/*", NOW)) == 1000
    assert desk.shelf.pieces == {}


def test_a_full_disk_leaves_recipients_in_memory() -> None:
    desk = Desk(limit=100, refuses=2)
    desk.admit(KEY, range(1, 1001))
    desk.look()
    desk.limit = 50
    desk.look()
    assert desk.deliver() == list(range(1, 1001))


def test_no_limit_parks_nobody() -> None:
    desk = Desk(limit=0)
    desk.admit(KEY, range(1, 1001))
    desk.look()
    assert desk.scheduler.parked == 0


def test_a_queue_that_has_nothing_parked_any_more_is_as_before() -> None:
    desk = Desk(limit=100)
    desk.admit(KEY, range(1, 1001))
    desk.look()
    queue = desk.scheduler._registry.by_key[KEY]
    assert isinstance(queue.ready, ParkedReady)
    (slot,) = desk.scheduler.take(NOW, 1)
    for _ in range(950):
        for one in desk.scheduler.draw(slot, NOW):
            desk.scheduler.settle(slot, NOW, one, Reaction.DELIVERED)
            desk.waiting -= 1

    desk.look()

    assert isinstance(queue.ready, ReadyEntries)
    assert [desk.scheduler.draw(slot, NOW)[0] >> 16 for _ in range(50)] == list(range(951, 1001))
