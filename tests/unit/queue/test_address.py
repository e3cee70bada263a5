from __future__ import annotations

from mta.config.networks import parse_network
from mta.config.units import Rate
from mta.config.values import NetworkLimit
from mta.queue.address import AddressRates, limit_of
from mta.queue.policy import QueuePolicy
from mta.queue.reaction import Reaction
from tests.support.scheduling import A, Desk, ref

FIRST, SECOND = "192.0.2.1", "192.0.2.2"


def limits(**rates: Rate) -> tuple[NetworkLimit, ...]:
    """A limit for everybody, for the first, or for the second address."""
    networks = {"everybody": "0/0", "first": FIRST, "second": SECOND}
    return tuple(NetworkLimit(parse_network(networks[name]), rate) for name, rate in rates.items())


def test_the_longest_network_decides_and_no_network_means_no_limit() -> None:
    lines = limits(everybody=Rate(9, 60.0), first=Rate(1, 60.0))

    assert limit_of(FIRST, lines) == Rate(1, 60.0)
    assert limit_of(SECOND, lines) == Rate(9, 60.0)
    assert limit_of("192.0.2.9", limits(first=Rate(1, 60.0))) is None
    assert limit_of("", lines) is None


def test_the_last_of_equal_lines_holds() -> None:
    assert limit_of(FIRST, (*limits(first=Rate(1, 60.0)), *limits(first=Rate(2, 60.0)))) == Rate(2, 60.0)


def test_rates_survive_a_change_of_limits() -> None:
    rates = AddressRates(FIRST, QueuePolicy(source_ip_max_msg_rate=limits(everybody=Rate(2, 60.0))))
    assert rates.message_window is not None
    rates.message_window.add(2, 0.0)

    rates.configure(QueuePolicy(source_ip_max_msg_rate=limits(everybody=Rate(3, 60.0))))
    assert rates.sends_at(1.0, 0) == 1.0
    rates.message_window.add(1, 1.0)
    assert rates.sends_at(2.0, 0) == 60.0
    assert rates.has_memory(2.0)


def test_each_address_has_its_message_rate_and_the_queue_goes_on_with_the_others() -> None:
    desk = Desk(
        sources=(FIRST, SECOND),
        source_ip_max_msg_rate=limits(first=Rate(1, 60.0), second=Rate(2, 60.0)),
        max_smtp_out=2,
    )
    desk.admit(A, 1, 2, 3, 4)
    sent: dict[str, int] = {}
    for now in (0.0, 0.1, 0.2, 0.3):
        for slot in [*desk.scheduler.take(now), *desk.scheduler.recall(now)]:
            while desk.attempt(slot, now, Reaction.DELIVERED):
                sent[slot.source.ip] = sent.get(slot.source.ip, 0) + 1

    assert sent == {FIRST: 1, SECOND: 2}
    assert desk.scheduler.take(59.0) == desk.scheduler.recall(59.0) == []
    slots = [*desk.scheduler.recall(60.2), *desk.scheduler.take(60.2)]
    assert [desk.scheduler.draw(slot, 60.2) for slot in slots[:1]] == [[ref(4)]]


def test_each_address_has_its_connect_rate() -> None:
    desk = Desk(sources=(FIRST, SECOND), source_ip_max_connect_rate=limits(everybody=Rate(1, 60.0)))
    desk.admit(A, *range(1, 80))

    assert sorted(slot.source.ip for slot in desk.scheduler.take(0.0)) == [FIRST, SECOND]
    assert desk.scheduler.take(59.0) == []
    assert "source-ip-* rates" in desk.scheduler.explain(A, 59.0)
    assert len(desk.scheduler.take(60.0)) == 2


def test_each_address_has_its_volume_rate() -> None:
    desk = Desk(source_ip_max_data_volume_rate=limits(everybody=Rate(100, 60.0)), max_smtp_out=1)
    desk.scheduler._registry.sizes = lambda message: 60
    desk.admit(A, 1, 2)
    slot = desk.connect()
    desk.attempt(slot, 0.0, Reaction.DELIVERED)

    assert desk.scheduler.draw(slot, 0.0) == []
    assert desk.scheduler.recall(59.0) == []
    assert desk.scheduler.recall(60.0) == [slot]
