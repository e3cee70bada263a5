"""One question: what stays behind of it when nobody waits any more, and what strangers can do meanwhile."""

from __future__ import annotations

import asyncio
import os
import socket

import dns.message
import dns.rdatatype
import pytest

from mta.errors import NoDescriptors
from mta.routing.dnsquery import exchange, make_question
from tests.support.descriptors import no_free_descriptor

pytestmark = pytest.mark.both_loops


def open_sockets() -> set[str]:
    """The sockets of this process, by the names that the kernel gives them."""
    names = set()
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            names.add(os.readlink(f"/proc/self/fd/{descriptor}"))
        except FileNotFoundError:  # that of the listing itself
            continue
    return {name for name in names if name.startswith("socket:")}


@pytest.mark.parametrize("turns", range(6))
async def test_a_question_given_up_at_any_moment_leaves_no_socket(turns: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        before = open_sockets()
        asking = asyncio.create_task(
            exchange(make_question("x.example", dns.rdatatype.MX, 1232), silent.getsockname(), 5.0)
        )
        for _ in range(turns):
            await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert open_sockets() == before


async def test_a_flood_of_packets_that_cannot_be_read_leaves_others_their_turn() -> None:
    question = make_question("x.example", dns.rdatatype.MX, 1232)
    rubbish = question.id.to_bytes(2, "big") + b"\xf5" * 40
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        asking = asyncio.create_task(exchange(question, server.getsockname(), 5.0))
        server.settimeout(5.0)
        data, client = await asyncio.to_thread(server.recvfrom, 1 << 12)
        for _ in range(50):
            server.sendto(rubbish, client)
        server.sendto(dns.message.make_response(dns.message.from_wire(data)).to_wire(), client)

        turns = 0
        while not asking.done():
            await asyncio.sleep(0)
            turns += 1

    assert (await asking).id == question.id
    assert turns >= 50


async def test_a_question_for_which_there_is_no_descriptor_says_so() -> None:
    with no_free_descriptor(), pytest.raises(NoDescriptors, match="Too many open files"):
        await exchange(make_question("x.example", dns.rdatatype.MX, 1232), ("127.0.0.1", 9), 5.0)
