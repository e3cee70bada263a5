"""`mx-connection-limit` and `ip-connection-limit`: connections to one host over all queues."""

from __future__ import annotations

from mta.config.domainpattern import DomainPattern
from mta.config.networks import parse_network
from mta.config.values import NetworkLimit, PatternLimit
from mta.queue.hosts import CALL_LASTS, HostLimits
from mta.queue.key import QueueKey
from mta.queue.policy import EgressSource, QueuePolicy, VmtaPolicy
from mta.queue.scheduler import FAIR_TURN, Scheduler
from mta.queue.slot import Slot
from tests.support.scheduling import A, B, deliver_all, open_at, ref

C = QueueKey("c.example", "v1")


def names(*lines: tuple[str, int]) -> HostLimits:
    return HostLimits(tuple(PatternLimit(DomainPattern.parse(text), limit) for text, limit in lines))


class Exchange:
    """A scheduler whose mail all goes to one host, `mx.example` at 10.0.0.1."""

    def __init__(self, limits: HostLimits, *, sources: int = 1) -> None:
        self.limits = limits
        addresses = tuple(EgressSource(f"192.0.2.{number + 1}", "a") for number in range(sources))
        self.scheduler = Scheduler(
            policies=lambda key: QueuePolicy(max_smtp_out=1),
            vmtas=lambda name: VmtaPolicy(sources=addresses),
            total_max_smtp_out=100,
            hosts=lambda: self.limits,
        )
        self.messages = 0

    def admit(self, key: QueueKey, messages: int = 1) -> None:
        for _ in range(messages):
            self.messages += 1
            self.scheduler.admit(key, ref(self.messages), 0.0, received=0.0)

    def open(self, now: float = 0.0) -> list[Slot]:
        return open_at(self.scheduler, "MX.example", now)

    def deliver_all(self, slot: Slot, now: float = 0.0) -> int:
        """Returns how many messages that were."""
        return deliver_all(self.scheduler, slot, now)


def test_the_closest_pattern_gives_the_limit_of_a_host() -> None:
    limits = names(("*", 9), ("*.big.example", 5), ("mx1.big.example", 2))

    hosts = ("mx1.big.example", "MX2.big.example", "other.example")
    assert [limits.of_name(host) for host in hosts] == [2, 5, 9]
    assert names(("*.big.example", 5)).of_name("other.example") is None


def test_workers_divide_a_limit_and_one_that_is_less_than_one_for_each_is_lent() -> None:
    parts = [HostLimits(parts=3, part=part) for part in range(3)]

    assert [limits.own(5) for limits in parts] == [2, 2, 1]
    assert [limits.is_lent(limit) for limits in parts[:1] for limit in (2, 3)] == [True, False]


def test_connections_to_a_host_are_limited_over_all_queues() -> None:
    exchange = Exchange(names(("*.example", 2)))
    exchange.admit(A)
    exchange.admit(B)
    exchange.admit(C)

    assert [slot.key for slot in exchange.open()] == [A, B]
    assert exchange.open() == []
    assert exchange.scheduler.next_deadline(0.0) != 0.0
    reason = exchange.scheduler.reason(C, 0.0)
    assert reason.text == "mx-connection-limit 2: all connections to mx.example are in use."


def test_connections_to_an_address_are_limited_by_its_network() -> None:
    exchange = Exchange(HostLimits((), (NetworkLimit(parse_network("10.0.0.0/24"), 1),)))
    exchange.admit(A)
    exchange.admit(B)

    assert [slot.key for slot in exchange.open()] == [A]
    assert "ip-connection-limit 1: all connections to 10.0.0.1" in exchange.scheduler.explain(B, 0.0)


def test_each_local_address_has_the_whole_limit() -> None:
    exchange = Exchange(names(("*", 1)), sources=2)
    for key in (A, B, C):
        exchange.admit(key)

    assert sorted(slot.source.ip for slot in exchange.open()) == ["192.0.2.1", "192.0.2.2"]


def test_who_waits_for_a_host_goes_first_when_there_is_room() -> None:
    exchange = Exchange(names(("*", 1)))
    exchange.admit(A)
    (slot,) = exchange.open()
    exchange.admit(B)
    assert exchange.open() == []
    exchange.scheduler.release(slot, 1.0)
    exchange.admit(C)

    assert {slot.key for slot in exchange.open(1.0)} == {B}


def test_a_connection_is_given_up_after_its_fair_turn_when_somebody_waits_for_its_host() -> None:
    exchange = Exchange(names(("*", 1)))
    exchange.admit(A, 1000)
    (slot,) = exchange.open()
    exchange.admit(B)
    exchange.open()

    assert exchange.deliver_all(slot) == FAIR_TURN
    assert slot.is_retired
    exchange.scheduler.release(slot, 1.0)
    assert [slot.key for slot in exchange.open(1.0)] == [B]


def test_a_connection_is_given_up_when_only_one_of_its_two_places_is_waited_for() -> None:
    network = NetworkLimit(parse_network("10.0.0.0/24"), 5)
    exchange = Exchange(HostLimits(names(("*", 1)).names, (network,)))
    exchange.admit(A, 1000)
    exchange.admit(C)
    (slot,) = exchange.open()

    assert exchange.deliver_all(slot) == FAIR_TURN
    assert slot.is_retired
    exchange.scheduler.release(slot, 1.0)
    (slot,) = exchange.open(1.0)
    assert slot.key == C


def test_a_connection_that_comes_to_rest_closes_when_a_limit_of_its_host_was_lifted_and_another_set() -> None:
    exchange = Exchange(HostLimits((), (NetworkLimit(parse_network("10.0.0.0/24"), 1),)))
    exchange.admit(A)
    (slot,) = exchange.open()
    exchange.limits = names(("*", 1))
    exchange.scheduler.reconfigure(0.0)
    exchange.admit(B)
    assert exchange.open() == []

    assert exchange.deliver_all(slot) == 1
    assert slot.is_retired
    exchange.scheduler.release(slot, 1.0)
    assert [slot.key for slot in exchange.open(1.0)] == [B]


def test_an_idle_connection_is_given_up_at_once_when_somebody_waits_for_its_host() -> None:
    exchange = Exchange(names(("*", 1)))
    exchange.admit(A)
    (slot,) = exchange.open()
    exchange.deliver_all(slot)
    exchange.admit(B)
    exchange.open()

    assert exchange.scheduler.next_deadline(0.0) == 0.0
    assert exchange.scheduler.recall(0.0) == [slot]
    assert slot.is_retired


def test_a_place_is_kept_for_a_while_and_then_goes_to_the_next() -> None:
    exchange = Exchange(names(("*", 1)))
    exchange.admit(A)
    (slot,) = exchange.open()
    exchange.admit(B)
    exchange.admit(C)
    assert exchange.open() == []
    exchange.scheduler.release(slot, 1.0)
    exchange.scheduler.pause("b.example/*", 1.0)

    assert exchange.open(1.0) == []
    assert [slot.key for slot in exchange.open(1.0 + CALL_LASTS)] == [C]


def test_a_reload_that_lifts_the_limit_lets_everybody_in() -> None:
    exchange = Exchange(names(("*", 1)))
    for key in (A, B, C):
        exchange.admit(key)
    assert len(exchange.open()) == 1
    exchange.limits = HostLimits()
    exchange.scheduler.reconfigure(1.0)

    assert len(exchange.open(1.0)) == 2


def test_hosts_that_nobody_uses_are_forgotten() -> None:
    exchange = Exchange(names(("*", 1)))
    exchange.admit(A)
    exchange.admit(B)
    (slot,) = exchange.open()
    exchange.deliver_all(slot)
    exchange.scheduler.release(slot, 1.0)
    (slot,) = exchange.open(1.0)
    exchange.deliver_all(slot, 1.0)
    exchange.scheduler.release(slot, 1.0)

    assert len(exchange.scheduler._hosts) == 0
