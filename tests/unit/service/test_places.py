"""Places that are fewer than the workers: never more than there are, and nobody waits for ever."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mta.service.leases import LEASE_SECONDS
from mta.service.places import STANDING_SECONDS, PlaceBook

WORKERS = ("w0", "w1", "w2", "w3")


def renew(book: PlaceBook, worker: str, holding: int, wanted: int, limit: int = 1, now: float = 0.0) -> int:
    return book.renew(worker, {"host": (holding, wanted, limit)}, now)["host"]


def test_the_place_goes_to_who_wants_it_and_the_holder_hears_that_others_wait() -> None:
    book = PlaceBook()

    assert renew(book, "a", 0, 1) == 1
    assert book.calls() == set()
    assert renew(book, "b", 0, 1) == 0
    assert book.calls() == {"a"}
    assert renew(book, "a", 1, 1) == 0  # asked back: still has a connection open
    assert renew(book, "b", 0, 1) == 0
    assert renew(book, "a", 0, 1) == 0  # has let go, and wants it again: behind b
    assert book.calls() == {"b"}
    assert renew(book, "b", 0, 1) == 1
    assert renew(book, "a", 0, 1) == 0


def test_a_place_that_nobody_else_wants_stays_where_it_is() -> None:
    book = PlaceBook()
    renew(book, "a", 0, 1)

    assert [renew(book, "a", 1, 1, now=float(second)) for second in range(5)] == [1] * 5
    assert renew(book, "b", 0, 0) == 0
    assert book.holders("host") == ["a"]


def test_what_is_given_back_is_forgotten() -> None:
    book = PlaceBook()
    renew(book, "a", 0, 1)
    renew(book, "a", 0, 0)

    assert repr(book) == "<PlaceBook 0 places of 0 limits are taken>"


def test_the_place_of_a_dead_worker_goes_to_the_next_at_once() -> None:
    book = PlaceBook()
    renew(book, "a", 0, 1)
    renew(book, "b", 0, 1)
    book.calls()
    book.give_back("a")

    assert book.calls() == {"b"}
    assert renew(book, "b", 0, 1) == 1


def test_who_is_silent_loses_first_the_turn_and_then_the_place() -> None:
    book = PlaceBook()
    renew(book, "a", 0, 1)
    renew(book, "b", 0, 1)

    assert renew(book, "a", 1, 1, now=STANDING_SECONDS + 1) == 1
    assert renew(book, "c", 0, 1, now=STANDING_SECONDS + LEASE_SECONDS) == 0
    assert renew(book, "c", 0, 1, now=STANDING_SECONDS + LEASE_SECONDS + 2) == 1


def test_a_smaller_limit_asks_back_what_is_too_much_and_a_larger_one_gives() -> None:
    book = PlaceBook()
    assert [renew(book, worker, 0, 1, limit=2) for worker in ("a", "b", "c")] == [1, 1, 0]

    assert renew(book, "c", 0, 1, limit=1) == 0
    assert [renew(book, worker, 1, 1, limit=1) for worker in ("a", "b")] == [0, 0]
    assert renew(book, "a", 0, 0, limit=1) == 0
    assert renew(book, "c", 0, 1, limit=1) == 0
    assert renew(book, "c", 0, 1, limit=2) == 1
    assert renew(book, "b", 1, 1, limit=2) == 1


@given(
    limit=st.integers(1, 3),
    workers=st.integers(2, 6),
    fair_turns=st.lists(st.floats(0.0, 20.0), min_size=6, max_size=6),
    seed=st.integers(0, 1 << 30),
)
@settings(max_examples=25, deadline=None)
def test_who_has_mail_gets_a_place_after_at_most_a_fair_turn_of_everybody_before(
    limit: int,
    workers: int,
    fair_turns: list[float],
    seed: int,
) -> None:
    """All have mail without end, ask twice a second, and let go when they are asked and had their turn."""
    order = Random(seed)
    names = [f"w{number}" for number in range(workers)]
    book, now = PlaceBook(), 0.0
    opened: dict[str, float] = {}
    waiting_since = dict.fromkeys(names, 0.0)
    longest = (workers / limit + 1) * (max(fair_turns) + 2.0)
    for _ in range(250):
        order.shuffle(names)
        for name in names:
            if name in opened and now - opened[name] >= fair_turns[int(name[1:])]:
                is_asked_back = renew(book, name, 1, 1, limit, now) == 0
                if is_asked_back:
                    del opened[name]
                    waiting_since[name] = now
            if renew(book, name, int(name in opened), 1, limit, now) and name not in opened:
                opened[name] = now
            assert len(opened) <= limit
            assert name in opened or now - waiting_since[name] <= longest
        now += 0.5


class Service(RuleBasedStateMachine):
    """Workers that do with places what they may; what is open, or may be opened, is what counts."""

    def __init__(self) -> None:
        super().__init__()
        self.limits = [2]  # over time: who has not read the last one yet knows one before
        self.known = dict.fromkeys(WORKERS, 0)
        self.book = PlaceBook()
        self.may = dict.fromkeys(WORKERS, 0)
        self.open = dict.fromkeys(WORKERS, 0)
        self.now = 0.0

    @rule(worker=st.sampled_from(WORKERS), wanted=st.integers(0, 1))
    def renew(self, worker: str, wanted: int) -> None:
        if not (self.open[worker] or wanted):
            self.may[worker] = 0
        holding = max(self.may[worker], self.open[worker])
        wanted = max(wanted, self.open[worker])
        limit = self.limits[self.known[worker]]
        self.may[worker] = renew(self.book, worker, holding, wanted, limit, self.now)

    @rule(worker=st.sampled_from(WORKERS))
    def open_one(self, worker: str) -> None:
        self.open[worker] = max(self.open[worker], self.may[worker])

    @rule(worker=st.sampled_from(WORKERS))
    def close_one(self, worker: str) -> None:
        self.open[worker] = 0

    @rule(worker=st.sampled_from(WORKERS))
    def die(self, worker: str) -> None:
        self.may[worker] = self.open[worker] = 0
        self.book.give_back(worker)

    @rule(limit=st.integers(1, 3))
    def reload(self, limit: int) -> None:
        self.limits.append(limit)

    @rule(worker=st.sampled_from(WORKERS))
    def read_configuration(self, worker: str) -> None:
        self.known[worker] = len(self.limits) - 1

    @rule(seconds=st.floats(0.1, 5.0))
    def wait(self, seconds: float) -> None:
        # Everybody who has something renews in time here; that it ends is another test's business.
        self.now += seconds
        for worker in WORKERS:
            if self.may[worker] or self.open[worker]:
                self.renew(worker, 1)

    @invariant()
    def there_are_no_more_than_the_largest_limit_says(self) -> None:
        taken = sum(max(self.may[worker], self.open[worker]) for worker in WORKERS)
        assert taken <= max(self.limits)


TestService = Service.TestCase
TestService.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
