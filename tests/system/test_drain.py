"""SIGTERM under load: the service is gone in time, with nothing lost and nothing said twice."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from mta.sink.receiver import ReceiverOptions
from mta.sink.script import Action, Rule, Script, Stage, parse_script
from tests.support.injector import Injector
from tests.support.service import World

pytestmark = pytest.mark.timeout(180)

DRAIN_SECONDS = 30.0


async def terminate(world: World) -> float:
    """Stop the service with SIGTERM; returns how many seconds that took."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    assert await world.stop(signal.SIGTERM) == 0, world.log()
    return loop.time() - started


async def test_termination_under_load_loses_nothing_and_repeats_nothing(tmp_path: Path) -> None:
    # A receiver that takes its time has something under way at any moment.
    async with World(tmp_path, options=ReceiverOptions(with_bodies=False, latency=0.05)) as world:
        load = Injector(world.port)
        async with asyncio.TaskGroup() as company:
            company.create_task(load.run())
            await load.until(500)
            seconds = await terminate(world)
        before = world.received.copy()
        recorded = {row["rcpt"] for row in world.records("d")}

        await world.start()
        await world.until(lambda: load.acknowledged <= world.received.keys())
        await world.until_empty()
        await terminate(world)

        print(f"acknowledged={len(load.acknowledged)} delivered before={before.total()} in {seconds:.1f} s")
        assert seconds < DRAIN_SECONDS
        assert 0 < before.total() < len(load.acknowledged)
        assert recorded == before.keys(), "every delivery has its record when the service has ended"
        # A client that heard 421 in place of the reply knows that its message was not taken.
        assert world.received.keys() == load.acknowledged
        assert max(world.received.values()) == 1
        assert len(world.records("d")) == len(world.records("r")) == len(load.acknowledged)


# The longer one outlasts the time after which transfers without a final dot are cut.
@pytest.mark.parametrize("pause", [2.0, pytest.param(14.0, marks=pytest.mark.slow)])
async def test_a_transfer_whose_final_dot_is_out_is_waited_for(tmp_path: Path, pause: float) -> None:
    script = parse_script(f"DOT +{pause:g}s 250 2.0.0 slow but sure\n")
    options = ReceiverOptions(with_bodies=False, script=script)
    async with World(tmp_path, options=options) as world:
        load = Injector(world.port, sessions=1, messages=1)
        await load.run()
        await world.until(lambda: world.receiver.totals.transactions == 1)

        seconds = await terminate(world)

        assert pause - 1.0 < seconds < DRAIN_SECONDS
        assert [row["rcpt"] for row in world.records("d")] == list(load.acknowledged)
        assert world.received.total() == 1


@pytest.mark.slow
async def test_a_receiver_that_says_nothing_holds_the_end_up_for_so_long_only(tmp_path: Path) -> None:
    silence = Rule(Stage.DATA, Action.SILENCE, times=1)
    options = ReceiverOptions(with_bodies=False, script=Script([silence]))
    async with World(tmp_path, options=options) as world:
        load = Injector(world.port, sessions=1, messages=1)
        await load.run()
        await world.until(lambda: silence.times == 0)

        seconds = await terminate(world)

        assert seconds < DRAIN_SECONDS
        await world.start()
        await world.until(lambda: world.received.keys() == load.acknowledged)


async def test_the_last_records_are_written_although_the_events_process_has_just_died(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        load = Injector(world.port, sessions=1, messages=20)
        await load.run()
        await world.until(lambda: world.received.total() == 20)
        os.kill((await world.children())["events"], signal.SIGKILL)

        await terminate(world)

        assert {row["rcpt"] for row in world.records("d")} == load.acknowledged


@pytest.mark.parametrize("moment", ["", "starting", "ready"])
async def test_an_end_in_the_middle_of_a_start_leaves_nobody_behind(tmp_path: Path, moment: str) -> None:
    world = World(tmp_path)
    async with world.surroundings():
        await world.launch()
        await world.until(lambda: moment in world.log())
        code = await world.stop()

        # Before it can hear a signal it is only an interpreter.
        assert code == 0 or (code == -signal.SIGTERM and not world.log()), world.log()
        assert world.survivors() == []
        assert "Traceback" not in world.log()


async def test_a_second_signal_does_not_disturb_the_end(tmp_path: Path) -> None:
    options = ReceiverOptions(with_bodies=False, script=parse_script("DOT +2s 250 2.0.0 slow but sure\n"))
    async with World(tmp_path, options=options) as world:
        load = Injector(world.port, sessions=1, messages=1)
        await load.run()
        await world.until(lambda: world.receiver.totals.transactions == 1)

        # As Ctrl-C on a terminal does it: the whole group hears it, and again.
        world.kill(signal.SIGINT)
        world.kill(signal.SIGTERM)
        world.kill(signal.SIGINT)

        assert await world.wait() == 0
        assert len(world.records("d")) == 1
