"""The accounting of the kill loop: what counts as lost, and which second copies are rightful."""

from __future__ import annotations

import pytest

from tests.reliability.ledger import WINDOW, Arrival, Cause, Evidence, Kill, Verdict, judge, percentile


def evidence(*names: str, **fields: object) -> Evidence:
    """Recipients that were acknowledged, delivered at second 10 on connection 1, and recorded."""
    found = Evidence(
        offered=set(names),
        acknowledged=set(names),
        arrivals=[Arrival(10.0, name, 1) for name in names],
        opened={1: 9.0, 2: 20.0},
        records=[(kind, name, f"{kind}-{name}") for name in names for kind in ("d", "r")],
    )
    for field, value in fields.items():
        setattr(found, field, value)
    return found


def twice(lead: float, **fields: object) -> Evidence:
    """Delivered `lead` seconds before a kill, and again afterwards."""
    found = evidence("a", kills=[Kill(10.0 + lead, "group", 0.0)])
    found.arrivals.append(Arrival(21.0, "a", 2))
    for field, value in fields.items():
        setattr(found, field, value)
    return found


def test_time_in_which_the_machine_gave_the_worker_no_processor_is_not_held_against_it() -> None:
    def found(waited: float) -> Verdict:
        kill = Kill(10.3, "worker", 10.2, ((9.9, 4.0), (10.1, 4.0), (10.3, 4.0 + waited)))
        return judge(twice(0.3, kills=[kill]))

    assert [one.cause for one in found(0.26).duplicates] == [Cause.STARVED]
    assert found(0.26).figures()["outside, explained by a busy machine"] == 1
    assert [one.cause for one in found(0.24).duplicates] == [Cause.UNEXPLAINED]
    assert Kill(10.3, "worker", 0.0).waited_since(10.0) == 0.0


def test_a_reply_counts_from_when_it_has_left_the_receiver() -> None:
    def found(left: float) -> Cause:
        arrivals = [Arrival(10.0, "a", 1, left), Arrival(21.0, "a", 2, 21.0)]
        return judge(twice(0.2, arrivals=arrivals)).duplicates[0].cause

    assert found(10.16) is Cause.WINDOW
    assert found(10.14) is Cause.UNEXPLAINED

    late = twice(0.2, arrivals=[Arrival(10.0, "a", 1, 10.1), Arrival(21.0, "a", 2, 21.0)])
    late.kills = [Kill(10.2, "worker", 10.05)]
    assert judge(late).duplicates[0].cause is Cause.STALL, "on disk was what was said before it"


def test_a_kill_counts_from_its_signal_and_not_from_when_somebody_looked() -> None:
    def found(struck: float) -> Verdict:
        return judge(twice(0.3, kills=[Kill(10.3, "worker", 0.0, (), struck)]))

    assert [one.cause for one in found(10.04).duplicates] == [Cause.WINDOW]
    assert [round(one.lead, 3) for one in found(10.04).duplicates] == [0.04]
    assert [one.cause for one in found(10.06).duplicates] == [Cause.UNEXPLAINED]


def test_everything_delivered_and_recorded_breaks_no_promise() -> None:
    verdict = judge(evidence("a", "b"))

    assert verdict.breaches() == []
    assert (verdict.acknowledged, verdict.delivered, verdict.share) == (2, 2, 0.0)


def test_acknowledged_and_neither_delivered_nor_bounced_is_lost() -> None:
    found = evidence("a", "b")
    found.arrivals.pop()
    found.records = [row for row in found.records if row[:2] != ("d", "b")]

    assert judge(found).lost == ["b"]
    assert "1 acknowledged and neither delivered nor bounced: b" in judge(found).breaches()


def test_offered_without_an_answer_may_arrive_or_not() -> None:
    found = evidence("a")
    found.offered.add("maybe")
    assert judge(found).breaches() == []

    found.arrivals.append(Arrival(11.0, "maybe", 1))
    found.records.append(("d", "maybe", "1"))
    assert judge(found).breaches() == []


def test_what_nobody_handed_in_is_invented() -> None:
    found = evidence("a")
    found.arrivals.append(Arrival(11.0, "ghost", 1))

    assert judge(found).invented == ["ghost"]


def test_a_refused_recipient_bounces_and_its_sender_hears_of_it() -> None:
    found = Evidence({"x"}, {"x"}, records=[("b", "x", "1"), ("r", "x", "2")], is_refused=lambda name: True)
    assert judge(found).returns_missing == ["x"]

    found.returned = ["x"]
    assert judge(found).breaches() == []
    assert judge(found).bounced == 1


def test_a_bounce_that_no_receiver_asked_for_is_a_breach() -> None:
    found = Evidence({"x"}, {"x"}, records=[("b", "x", "1"), ("r", "x", "2")], returned=["x"])

    assert judge(found).wrongly_bounced == ["x"]


def test_every_delivery_and_every_receipt_has_a_record() -> None:
    found = evidence("a")
    found.records.clear()

    assert judge(found).records_missing == ["d a", "r a"]


def test_a_record_may_be_repeated_with_its_own_id_only() -> None:
    found = evidence("a")
    found.records.append(("d", "a", "d-a"))

    assert judge(found).records_repeated == 1
    assert judge(found).breaches() == []


@pytest.mark.parametrize(
    ("lead", "cause"), [(0.0, Cause.WINDOW), (WINDOW, Cause.WINDOW), (-0.01, Cause.WINDOW)]
)
def test_shortly_before_a_kill_a_second_copy_is_in_the_window(lead: float, cause: Cause) -> None:
    verdict = judge(twice(lead))

    assert [one.cause for one in verdict.duplicates] == [cause]
    assert verdict.breaches() == []


def test_a_reply_that_was_never_read_is_in_flight_however_long_ago_it_was_said() -> None:
    verdict = judge(twice(3.0, unread={1}))

    assert verdict.duplicates[0].cause is Cause.IN_FLIGHT
    assert verdict.duplicates[0].lead == pytest.approx(3.0)


def test_only_the_last_reply_of_a_connection_can_be_in_flight() -> None:
    found = twice(3.0, unread={1})
    found.arrivals.append(Arrival(12.0, "b", 1))
    found.offered.add("b")
    found.records.append(("d", "b", "1"))

    assert judge(found).duplicates[0].cause is Cause.UNEXPLAINED


def test_a_slow_disk_explains_what_it_had_not_taken_yet_and_nothing_before() -> None:
    stalled = twice(0.3, kills=[Kill(10.3, "group", 9.95)])
    assert judge(stalled).duplicates[0].cause is Cause.STALL
    assert judge(stalled).breaches() == []
    assert judge(stalled).figures()["duplicates outside"] == 1

    safe = twice(0.3, kills=[Kill(10.3, "group", 10.1)])
    assert judge(safe).duplicates[0].cause is Cause.UNEXPLAINED
    assert "1 delivered again, unexplained: a 300 ms" in judge(safe).breaches()


def test_without_a_kill_between_the_copies_there_is_no_excuse() -> None:
    assert judge(twice(0.0, kills=[])).duplicates[0].cause is Cause.NO_KILL
    assert judge(twice(0.0, kills=[Kill(30.0, "group", 0.0)])).duplicates[0].cause is Cause.NO_KILL


def test_a_copy_read_after_the_kill_belongs_to_the_kill_that_ended_its_connection() -> None:
    found = twice(-0.5)

    assert judge(found).duplicates[0].role == "group"
    assert judge(found).breaches() == []


def test_a_second_copy_of_what_stood_on_record_is_a_breach() -> None:
    found = twice(0.0)
    found.records.append(("d", "a", "another"))

    assert judge(found).duplicates[0].cause is Cause.RECORDED
    assert judge(found).breaches()


def test_percentiles_of_nothing_are_zero() -> None:
    assert percentile([], 0.99) == 0.0
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile([3.0, 1.0, 2.0], 0.99) == 3.0


def test_with_several_workers_the_kill_that_counts_is_the_one_that_ended_the_connection() -> None:
    """The first kill was another worker's: this connection went on for ten more seconds."""
    found = twice(0.0, closed={1: 19.0})
    found.kills = [Kill(10.01, "worker", 0.0), Kill(19.0, "worker", 0.0)]

    assert [(one.cause, one.lead) for one in judge(found).duplicates] == [(Cause.UNEXPLAINED, 9.0)]


def test_a_connection_that_ended_by_itself_explains_no_second_copy() -> None:
    assert judge(twice(0.01, closed={1: 15.0})).duplicates[0].cause is Cause.NO_KILL


@pytest.mark.parametrize(("promised", "cause"), [(10.5, Cause.HANDOVER), (10.1, Cause.RECORDED)])
def test_a_share_whose_owner_died_before_its_answer_may_come_twice(promised: float, cause: Cause) -> None:
    found = twice(0.2, has_several_workers=True, promised_at={"a": promised})
    found.records.append(("d", "a", "another id"))

    assert judge(found).duplicates[0].cause is cause
