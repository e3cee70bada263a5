"""A second service beside a running one ends with a clear sentence, and the first does not notice."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.support.injector import Injector
from tests.support.service import World, free_port

pytestmark = pytest.mark.timeout(180)

EX_TEMPFAIL = 75


def other_than(first: World, *shared: str) -> World:
    """A second service with the first one's configuration, in which only what is named is the same."""
    directory = first.directory / f"second-{'-'.join(shared)}"
    directory.mkdir()
    second = World(directory)
    text = first.config.read_text()
    if "port" not in shared:
        text = text.replace(f"127.0.0.1:{first.port}\n", f"127.0.0.1:{free_port()}\n")
    if "socket" not in shared:
        text = text.replace(f"{first.directory}/control.sock", f"{directory}/control.sock")
    if "spool" not in shared:
        text = text.replace(f"<spool {first.spool}>", f"<spool {directory}/spool>")
        # Whoever shares a spool shares the accounting: that is the mistake to be survived.
        text = text.replace(f"{first.directory}/acct.csv", f"{directory}/acct.csv")
    second.config.write_text(text)
    return second


async def test_the_second_instance_says_what_it_shares_and_the_first_goes_on(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        load = Injector(world.port, sessions=2)
        sentences = {
            ("port",): f"smtp-listener 127.0.0.1:{world.port}: Address already in use",
            ("socket",): f"{world.directory}/control.sock: another instance is running",
            ("spool",): "is in use",
        }
        async with asyncio.TaskGroup() as company:
            company.create_task(load.run())
            for shared, sentence in sentences.items():
                before = len(load.acknowledged)
                second = other_than(world, *shared)
                await second.launch()
                code = await second.wait()
                assert sentence in second.log(), second.log()
                assert code == EX_TEMPFAIL
                assert "Traceback" not in second.log()
                await load.until(before + 50)
            load.stop()

        await world.until(lambda: load.acknowledged <= world.received.keys())
        await world.until_empty()
        assert {row["restarts"] for row in (await world.ask("show.workers"))["worker"]} == {0}
        assert await world.stop() == 0
        assert max(world.received.values()) == 1
        for kind in ("d", "r"):
            rows = world.records(kind)
            assert len(rows) == len(load.acknowledged)
            assert {row["rcpt"] for row in rows} == load.acknowledged
        assert "ERROR" not in world.log()
