from __future__ import annotations

import json

import pytest

from mta.queue.key import QueueKey
from mta.queue.notice import Notice, NoticeKind
from mta.queue.queue import QueueMode
from mta.queue.reaction import Measure, MeasureKind, Reaction
from mta.queue.scheduler import Scheduler
from mta.queue.slot import Slot
from tests.support.scheduling import A, Desk

FIRST, SECOND = "192.0.2.1", "192.0.2.2"
BACKOFF = Measure(MeasureKind.BACKOFF)
NORMAL = Measure(MeasureKind.NORMAL)
DISABLE = Measure(MeasureKind.DISABLE_SOURCE)


class Watched(Desk):
    """A desk that keeps the notices."""

    def __init__(self, **settings: object) -> None:
        super().__init__(**settings)  # type: ignore[arg-type]
        self.notices: list[Notice] = []
        self.scheduler._modes._noticed = self.notices.append

    def told(self) -> list[tuple[str, float, str]]:
        return [(notice.kind.value, notice.at, notice.source_ip) for notice in self.notices]

    def slot(self) -> Slot:
        self.admit(A, 1, 2, 3)
        return self.connect()

    def mode(self, now: float) -> str:
        return next(iter(self.scheduler.queues(now))).mode

    def restarted(self, now: float) -> Scheduler:
        """Another scheduler with the same settings that takes over the state."""
        other = Scheduler(
            policies=lambda key: self.policy, vmtas=lambda name: self.vmta, total_max_smtp_out=100
        )
        other.restore_state(json.loads(json.dumps(self.scheduler.snapshot_state(), allow_nan=False)))
        other.take(now)
        return other


def test_backoff_is_noticed_once_with_its_reason_and_its_end() -> None:
    desk = Watched(backoff_to_normal_after=600.0)
    slot = desk.slot()

    desk.scheduler.apply(slot, 10.0, BACKOFF, "421 slow down")
    desk.scheduler.apply(slot, 20.0, BACKOFF, "421 slow down")
    assert desk.notices == [Notice(NoticeKind.BACKOFF, A, 10.0, "421 slow down", 610.0)]
    desk.scheduler.take(619.0)
    assert desk.mode(619.0) == "backoff"
    desk.scheduler.take(620.0)

    assert desk.mode(620.0) == "normal"
    assert desk.notices[1:] == [Notice(NoticeKind.NORMAL, A, 620.0, "backoff-to-normal-after")]


def test_a_rule_may_end_backoff_and_a_second_end_is_no_news() -> None:
    desk = Watched()
    slot = desk.slot()
    desk.scheduler.apply(slot, 1.0, BACKOFF, "busy")

    desk.scheduler.apply(slot, 2.0, NORMAL, "all is well")
    desk.scheduler.apply(slot, 3.0, NORMAL, "all is well")

    assert desk.told() == [("backoff", 1.0, ""), ("normal", 2.0, "")]


def test_a_delivery_ends_backoff_where_the_configuration_says_so() -> None:
    desk = Watched(backoff_to_normal_after_delivery=True)
    slot = desk.slot()
    desk.scheduler.apply(slot, 1.0, BACKOFF, "busy")
    desk.attempt(slot, 2.0, Reaction.DELIVERED)

    assert [notice.reason for notice in desk.notices] == ["busy", "backoff-to-normal-after-delivery"]


def test_a_disabled_address_comes_back_by_itself() -> None:
    desk = Watched(sources=(FIRST, SECOND), reenable_source_ip_after=300.0)
    slot = desk.slot()
    desk.scheduler.apply(slot, 10.0, DISABLE, "blocked")
    desk.scheduler.apply(slot, 11.0, DISABLE, "blocked")

    desk.scheduler.take(400.0)

    assert desk.told() == [
        ("source-disabled", 10.0, slot.source.ip),
        ("source-enabled", 400.0, slot.source.ip),
    ]
    assert desk.scheduler.disabled_sources(400.0) == []


def test_the_rules_own_length_beats_the_domains() -> None:
    desk = Watched(reenable_source_ip_after=300.0)
    slot = desk.slot()

    desk.scheduler.apply(slot, 10.0, Measure(MeasureKind.DISABLE_SOURCE, 50.0), "blocked")

    assert desk.scheduler.disabled_sources(10.0) == [(str(A), FIRST, 60.0)]
    assert desk.notices[0].until == 60.0


@pytest.mark.parametrize("is_wanted", [True, False])
def test_backoff_when_the_last_source_address_is_disabled(is_wanted: bool) -> None:
    desk = Watched(
        sources=(FIRST, SECOND), backoff_upon_all_sources_disabled=is_wanted, reenable_source_ip_after=None
    )
    desk.admit(A, *range(1, 50))
    first, second = desk.scheduler.take(0.0)[:2]

    desk.scheduler.apply(first, 1.0, DISABLE, "blocked")
    assert desk.mode(1.0) == "normal"
    desk.scheduler.apply(second, 2.0, DISABLE, "blocked")

    assert desk.mode(2.0) == ("backoff" if is_wanted else "normal")
    assert desk.scheduler.next_deadline(3.0) is not None


def test_modes_retry_times_and_disabled_addresses_are_those_from_before_a_restart() -> None:
    desk = Watched(
        sources=(FIRST, SECOND),
        backoff_to_normal_after=600.0,
        backoff_retry_after=(60.0, 120.0, 240.0),
        reenable_source_ip_after=None,
    )
    slot = desk.slot()
    desk.scheduler.apply(slot, 10.0, BACKOFF, "421 slow down")
    desk.scheduler.apply(slot, 10.0, DISABLE, "421 slow down")
    desk.scheduler.failed(slot, 10.0, "421 slow down")

    other = desk.restarted(20.0)

    (row,) = other.queues(20.0)
    assert (row.mode, row.retry_at, row.last_error) == ("backoff", 70.0, "421 slow down")
    assert other.disabled_sources(20.0) == [(str(A), slot.source.ip, float("inf"))]
    assert other.snapshot_state() == desk.scheduler.snapshot_state()
    other.take(610.0)
    assert next(iter(other.queues(610.0))).mode == "normal"


def test_a_step_of_the_retry_list_is_not_forgotten() -> None:
    desk = Watched(retry_after=(10.0, 100.0, 1000.0))
    slot = desk.slot()
    desk.scheduler.failed(slot, 0.0, "no answer")
    other = desk.restarted(5.0)
    other.admit(A, 9 << 16, 10.0, received=10.0)
    (again,) = other.take(10.0)

    assert other.failed(again, 10.0, "no answer") == 110.0


def test_rows_that_make_no_sense_are_skipped() -> None:
    desk = Desk()
    row = {"queue": "x/y", "mode": "backoff", "since": 1, "until": 0, "retryAt": 0, "openAfter": 0}

    desk.scheduler.restore_state({"queues": [{}, {**row, "retryStep": "x"}, {**row, "mode": "odd"}]})
    desk.scheduler.restore_state({"queues": [{**row, "queue": "nonsense", "retryStep": 0}]})
    assert list(desk.scheduler.queues(0.0)) == []
    desk.scheduler.restore_state({"queues": [{**row, "retryStep": 0}]})

    assert [found.key for found in desk.scheduler.queues(0.0)] == [QueueKey("x", "y")]


def test_the_operators_word_is_a_reason_too() -> None:
    desk = Watched()
    desk.slot()

    assert desk.scheduler.set_mode("*/*", QueueMode.BACKOFF, 1.0) == 1
    assert desk.scheduler.set_mode("*/*", QueueMode.NORMAL, 2.0) == 1
    assert [notice.reason for notice in desk.notices] == ["by the operator"] * 2


def test_changes_are_counted_so_that_they_are_kept_when_there_are_some() -> None:
    desk = Watched()
    slot = desk.slot()
    before = desk.scheduler.changes
    desk.attempt(slot, 1.0, Reaction.DELIVERED)
    assert desk.scheduler.changes == before

    desk.scheduler.apply(slot, 1.0, BACKOFF, "busy")
    assert desk.scheduler.changes > before
