"""Forked actors: begin when told, say what they say, end as they end."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

from tests.reliability.actor import configuration
from tests.reliability.nursery import Nursery
from tests.reliability.witness import Promises, examine


async def test_actors_wait_for_their_word_and_end_alone(tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mta.conf").write_text(configuration(tmp_path / name))

    async with asyncio.timeout(60), Nursery() as nursery:
        through = await nursery.bear("reload", tmp_path / "one")
        killed = await nursery.bear("live", tmp_path / "two")
        assert not (tmp_path / "one" / "spool").exists()
        through.begin()
        killed.begin()
        await killed.first
        killed.kill()
        ends = [await through.ended(), await killed.ended()]
        wrong = await nursery.bear("no such scenario", tmp_path / "three")
        wrong.begin()
        errors = (await wrong.ended()).errors

    assert [end.code for end in ends] == [0, -signal.SIGKILL]
    assert ends[0].said.endswith(b"end\n")
    assert b"KeyError" in errors
    for name, end in zip(("one", "two"), ends, strict=True):
        assert await examine(tmp_path / name, Promises.of(end.said.decode().split("\n")[:-1])) == []
