"""A roll-up's queue at several workers: their parts make up the limit."""

from __future__ import annotations

import pytest

from mta.config.units import Rate
from mta.config.values import NetworkLimit
from mta.queue.key import QueueKey
from mta.queue.policy import UNLIMITED, QueuePolicy
from mta.service.sharedqueue import is_shared, own_number, own_policy


def test_only_queues_of_roll_ups_are_at_several_workers() -> None:
    assert is_shared(QueueKey("google.rollup", "v1"))
    assert not is_shared(QueueKey("rollup.example", "v1"))


@pytest.mark.parametrize(("limit", "parts"), [(20, 2), (7, 3), (3, 3), (100, 64)])
def test_parts_make_up_the_whole(limit: int, parts: int) -> None:
    shares = [own_number(limit, parts, part) for part in range(parts)]

    assert sum(shares) == limit
    assert max(shares) - min(shares) <= 1


def test_a_limit_of_less_than_one_for_each_is_one_for_all_beside_the_part_of_each() -> None:
    whole = QueuePolicy(
        max_smtp_out=1,
        backoff_max_smtp_out=3,
        source_ip_max_smtp_out=(NetworkLimit((), 2), NetworkLimit((), 7)),
    )
    own = own_policy(whole, 3, 2)

    assert (own.max_smtp_out, own.shared_max_smtp_out) == (1, 1)
    assert (own.in_backoff().max_smtp_out, own.in_backoff().shared_max_smtp_out) == (1, 3)
    assert own.shared_source_ip_max_smtp_out == whole.source_ip_max_smtp_out


def test_all_limits_of_a_queue_are_divided_and_no_limit_stays_none() -> None:
    whole = QueuePolicy(
        max_smtp_out=21,
        backoff_max_smtp_out=UNLIMITED,
        max_msg_rate=Rate(100, 60.0),
        backoff_max_msg_rate=Rate(1, 60.0),
        source_ip_max_smtp_out=(NetworkLimit((), 10), NetworkLimit((), None)),
        source_ip_max_msg_rate=(NetworkLimit((), Rate(10, 1.0)),),
    )
    own = own_policy(whole, 2, 1)

    assert (own.max_smtp_out, own.backoff_max_smtp_out) == (10, UNLIMITED)
    assert (own.max_msg_rate, own.backoff_max_msg_rate) == (Rate(50, 60.0), Rate(1, 120.0))
    assert own.max_connect_rate is None
    assert [line.limit for line in own.source_ip_max_smtp_out] == [5, None]
    assert [line.limit for line in own.source_ip_max_msg_rate] == [Rate(5, 1.0)]
    assert own.retry_after == whole.retry_after
