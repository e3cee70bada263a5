"""Leases: never more in sum than the limit, in whatever order things happen; fair; the dead return theirs."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mta.service.leases import LEASE_SECONDS, LeaseBook, fair_parts

HOLDERS = ("w0", "w1", "w2")


@given(
    st.integers(0, 200),
    st.dictionaries(st.sampled_from(HOLDERS), st.integers(0, 300), min_size=1),
    st.integers(1, 5),
    st.integers(0, 9),
)
def test_parts_never_exceed_the_limit_and_are_max_min_fair(
    limit: int, wants: dict[str, int], holders: int, turn: int
) -> None:
    parts = fair_parts(limit, wants, holders, turn)

    assert sum(parts.values()) <= limit
    if sum(wants.values()) <= limit:
        assert all(parts[name] >= wants[name] for name in wants)
    # Nobody who wants more has less than an equal part of what others got beyond theirs.
    short = [name for name in wants if parts[name] < wants[name]]
    for name in short:
        assert all(parts[name] >= parts[other] - 1 for other in wants)


def test_a_limit_that_can_not_be_divided_goes_round() -> None:
    winners = {
        max(parts, key=parts.__getitem__)
        for turn in range(3)
        if (parts := fair_parts(1, {"a": 5, "b": 5, "c": 5}, 3, turn))
    }

    assert winners == {"a", "b", "c"}


def test_what_nobody_wants_is_spread_so_that_the_first_mail_need_not_wait() -> None:
    assert fair_parts(100, {"a": 0, "b": 0}, 2) == {"a": 50, "b": 50}
    assert fair_parts(100, {"a": 100, "b": 0}, 2) == {"a": 100, "b": 0}


def renew(book: LeaseBook, holder: str, holding: int, wanted: int, now: float = 0.0) -> int:
    part = book.renew(holder, {"r": (holding, wanted)}, 2, now)["r"]
    assert part is not None
    return part


def test_a_lease_that_shrinks_counts_until_it_is_given_back() -> None:
    book = LeaseBook(lambda resource: 10)
    assert renew(book, "a", 0, 10) == 10
    assert renew(book, "b", 0, 10) == 0  # a has it all
    assert renew(book, "a", 10, 10) == 5  # told to let go, still has ten open
    assert renew(book, "b", 0, 10) == 0
    assert renew(book, "a", 7, 10) == 5
    assert renew(book, "b", 0, 10) == 3
    assert renew(book, "a", 5, 10) == 5
    assert renew(book, "b", 3, 10) == 5
    assert book.lent("r") == 10


def test_what_a_dead_holder_had_returns_at_once() -> None:
    book = LeaseBook(lambda resource: 10)
    renew(book, "a", 0, 10)
    book.give_back("a")

    assert renew(book, "b", 0, 10) == 10


def test_a_lease_that_is_not_renewed_ends() -> None:
    book = LeaseBook(lambda resource: 10)
    renew(book, "a", 0, 10, now=0.0)

    assert renew(book, "b", 0, 10, now=LEASE_SECONDS - 1) == 0
    assert renew(book, "b", 0, 10, now=LEASE_SECONDS + 1) == 10


def test_without_a_limit_nothing_is_counted() -> None:
    book = LeaseBook(lambda resource: None)

    assert book.renew("a", {"r": (0, 5)}, 2, 0.0) == {"r": None}
    assert book.lent("r") == 0


class Service(RuleBasedStateMachine):
    """Holders that do with their leases what they may; what they have open is what counts."""

    def __init__(self) -> None:
        super().__init__()
        self.limit = 12
        self.book = LeaseBook(lambda resource: self.limit)
        self.cap = dict.fromkeys(HOLDERS, 0)
        self.open = dict.fromkeys(HOLDERS, 0)
        self.now = 0.0

    @rule(holder=st.sampled_from(HOLDERS), wanted=st.integers(0, 30))
    def renew(self, holder: str, wanted: int) -> None:
        holding = max(self.cap[holder], self.open[holder])
        part = self.book.renew(holder, {"r": (holding, wanted)}, len(HOLDERS), self.now)["r"]
        assert part is not None
        self.cap[holder] = part

    @rule(holder=st.sampled_from(HOLDERS), count=st.integers(1, 12))
    def open_some(self, holder: str, count: int) -> None:
        self.open[holder] = max(self.open[holder], min(self.cap[holder], self.open[holder] + count))

    @rule(holder=st.sampled_from(HOLDERS), count=st.integers(1, 12))
    def close_some(self, holder: str, count: int) -> None:
        self.open[holder] = max(0, self.open[holder] - count)

    @rule(holder=st.sampled_from(HOLDERS))
    def die(self, holder: str) -> None:
        self.cap[holder] = self.open[holder] = 0
        self.book.give_back(holder)

    @rule(seconds=st.floats(0.1, 5.0))
    def wait(self, seconds: float) -> None:
        # Everybody renews in time here; that leases end is another test's business.
        self.now += seconds
        for holder in HOLDERS:
            self.renew(holder, self.open[holder])

    @invariant()
    def the_sum_is_kept(self) -> None:
        assert sum(max(self.cap[holder], self.open[holder]) for holder in HOLDERS) <= self.limit


TestService = Service.TestCase
TestService.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
