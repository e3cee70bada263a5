from __future__ import annotations

import json

from mta.config.networks import parse_network
from mta.config.units import Rate
from mta.config.values import NetworkLimit
from mta.queue.reaction import Reaction
from mta.queue.scheduler import Scheduler
from tests.support.scheduling import A, Desk, ref

EVERYBODY = parse_network("0/0")


def busy_desk() -> Desk:
    """Three messages sent at 1000, under limits of every kind."""
    desk = Desk(
        max_smtp_out=1,
        max_msg_rate=Rate(3, 60.0),
        max_connect_rate=Rate(1, 50.0),
        max_data_volume_rate=Rate(1000, 40.0),
        source_ip_max_msg_rate=(NetworkLimit(EVERYBODY, Rate(3, 70.0)),),
        vmta={"max_smtp_msg_rate": Rate(3, 80.0)},
    )
    desk.scheduler._registry.sizes = lambda message: 300
    desk.admit(A, 1, 2, 3, at=1000.0)
    slot = desk.connect(1000.0)
    while desk.attempt(slot, 1000.0, Reaction.DELIVERED):
        pass
    desk.scheduler.release(slot, 1000.0)
    return desk


def restarted(desk: Desk, now: float, *, with_rates: bool = True) -> Scheduler:
    other = Scheduler(policies=lambda key: desk.policy, vmtas=lambda name: desk.vmta, total_max_smtp_out=9)
    state = json.loads(json.dumps(desk.scheduler.snapshot_state(with_rates=with_rates), allow_nan=False))
    other.restore_state(state, now)
    other.take(now)
    other.admit(A, ref(9), now, received=now)
    return other


def test_no_window_forgets_what_it_counted() -> None:
    other = restarted(busy_desk(), 1005.0)

    for limit, begin in (("max-msg-rate", 1005.0), ("max-smtp-msg-rate", 1065.0)):
        assert limit in other.explain(A, begin)
    assert other.take(1079.0) == []
    assert len(other.take(1080.0)) == 1


def test_without_rates_windows_begin_empty() -> None:
    other = restarted(busy_desk(), 1005.0, with_rates=False)

    assert len(other.take(1005.0)) == 1


def test_what_a_clock_counted_that_ran_ahead_is_not_waited_for() -> None:
    other = restarted(busy_desk(), 995.0)

    assert len(other.take(995.0)) == 1


def test_nonsense_is_skipped() -> None:
    desk = Desk(max_msg_rate=Rate(1, 60.0))

    desk.scheduler.restore_state(
        {"rates": {"a.example/v1": {"messages": [[1], ["x", 1, 1], 5]}, "v1": 3}}, 9.0
    )

    assert desk.scheduler.snapshot_state(with_rates=True) == {"paused": []}
