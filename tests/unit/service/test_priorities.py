"""Orders of `mta set priority`: whom they mean, and what a restart knows of them."""

from __future__ import annotations

import json

import pytest

from mta.message.envelope import Envelope, Personal, Recipient
from mta.queue.key import QueueKey
from mta.service.channel import CommandFailed
from mta.service.priorities import MOST_ORDERS, Priorities

KEY = QueueKey("example.com", "v1")
NOW = 1_700_000_000.0


def envelope(*, received: float = NOW, job: str = "", priority: int = 50, own: int | None = None) -> Envelope:
    personal = None if own is None else Personal(priority=own)
    return Envelope(
        "q",
        received,
        "news@example.org",
        "v1",
        (Recipient("Ann@Example.com", "example.com", personal=personal),),
        job_id=job,
        is_personal=personal is not None,
        priority=priority,
    )


def book(*orders: tuple[int, str, dict[str, str]]) -> Priorities:
    made = Priorities()
    for priority, queue, filters in orders:
        made.note(priority, queue, filters, NOW)
    return made


@pytest.mark.parametrize(
    ("queue", "filters", "result"),
    [
        ("*/*", {}, 80),
        ("example.com/v1", {"jobId": "spring"}, 80),
        ("example.com/v2", {}, 50),
        ("*/*", {"jobId": "autumn"}, 50),
        ("*/*", {"rcpt": "ann@*"}, 80),
        ("*/*", {"orig": "*@example.net"}, 50),
        ("*/*", {"olderThan": "1h"}, 50),
    ],
)
def test_an_order_means_whom_its_filters_fit(queue: str, filters: dict[str, str], result: int) -> None:
    assert book((80, queue, filters)).of(KEY, envelope(job="spring"), 0) == result


def test_what_comes_in_later_is_not_meant() -> None:
    assert book((80, "*/*", {})).of(KEY, envelope(received=NOW + 0.1), 0) == 50


def test_the_latest_order_counts_and_none_leaves_what_the_message_came_with() -> None:
    made = book((80, "*/*", {}), (20, "*/*", {"jobId": "spring"}))

    assert made.of(KEY, envelope(job="spring"), 0) == 20
    assert made.of(KEY, envelope(), 0) == 80
    assert Priorities().of(KEY, envelope(priority=30), 0) == 30
    assert Priorities().of(KEY, envelope(priority=30, own=0), 0) == 0


def test_orders_survive_as_json_and_what_cannot_be_read_is_left_out() -> None:
    state = json.loads(json.dumps(book((80, "*/*", {"jobId": "spring"})).snapshot_state()))
    state["orders"] += [None, [1], ["x", 1, "*/*", {}], [1, 2, "", {}], [1, 2, "*/*", []]]
    made = Priorities()
    made.restore_state(state)

    assert made.of(KEY, envelope(job="spring"), 0) == 80
    assert len(made.snapshot_state()["orders"]) == 1


def test_the_same_order_again_replaces_the_one_before_and_only_so_many_are_kept() -> None:
    made = book((80, "*/*", {"jobId": "spring"}), (10, "*/*", {"jobId": "spring"}))
    assert [row[0] for row in made.snapshot_state()["orders"]] == [10]

    for number in range(MOST_ORDERS + 5):
        made.note(60, "*/*", {"jobId": str(number)}, NOW + number)

    assert len(made.snapshot_state()["orders"]) == MOST_ORDERS


def test_an_order_with_an_unknown_filter_is_refused() -> None:
    with pytest.raises(CommandFailed, match="unknown filter colour"):
        book((80, "*/*", {"colour": "blue"}))
