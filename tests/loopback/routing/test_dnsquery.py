"""One question: what stays behind of it when nobody waits for the answer any more."""

from __future__ import annotations

import asyncio
import os
import socket

import dns.rdatatype
import pytest

from mta.routing.dnsquery import exchange, make_question

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
