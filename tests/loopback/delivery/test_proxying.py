"""Connections through an HAProxy: what it is told, and what happens when it is down."""

from __future__ import annotations

import asyncio
import socket

import pytest

from mta.clock import SystemClock
from mta.config.proxy import Proxy
from mta.delivery.connection import DialFailure
from mta.delivery.dialer import Dialer
from mta.delivery.proxying import connect_to_any, proxy_header
from mta.queue.policy import EgressSource, VmtaPolicy
from mta.routing.router import Target
from tests.support.delivery_rig import PATIENT, DeliveryRig
from tests.support.haproxy import SmallProxy
from tests.support.scripted_server import ScriptedServer

pytestmark = pytest.mark.both_loops

CLIENT = "192.0.2.7"
#: Nobody listens at port 1.
DOWN = Proxy("127.0.0.1", 1, "192.0.2.1", 0, "down.example.com")


def source(*proxies: Proxy) -> VmtaPolicy:
    return VmtaPolicy(sources=(EgressSource(proxies[0].client_ip, proxies[0].host_name, proxies),))


@pytest.mark.parametrize("version", [1, 2])
async def test_mail_goes_through_the_proxy_from_its_address(version: int) -> None:
    async with SmallProxy() as proxy, ScriptedServer() as server:
        way = Proxy("localhost", proxy.port, CLIENT, 4000, "out.example.org", version, "127.0.0.9")
        async with DeliveryRig([server.port], vmta=source(way)) as rig:
            rig.admit()
            (event,) = await rig.until(1)

        assert (event.type, event.delivery_source_ip) == ("d", CLIENT)
        assert event.delivery_destination_ip == "127.0.0.1"
        assert proxy.asked == [(version, CLIENT, 4000, "127.0.0.1", server.port)]
        assert proxy.peers == ["127.0.0.9"]
        assert server.commands[0] == "EHLO out.example.org"


async def test_next_proxy_takes_over_with_its_own_address_and_name() -> None:
    async with SmallProxy() as proxy, ScriptedServer() as server:
        way = Proxy("127.0.0.1", proxy.port, CLIENT, 0, "up.example.com")
        async with DeliveryRig([server.port], vmta=source(DOWN, way)) as rig:
            rig.admit()
            (event,) = await rig.until(1)

        assert event.delivery_source_ip == CLIENT
        assert server.commands[0] == "EHLO up.example.com"


async def test_without_a_proxy_the_queue_waits_and_hosts_are_not_blamed() -> None:
    dialer = Dialer(clock=SystemClock())
    target = Target("mx.example.net", "127.0.0.1", 1, 0)

    with pytest.raises(DialFailure, match=r"proxy 127\.0\.0\.1:1: Connection refused") as failure:
        await dialer.dial(
            [target], source_ip=DOWN.client_ip, host_name="x", policy=PATIENT, proxies=(DOWN, DOWN)
        )

    assert failure.value.facts.source_ip == DOWN.client_ip
    assert dialer.attempts == 2


async def test_host_that_the_proxy_cannot_reach_is_passed_over() -> None:
    async with SmallProxy() as proxy, ScriptedServer() as server:
        way = Proxy("127.0.0.1", proxy.port, CLIENT, 0, "up.example.com")
        async with DeliveryRig([1, server.port], vmta=source(way)) as rig:
            rig.admit()
            (event,) = await rig.until(1)

        assert event.type == "d"
        assert [asked[4] for asked in proxy.asked] == [1, server.port]


async def test_proxy_is_tried_at_all_its_addresses() -> None:
    loop = asyncio.get_running_loop()
    async with SmallProxy() as proxy:
        dead, alive = (socket.AF_INET, ("127.0.0.1", 1)), (socket.AF_INET, ("127.0.0.1", proxy.port))
        async with asyncio.timeout(10):
            with await connect_to_any([dead, alive], "127.0.0.9", loop) as sock:
                assert sock.getpeername()[1] == proxy.port
            with pytest.raises(ConnectionRefusedError):
                await connect_to_any([dead, dead], "", loop)


async def test_proxy_that_cannot_be_reached_from_its_local_address_is_down_in_plain_words() -> None:
    way = Proxy("::1", 1, CLIENT, 0, "out.example.org", 1, "127.0.0.9")

    with pytest.raises(DialFailure, match=r"proxy ::1:1: [Aa]ddress family") as failure:
        await Dialer(clock=SystemClock()).dial(
            [Target("mx.example.net", "127.0.0.1", 1, 0)],
            source_ip=CLIENT, host_name="x", policy=PATIENT, proxies=(way,),
        )  # fmt: skip

    assert failure.value.reply.code == 451


def test_header_names_both_ends() -> None:
    way = Proxy("p", 80, "2001:db8::1", 0, "h")

    assert proxy_header(way, "2001:db8::2", 25) == b"PROXY TCP6 2001:db8::1 2001:db8::2 0 25\r\n"
    with pytest.raises(ValueError, match="can't connect"):
        proxy_header(way, "192.0.2.1", 25)
