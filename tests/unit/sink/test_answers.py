"""Shares of accepted, deferred and refused recipients."""

from __future__ import annotations

import pytest

from mta.sink.answers import Answers, DomainAnswers


def test_without_shares_everybody_is_accepted() -> None:
    answers = DomainAnswers()

    assert all(answers.verdict() is None for _ in range(100))


def test_shares_are_met_within_one_of_a_hundred() -> None:
    answers = DomainAnswers(defer=0.3, refuse=0.1)

    verdicts = [answers.verdict() for _ in range(100)]

    assert verdicts.count(answers.defer_reply) in (29, 30, 31)
    assert verdicts.count(answers.refuse_reply) in (9, 10, 11)


def test_two_recipients_that_take_turns_are_not_deferred_for_ever() -> None:
    answers = DomainAnswers(defer=0.5)

    verdicts = [answers.verdict() for _ in range(40)]

    assert {None, answers.defer_reply} <= set(verdicts[::2])
    assert {None, answers.defer_reply} <= set(verdicts[1::2])


def test_full_share_hits_every_time() -> None:
    assert all(answers.verdict() for answers in [DomainAnswers(refuse=1.0)] * 50)
    assert all(answers.verdict() for answers in [DomainAnswers(defer=1.0)] * 50)


@pytest.mark.parametrize("shares", [(-0.1, 0.0), (0.0, 1.1), (0.6, 0.6)])
def test_impossible_shares_are_refused(shares: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="shares"):
        DomainAnswers(defer=shares[0], refuse=shares[1])


def test_domains_are_told_apart_in_any_case_and_parents_cover_their_children() -> None:
    answers = Answers(
        DomainAnswers(refuse=1.0),
        {"Good.example": DomainAnswers(), "*.slow.example": DomainAnswers(defer=1.0)},
    )

    assert answers.obtain(b"good.EXAMPLE").verdict() is None
    assert answers.obtain(b"a.b.slow.example").verdict() == DomainAnswers().defer_reply
    assert answers.obtain(b"slow.example").verdict() == DomainAnswers().refuse_reply
    assert answers.obtain(b"other.example") is answers.obtain(b"OTHER.example")


def test_each_domain_counts_for_itself() -> None:
    answers = Answers(named={"*.x.example": DomainAnswers()})

    answers.obtain(b"a.x.example").totals.accepted += 2
    answers.obtain(b"B.x.example").totals.accepted += 1

    assert {name: totals.accepted for name, totals in answers.totals().items()} == {
        "a.x.example": 2,
        "b.x.example": 1,
    }


def test_greylisted_recipient_is_accepted_the_next_time() -> None:
    answers = DomainAnswers(defer=1.0, greylist=True)

    assert answers.verdict(b"a@x") == answers.defer_reply
    assert answers.verdict(b"b@x") == answers.defer_reply
    assert answers.verdict(b"a@x") is None
    assert answers.verdict(b"b@x") is None
