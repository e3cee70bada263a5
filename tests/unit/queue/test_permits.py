from __future__ import annotations

from mta.config.networks import parse_network
from mta.config.values import NetworkLimit
from mta.queue.permits import Permits, cap_of
from mta.queue.reaction import Measure, MeasureKind, Reaction
from mta.queue.timers import NEVER
from tests.support.scheduling import A, Desk


def limit(network: str, number: int) -> NetworkLimit:
    return NetworkLimit(parse_network(network), number)


def test_the_longest_network_around_an_address_caps_it() -> None:
    caps = (limit("192.0.2.0/24", 5), limit("192.0.2.7", 1), limit("2001:db8::/32", 9))

    assert [cap_of(ip, caps) for ip in ("192.0.2.1", "192.0.2.7", "2001:db8::1")] == [5, 1, 9]
    assert cap_of("198.51.100.1", caps) == NEVER
    assert cap_of("", caps) == NEVER


def test_connections_per_source_address_are_capped() -> None:
    desk = Desk(
        sources=("192.0.2.1", "192.0.2.2"),
        source_ip_max_smtp_out=(limit("192.0.2.1", 1), limit("192.0.2.2", 3)),
    )
    desk.admit(A, *range(1, 1001))

    used = [slot.source.ip for slot in desk.scheduler.take(0.0)]

    assert sorted(used) == ["192.0.2.1", "192.0.2.2", "192.0.2.2", "192.0.2.2"]


def test_a_capped_address_is_used_again_after_a_release() -> None:
    desk = Desk(source_ip_max_smtp_out=(limit("0/0", 1),))
    desk.admit(A, *range(1, 101))
    slot = desk.connect()
    assert desk.scheduler.take(10.0) == []

    desk.attempt(slot, 10.0, Reaction.DELIVERED)
    desk.scheduler.release(slot, 10.0)

    assert len(desk.scheduler.take(10.0)) == 1


def test_backoff_when_the_last_source_is_disabled() -> None:
    desk = Desk(sources=("192.0.2.1", "192.0.2.2"), backoff_upon_all_sources_disabled=True)
    desk.admit(A, *range(1, 21))
    first, second = desk.scheduler.take(0.0)

    desk.scheduler.apply(first, 0.0, Measure(MeasureKind.DISABLE_SOURCE))
    assert next(desk.scheduler.queues(0.0)).mode == "normal"
    desk.scheduler.apply(second, 0.0, Measure(MeasureKind.DISABLE_SOURCE))
    assert next(desk.scheduler.queues(0.0)).mode == "backoff"


def test_permits_say_how_many_are_out() -> None:
    permits = Permits(3)
    assert permits.has_permit()
    assert repr(permits) == "<Permits 0/3>"
