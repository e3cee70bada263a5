"""Domains whose DNS answers are kept fresh, at a name server on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from mta.config.load import load_text
from mta.config.settings import Settings
from mta.routing.precache import Precache, read_domains
from mta.routing.resolver import Resolver, Status
from mta.service.workercommands import WorkerCommands
from mta.sink.nameserver import Nameserver
from mta.sink.zone import Zone
from tests.support.moved_clock import MovedClock
from tests.support.workshop import Workshop


def settings(directory: Path, text: str, lines: str = "") -> Settings:
    """What a `<dns>` block says about a file with this text."""
    (directory / "domains").write_text(text)
    loaded = load_text(f"<dns>\nprecached-domains-file {directory}/domains\n{lines}\n</dns>")
    assert loaded.snapshot is not None, loaded.problems
    return loaded.snapshot.dns


@pytest_asyncio.fixture
async def zone() -> AsyncIterator[tuple[Zone, Resolver, MovedClock]]:
    """A zone, a resolver that asks its server, and the resolver's clock."""
    zone = Zone()
    zone.add("example.com", "MX 10 mx.example.com.")
    zone.add("mx.example.com", "A 127.0.0.1")
    zone.add("bare.example", "A 127.0.0.2")
    server = Nameserver(zone)
    await server.start()
    clock = MovedClock()
    yield zone, Resolver([server.address], clock=clock), clock
    server.close()


async def test_answers_hold_until_the_next_round_whatever_their_ttl(
    tmp_path: Path, zone: tuple[Zone, Resolver, MovedClock]
) -> None:
    _, resolver, clock = zone
    precache = Precache(resolver, lambda: settings(tmp_path, "example.com\nbare.example\n"), clock=clock)
    await precache.refresh(86_400.0)
    asked = resolver.stats.questions
    clock.move(2 * 86_400 - 60)

    assert (await resolver.mx("example.com")).mx[0].host == "mx.example.com"
    assert (await resolver.addresses("mx.example.com")).addresses == ("127.0.0.1",)
    assert resolver.stats.questions == asked
    found = {row.name: (row.status, row.hosts, row.addresses) for row in precache}
    assert found == {"example.com": (Status.FOUND, 1, 1), "bare.example": (Status.NO_DATA, 1, 1)}


@pytest.mark.parametrize(
    ("change", "hosts"),
    [
        pytest.param("MX 5 second.example.com.", {"mx.example.com", "second.example.com"}, id="finds it out"),
        pytest.param("SERVFAIL", {"mx.example.com"}, id="keeps what was there when no answer comes"),
    ],
)
async def test_a_round_when_something_has_changed(
    tmp_path: Path, zone: tuple[Zone, Resolver, MovedClock], change: str, hosts: set[str]
) -> None:
    records, resolver, clock = zone
    precache = Precache(resolver, lambda: settings(tmp_path, "example.com\n"), clock=clock)
    await precache.refresh(300.0)
    records.add("example.com", change)
    await precache.refresh(300.0)

    assert {record.host for record in (await resolver.mx("example.com")).mx} == hosts


async def test_the_file_is_read_at_each_round_and_only_its_beginning_counts(
    tmp_path: Path, zone: tuple[Zone, Resolver, MovedClock]
) -> None:
    _, resolver, clock = zone
    text = ["# ours\nEXAMPLE.com\nexample.com\n\nbare.example # two\n"]
    lines = "precached-max-domains 2"
    precache = Precache(resolver, lambda: settings(tmp_path, text[0], lines), clock=clock)
    await precache.refresh(300.0)
    assert sorted(row.name for row in precache) == ["bare.example", "example.com"]

    text[0] = "bare.example\n"
    await precache.refresh(300.0)
    assert [row.name for row in precache] == ["bare.example"]
    assert len(precache) == 1


def test_a_file_that_is_missing_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert read_domains(tmp_path / "none", 5) == ()
    assert "precached-domains-file" in caplog.text


async def test_a_worker_keeps_its_domains_fresh_and_shows_them(tmp_path: Path) -> None:
    (tmp_path / "domains").write_text("example.org\n")
    extra = f"<dns>\nprecached-domains-file {tmp_path}/domains\n</dns>"
    async with Workshop(tmp_path, extra=extra) as shop:
        await shop.until(lambda: len(shop.worker.outbound.directions.precache))
        asked = shop.worker.outbound.directions.resolver.stats.questions
        await shop.submit(domains=("example.org",))
        await shop.until_events(1, "d")
        shown = await WorkerCommands(shop.worker, clock=shop.clock).run("show.precache", {})
        shop.worker.outbound.directions.precache.follow()
        async with asyncio.timeout(10):
            while shop.worker.outbound.directions.resolver.stats.questions == asked:
                await asyncio.sleep(0.002)

    (row,) = shown["domain"]
    assert (row["name"], row["status"], row["hosts"], row["ips"]) == ("example.org", "found", 1, 1)
