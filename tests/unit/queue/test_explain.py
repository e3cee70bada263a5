"""What `mta show queue` says; every sentence names the limit and the time it lifts."""

from __future__ import annotations

from typing import Any

import pytest

from mta.config.units import Rate
from mta.queue.explain import moment
from mta.queue.key import QueueKey
from mta.queue.queue import QueueMode
from mta.queue.reaction import Measure, MeasureKind, Reaction
from tests.support.scheduling import A, B, Desk

NOW = 1_700_000_000.0  # 22:13:20 UTC


def busy_desk(messages: int = 5, **settings: Any) -> Desk:
    desk = Desk(**settings)
    desk.admit(A, *range(1, messages + 1), at=NOW)
    return desk


def test_a_queue_without_mail_says_so() -> None:
    desk = busy_desk(1)
    assert desk.scheduler.explain(QueueKey("x.example", "v1"), NOW) == "Nothing waits."

    slot = desk.connect(NOW)
    desk.scheduler.draw(slot, NOW)
    assert desk.scheduler.explain(A, NOW) == "Sending: 1 recipients are in flight, no other waits."


def test_pause() -> None:
    desk = busy_desk()
    desk.scheduler.pause("*/*", NOW)
    assert desk.scheduler.explain(A, NOW) == "Paused by the operator until it is resumed."


def test_retry_names_the_error_and_the_time() -> None:
    desk = busy_desk(retry_after=(600.0,))
    desk.scheduler.failed(desk.connect(NOW), NOW, "connection refused")
    assert desk.scheduler.explain(A, NOW + 10) == (
        "In retry after 'connection refused': retry-after ends at 22:23:20 UTC, in 590s."
    )


def test_recipients_that_wait_for_themselves() -> None:
    desk = busy_desk(1)
    desk.attempt(desk.connect(NOW), NOW, Reaction.RETRY_RECIPIENT)
    assert desk.scheduler.explain(A, NOW) == (
        "All 1 recipients wait for their retry time, the first at 22:23:20 UTC, in 600s."
    )


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"max_msg_rate": Rate(1, 3600)}, "max-msg-rate 1/h is used up; it lifts at 23:13:20 UTC, in 3600s."),
        (
            {"vmta": {"max_smtp_msg_rate": Rate(1, 60)}},
            "max-smtp-msg-rate 1/m of virtual MTA v1 is used up; it lifts at 22:14:20 UTC, in 60s.",
        ),
        ({"max_smtp_out": 1}, "max-smtp-out 1: all its connections are in use."),
        (
            {"max_connect_rate": Rate(1, 60)},
            "max-connect-rate 1/m is used up; it lifts at 22:14:20 UTC, in 60s.",
        ),
        ({}, "Sending over 1 connections: 4 recipients are ready."),
    ],
)
def test_limits(settings: dict[str, Any], sentence: str) -> None:
    desk = busy_desk(**settings)
    desk.attempt(desk.connect(NOW), NOW, Reaction.DELIVERED)
    assert desk.scheduler.explain(A, NOW) == sentence


def test_backoff_names_its_own_directives() -> None:
    desk = busy_desk(backoff_max_smtp_out=1)
    desk.connect(NOW)
    desk.scheduler.set_mode("a.example/v1", QueueMode.BACKOFF, NOW)
    assert desk.scheduler.explain(A, NOW) == "backoff-max-smtp-out 1: all its connections are in use."


def test_limits_of_others() -> None:
    desk = Desk(total=1)
    desk.admit(A, 1, at=NOW)
    desk.admit(B, 2, at=NOW)
    assert desk.scheduler.explain(B, NOW) == "Waits for its turn to open a connection."
    desk.connect(NOW)
    assert desk.scheduler.explain(B, NOW) == "total-max-smtp-out 1 is used up."

    desk = Desk(vmta={"max_smtp_out": 1})
    desk.admit(A, 1, at=NOW)
    desk.admit(B, 2, at=NOW)
    desk.connect(NOW)
    assert desk.scheduler.explain(B, NOW) == "max-smtp-out 1 of virtual MTA v1 is used up by its queues."


def test_disabled_sources() -> None:
    desk = busy_desk()
    slot = desk.connect(NOW)
    desk.scheduler.apply(slot, NOW, Measure(MeasureKind.DISABLE_SOURCE, 60.0))
    desk.scheduler.release(slot, NOW)
    assert desk.scheduler.explain(A, NOW) == (
        "This queue may use no source address of virtual MTA v1; "
        "the first comes back at 22:14:20 UTC, in 60s."
    )


def test_times_of_another_day_carry_the_date() -> None:
    assert moment(NOW + 86400, NOW) == "at 2023-11-15 22:13:20 UTC, in 86400s"
