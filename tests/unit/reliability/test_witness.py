"""Promises read from an actor's words, and what a spool must still say afterwards."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

from tests.reliability.actor import configuration, content
from tests.reliability.witness import Promises, examine, repeated


def test_lines_become_promises() -> None:
    found = Promises.of(
        ["ready", "a m1 Q1", "x m2", "s m1 0", "d m1 1 3", "o 2", "! sync failed: EIO", "end"]
    )

    assert found.acknowledged == {"m1"}
    assert found.refused == {"m2"}
    assert found.settled == {("m1", 0)}
    assert found.deferred == {("m1", 1): 3}
    assert (found.kept, found.is_broken, found.ended) == (2, True, True)


def test_several_lives_add_up() -> None:
    found = Promises.of(["a m1 Q1", "d m1 0 1"])
    found.add(Promises.of(["a m2 Q2", "d m1 0 2", "s m1 0"]))

    assert found.acknowledged == {"m1", "m2"}
    assert found.deferred == {("m1", 0): 2}


def test_content_tells_its_name_and_size() -> None:
    assert content("m1", 9) == b"Subject: m1\r\n\r\nm1.m1.m1.\r\n"


def act(directory: Path, scenario: str) -> list[str]:
    (directory / "mta.conf").write_text(configuration(directory))
    command = [sys.executable, "-m", "tests.reliability.actor", scenario, str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.splitlines()


def test_a_record_may_be_repeated_but_not_made_twice_except_for_a_report_made_again() -> None:
    assert repeated([("r", "m1.0@d0.example", "1"), ("r", "m1.0@d0.example", "1")]) == []
    assert repeated([("r", "m1.0@d0.example", "1"), ("r", "m1.0@d0.example", "2")]) == [
        "two r records for m1.0@d0.example: 1, 2"
    ]
    assert repeated([("r", "m1@example.org", "1"), ("r", "m1@example.org", "2")]) == []


async def test_an_undisturbed_actor_keeps_its_promises(tmp_path: Path) -> None:
    said = await asyncio.to_thread(act, tmp_path, "bounce")

    promises = Promises.of(said)
    assert promises.ended
    assert len(promises.settled) == 6
    assert await examine(tmp_path, promises) == []


async def test_a_promise_that_the_spool_does_not_know_of_is_a_breach(tmp_path: Path) -> None:
    said = await asyncio.to_thread(act, tmp_path, "deliver")

    promises = Promises.of([*said, "a ghost Q9"])

    assert "ghost was acknowledged and is lost" in await examine(tmp_path, promises)
