"""A new configuration takes effect without a restart; a broken one changes nothing and says why."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from mta.sink.receiver import ReceiverOptions
from tests.support.injector import Injector
from tests.support.service import World

pytestmark = pytest.mark.timeout(180)

FEW = "<domain example.com>\n    max-smtp-out 2\n</domain>\n"
MORE = "<domain example.com>\n    max-smtp-out 6\n</domain>\n"
BROKEN = "<domain example.com>\n    max-smtp-aut 6\n</domain>\n"


async def epoch(world: World) -> int:
    found: int = (await world.ask("show.status"))["epoch"]
    return found


async def until_epoch(world: World, wanted: int) -> None:
    async with asyncio.timeout(20.0):
        while await epoch(world) < wanted:
            await asyncio.sleep(0.02)


async def until_logged(world: World, text: str) -> None:
    await world.until(lambda: text in world.log())


@pytest.mark.parametrize("way", ["SIGHUP", "control socket"])
async def test_new_limits_hold_from_the_reload_on(tmp_path: Path, way: str) -> None:
    # Every reply takes a while, so that all permitted connections are used.
    options = ReceiverOptions(with_bodies=False, latency=0.02)
    async with World(tmp_path, extra=FEW, options=options) as world:
        load = Injector(world.port, sessions=4, messages=400)
        async with asyncio.TaskGroup() as company:
            company.create_task(load.run())
            await world.until(lambda: world.received.total() >= 40)
            assert world.receiver.totals.peak == 2

            world.write_config(MORE)
            if way == "SIGHUP":
                os.kill(world.pid, signal.SIGHUP)
                await until_epoch(world, 2)
            else:
                assert (await world.ask("reload"))["epoch"] == 2
        await world.until(lambda: world.received.total() == 400)

        assert world.receiver.totals.peak == 6
        assert max(world.received.values()) == 1


async def test_a_broken_file_keeps_the_old_configuration_and_says_why(tmp_path: Path) -> None:
    async with World(tmp_path, extra=FEW) as world:
        world.write_config(BROKEN)
        line = world.config.read_text().splitlines().index("    max-smtp-aut 6") + 1

        with pytest.raises(RuntimeError) as refusal:
            await world.ask("reload")
        os.kill(world.pid, signal.SIGHUP)
        await until_logged(world, "reload refused, the old configuration stays")

        assert f"{world.config}:{line}: error: " in str(refusal.value)
        assert "max-smtp-aut" in str(refusal.value)
        assert "max-smtp-out" in str(refusal.value), "did you mean"
        assert await epoch(world) == 1
        load = Injector(world.port, sessions=1, messages=5)
        await load.run()
        await world.until(lambda: world.received.total() == 5)

        world.write_config(MORE)
        assert (await world.ask("reload"))["epoch"] == 2


async def test_a_key_that_is_none_is_refused_by_a_reload_too(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        (tmp_path / "bad.pem").write_text("not a key\n")
        world.write_config(f"domain-key s1, example.com, {tmp_path}/bad.pem\n")

        with pytest.raises(RuntimeError, match=r"bad\.pem"):
            await world.ask("reload")

        assert await epoch(world) == 1
        assert {row["restarts"] for row in (await world.ask("show.workers"))["worker"]} == {0}
        load = Injector(world.port, sessions=1, messages=5)
        await load.run()
        await world.until(lambda: world.received.total() == 5)


async def test_a_process_that_dies_over_a_broken_file_comes_back_with_the_old_configuration(
    tmp_path: Path,
) -> None:
    async with World(tmp_path, extra=FEW) as world:
        world.write_config(BROKEN)
        with pytest.raises(RuntimeError):
            await world.ask("reload")

        for pid in (await world.children()).values():
            os.kill(pid, signal.SIGKILL)
        load = Injector(world.port, sessions=1, messages=5, reconnects=True)
        await load.run()
        await world.until(lambda: load.acknowledged <= world.received.keys())
        await world.until(lambda: len(world.records("d")) == 5)

        assert await epoch(world) == 1


async def test_what_needs_a_restart_is_refused(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        for extra, sentence in (
            (
                "smtp-listener 127.0.0.1:2\n",
                "smtp-listener 127.0.0.1:2: listeners come and go with a restart",
            ),
            (f"<spool {tmp_path}/other>\n</spool>\n", ""),
        ):
            world.write_config(extra)
            if sentence:
                with pytest.raises(RuntimeError, match=sentence):
                    await world.ask("reload")
            else:
                await world.ask("reload")  # the second of two spools is not the one in use
        world.write_config()
        text = world.config.read_text().replace(f"<spool {world.spool}>", f"<spool {tmp_path}/other>")
        world.config.write_text(text)

        with pytest.raises(RuntimeError, match=f"the mail of this service lies in {world.spool}"):
            await world.ask("reload")
        os.kill(world.pid, signal.SIGHUP)
        await world.until(lambda: world.log().count("reload refused, the old configuration stays") == 3)


def held(pid: int) -> tuple[int, int]:
    """Open files and threads of a process."""
    return len(os.listdir(f"/proc/{pid}/fd")), len(os.listdir(f"/proc/{pid}/task"))


def resident(pid: int) -> int:
    """Resident memory in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_a_hundred_reloads_leak_nothing(tmp_path: Path) -> None:
    async with World(tmp_path, extra=FEW) as world:
        pids = [world.pid, *(await world.children()).values()]

        async def reload(count: int) -> None:
            for turn in range(count):
                world.write_config(MORE if turn % 2 else FEW)
                await world.ask("reload")
                world.write_config(BROKEN)
                with pytest.raises(RuntimeError):
                    await world.ask("reload")

        await reload(5)
        files, memory = [held(pid) for pid in pids], [resident(pid) for pid in pids]
        await reload(50)

        # One admin connection more or less may still be closing.
        for before, pid in zip(files, pids, strict=True):
            assert held(pid)[0] <= before[0] + 1
            assert held(pid)[1] == before[1]
        grown = [resident(pid) - before for before, pid in zip(memory, pids, strict=True)]
        print(f"grown by {[size // 1024 for size in grown]} KiB in 50 good and 50 broken reloads")
        assert max(grown) < 4 << 20
        assert await epoch(world) == 56
