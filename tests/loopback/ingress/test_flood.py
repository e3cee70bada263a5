"""Many clients and much data over real sockets: memory stays where it is and others are served."""

from __future__ import annotations

import asyncio
import resource
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.support.inbound import Inbound

pytestmark = pytest.mark.both_loops

MESSAGE = b"Subject: hello\r\n\r\nText.\r\n"
MEBIBYTE = 2**20


def resident() -> int:
    """Octets of memory this process has now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def test_connections_above_the_limit_are_told_so_and_the_others_work() -> None:
    async with Inbound("total-max-smtp-in 20") as inbound, AsyncExitStack() as stack:
        callers = [await stack.enter_async_context(inbound.caller()) for _ in range(60)]

        assert [caller.greeting[:9] for caller in callers] == ["220 mx.te"] * 20 + ["421 4.3.2"] * 40
        assert len(inbound.reception.guests) == 20
        await callers[0].envelope()
        assert (await callers[0].content(MESSAGE)).startswith("250")
        assert [event.type for event in inbound.partition.events] == ["C"] * 40


async def test_stranger_at_one_address_leaves_room_for_others() -> None:
    async with Inbound("total-max-smtp-in 4", source="") as inbound, AsyncExitStack() as stack:
        first = [await stack.enter_async_context(inbound.caller(address="127.0.0.2")) for _ in range(3)]
        second = await stack.enter_async_context(inbound.caller(address="127.0.0.3"))

        assert [caller.greeting[:9] for caller in first] == ["220 mx.te", "220 mx.te", "421 4.7.0"]
        assert second.greeting.startswith("220")


async def test_two_thousand_connections_come_and_go() -> None:
    async with Inbound("total-max-smtp-in 10") as inbound:
        for _ in range(40):
            async with AsyncExitStack() as stack:
                for _ in range(50):
                    await stack.enter_async_context(inbound.caller(greeting=False))
        async with inbound.caller(greeting=False) as caller:
            while (await caller.reply()).startswith("421"):
                await caller.__aexit__()
                await caller.__aenter__()
            assert (await caller.hello()).startswith("250")


async def test_endless_content_costs_no_memory() -> None:
    source = "always-allow-relaying yes\nmax-message-size 2M"
    async with Inbound(source=source) as inbound, inbound.caller() as caller:
        await caller.envelope()
        await caller.ask("DATA")
        block = b"x" * 65_536
        before = resident()
        try:
            for _ in range(1024):
                caller.send(block)
                await caller.flush()
        except ConnectionError:
            pass

        assert resident() - before < 16 * MEBIBYTE
        assert inbound.partition.stored == []


async def test_message_of_nothing_but_empty_lines_costs_its_size() -> None:
    async with Inbound() as inbound, inbound.caller() as caller:
        await caller.envelope()
        await caller.ask("DATA")
        before = resident()
        for _ in range(64):
            caller.send(b"\r\n" * 131_072)
            await caller.flush()
        used = resident() - before
        caller.send(b".\r\n")

        assert (await caller.reply()).startswith("250")
        assert used < 2 * 16 * MEBIBYTE + 8 * MEBIBYTE


async def test_client_that_never_reads_stops_being_read() -> None:
    one = b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nA: b\r\n\r\n.\r\n"
    async with Inbound() as inbound, inbound.caller(greeting=False) as deaf:
        deaf.writer.transport.pause_reading()
        deaf.send(b"EHLO x\r\n")
        before = resident()

        async def flood() -> None:
            while True:
                deaf.send(one * 1000)
                await deaf.flush()

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(flood(), 2.0)
        stored = len(inbound.partition.stored)
        assert resident() - before < 32 * MEBIBYTE + 3000 * stored

        async with inbound.caller() as caller:
            await caller.envelope()
            assert (await caller.content(MESSAGE)).startswith("250")


async def test_slow_crowd_does_not_slow_the_quick() -> None:
    async with Inbound("total-max-smtp-in 400") as inbound, AsyncExitStack() as stack:
        crowd = [await stack.enter_async_context(inbound.caller()) for _ in range(300)]
        for caller in crowd:
            caller.send(b"EHLO slow")
        async with inbound.caller() as quick:
            began = asyncio.get_running_loop().time()
            for _ in range(50):
                await quick.envelope()
                assert (await quick.content(MESSAGE)).startswith("250")
            assert asyncio.get_running_loop().time() - began < 5.0


async def test_the_more_clients_pipeline_thousands_of_commands_the_fewer_has_each_answered_at_once() -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async with Inbound() as inbound, AsyncExitStack() as stack:
        callers = [await stack.enter_async_context(inbound.caller()) for _ in range(20)]
        for caller in callers:
            caller.send(b"EHLO x\r\nMAIL FROM:<a@b.example>\r\n" + b"RCPT TO:<c@d.example>\r\n" * 600)
        counting = asyncio.create_task(count())
        for caller in callers:
            assert (await caller.replies(602))[-1].startswith("250")
        counting.cancel()

    # 12,000 commands, some 300 in a turn: whoever says one beside them waits milliseconds.
    assert turns > 30


async def test_pipelined_bodies_of_any_size_arrive_whole_and_in_order() -> None:
    bodies = [
        b"N: %d\r\n\r\n" % number + b"y" * 70 * (number % 7) + b"\r\n" * (number * 37 % 5000)
        for number in range(60)
    ]
    bodies = [body if body.endswith(b"\r\n") else body + b"\r\n" for body in bodies]
    async with Inbound() as inbound, inbound.caller() as caller:
        caller.send(b"EHLO x\r\n")
        for body in bodies:
            caller.send(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n" + body + b".\r\n")

        codes = [reply[:3] for reply in await caller.replies(1 + 4 * len(bodies))]

        assert codes == ["250"] + ["250", "250", "354", "250"] * len(bodies)
        assert [stored.partition(b" +0000\r\n")[2] for stored in inbound.partition.bodies] == bodies


EXHAUSTED = """
import asyncio, resource, sys
import uvloop
from tests.support.inbound import Inbound

FLOOD = '''
import socket, sys
held = [socket.create_connection(("127.0.0.1", int(sys.argv[1])), 5) for _ in range(100)]
print("here", flush=True)
sys.stdin.read()
'''

async def main():
    async with Inbound("total-max-smtp-in 10000") as inbound:
        flood = await asyncio.create_subprocess_exec(
            sys.executable, "-c", "import sys; sys.stdin.readline()" + FLOOD, str(inbound.port),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )
        # The child has started with room enough; we have none for a hundred connections.
        resource.setrlimit(resource.RLIMIT_NOFILE, (60, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        flood.stdin.write(b"go\\n")
        await flood.stdout.readline()
        flood.stdin.close()
        await flood.wait()
        async with asyncio.timeout(20), inbound.caller() as caller:
            print(caller.greeting)

(uvloop if sys.argv[1] == "uvloop" else asyncio).run(main())
"""


async def test_running_out_of_descriptors_passes(request: pytest.FixtureRequest) -> None:
    name = "uvloop" if "uvloop" in request.node.name else "asyncio"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", EXHAUSTED, name, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    async with asyncio.timeout(50):
        output, errors = await process.communicate()

    assert output.decode().startswith("220 mx.test"), errors.decode()
