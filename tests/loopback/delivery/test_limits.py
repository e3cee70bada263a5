"""Rates and limits of queues, virtual MTAs and local addresses as a receiver on a socket sees them."""

from __future__ import annotations

import pytest

from mta.config.domainpattern import DomainPattern
from mta.config.networks import parse_network
from mta.config.units import Rate
from mta.config.values import NetworkLimit, PatternLimit
from mta.queue.hosts import HostLimits
from mta.queue.key import QueueKey
from mta.queue.policy import EgressSource, QueuePolicy, VmtaPolicy
from tests.support.delivery_rig import BODY, DeliveryRig
from tests.support.scripted_server import Script, ScriptedServer

pytestmark = pytest.mark.both_loops

EVERYBODY = parse_network("0/0")
TWO_SOURCES = VmtaPolicy(sources=(EgressSource("127.0.0.2", "a"), EgressSource("127.0.0.3", "b")))


async def test_a_volume_rate_stops_a_queue_until_the_window_has_moved_on() -> None:
    queue = QueuePolicy(max_smtp_out=1, max_data_volume_rate=Rate(2 * len(BODY), 0.6))
    async with ScriptedServer() as server, DeliveryRig([server.port], queue=queue) as rig:
        for _ in range(5):
            rig.admit()
        started = rig.clock.now()
        await rig.until(2)
        await rig.turn()
        assert len(server.accepted) == 2
        await rig.until(5)

        assert rig.clock.now() - started >= 1.2
    assert server.connections == 1


async def test_what_a_receiver_refuses_does_not_count_as_volume() -> None:
    queue = QueuePolicy(max_smtp_out=1, max_data_volume_rate=Rate(len(BODY), 3600.0))
    script = Script(dot=["554 5.7.1 no", "554 5.7.1 no", "250 2.0.0 ok"])
    async with ScriptedServer(script) as server, DeliveryRig([server.port], queue=queue) as rig:
        for _ in range(4):
            rig.admit()
        await rig.until(3)
        await rig.turn()

        assert rig.kinds() == ["b", "b", "d"]
        assert "max-data-volume-rate" in rig.scheduler.explain(QueueKey("example.net", "v1"), rig.clock.now())


async def test_the_volume_of_a_virtual_mta_is_shared_by_its_queues() -> None:
    vmta = VmtaPolicy(
        sources=(EgressSource("127.0.0.1", "a"),), max_smtp_data_volume_rate=Rate(len(BODY), 3600.0)
    )
    async with ScriptedServer() as server, DeliveryRig([server.port], vmta=vmta) as rig:
        rig.admit()
        rig.admit(domain="other.example")
        await rig.until(1)
        await rig.turn()

        assert len(server.accepted) == 1


async def test_each_local_address_has_its_own_message_rate() -> None:
    queue = QueuePolicy(source_ip_max_msg_rate=(NetworkLimit(EVERYBODY, Rate(3, 3600.0)),))
    async with ScriptedServer() as server, DeliveryRig([server.port], queue=queue, vmta=TWO_SOURCES) as rig:
        for _ in range(10):
            rig.admit()
        await rig.until(6)
        await rig.turn()

        peers = [attempt.peer for attempt in server.accepted]
        assert sorted(peers) == ["127.0.0.2"] * 3 + ["127.0.0.3"] * 3


async def test_each_local_address_has_its_own_connect_rate() -> None:
    queue = QueuePolicy(
        max_msg_per_connection=1, source_ip_max_connect_rate=(NetworkLimit(EVERYBODY, Rate(2, 3600.0)),)
    )
    async with ScriptedServer() as server, DeliveryRig([server.port], queue=queue, vmta=TWO_SOURCES) as rig:
        for _ in range(10):
            rig.admit()
        await rig.until(4)
        await rig.until_idle()

        assert server.connections == 4


async def test_each_local_address_has_its_own_volume_rate() -> None:
    queue = QueuePolicy(source_ip_max_data_volume_rate=(NetworkLimit(EVERYBODY, Rate(len(BODY), 3600.0)),))
    async with ScriptedServer() as server, DeliveryRig([server.port], queue=queue, vmta=TWO_SOURCES) as rig:
        for _ in range(10):
            rig.admit()
        await rig.until(2)
        await rig.turn()

        assert sorted(attempt.peer for attempt in server.accepted) == ["127.0.0.2", "127.0.0.3"]


@pytest.mark.parametrize(
    "hosts",
    [
        HostLimits(names=(PatternLimit(DomainPattern.parse("[*.]example.net"), 2),)),
        HostLimits(networks=(NetworkLimit(parse_network("127/8"), 2),)),
    ],
    ids=["mx-connection-limit", "ip-connection-limit"],
)
async def test_a_host_gets_no_more_connections_than_its_limit_over_all_queues(hosts: HostLimits) -> None:
    queue = QueuePolicy(max_smtp_out=20)
    async with ScriptedServer() as server, DeliveryRig([server.port], queue=queue, hosts=hosts) as rig:
        for domain in "abcdef":
            for _ in range(10):
                rig.admit(domain=f"{domain}.example")
        await rig.until(60)

        assert server.most_open <= 2
        assert {event.type for event in rig.events} == {"d"}
        assert rig.store.deferrals == []


async def test_a_second_host_takes_what_the_first_has_no_room_for() -> None:
    hosts = HostLimits(names=(PatternLimit(DomainPattern.parse("mx.example.net"), 1),))
    async with ScriptedServer() as server, DeliveryRig([server.port], hosts=hosts) as rig:
        other = rig.routes.targets[0]._replace(host="mx2.example.net")
        rig.routes.targets = (*rig.routes.targets, other)
        for domain in "ab":
            rig.admit(domain=f"{domain}.example")
        events = await rig.until(2)

        assert {event.dsn_mta for event in events} == {
            "mx.example.net (127.0.0.1)",
            "mx2.example.net (127.0.0.1)",
        }


async def test_a_connection_from_before_a_reload_counts_against_the_limit_that_it_brings() -> None:
    async with ScriptedServer() as server, DeliveryRig([server.port]) as rig:
        rig.admit(domain="a.example")
        await rig.until(1)
        assert server.open == 1
        rig.hosts = HostLimits(names=(PatternLimit(DomainPattern.parse("mx.example.net"), 1),))
        rig.scheduler.reconfigure(rig.clock.now())
        rig.admit(domain="b.example")
        await rig.until(2)

        assert (server.connections, server.most_open) == (2, 1)
