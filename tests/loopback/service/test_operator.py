"""What an operator asks and orders of a worker: dry runs, reasons with their lines, resolving, traces."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from mta.errors import MtaError
from mta.service.workercommands import WorkerCommands
from mta.sink.nameserver import Nameserver
from mta.sink.zone import Zone
from tests.support.workshop import Workshop

JOBS = "<source 127.0.0.1>\nprocess-x-job yes\n</source>"


async def ask(shop: Workshop, command: str, **arguments: Any) -> Any:
    return await WorkerCommands(shop.worker, clock=shop.clock).run(command, arguments)


async def waiting_with_job(shop: Workshop) -> None:
    """One recipient of the job `news` waits."""
    await ask(shop, "queue.pause", pattern="*/*")
    await shop.hand_in("X-Job: news\nSubject: x\n\nhello")


async def test_dry_runs_say_what_would_be_and_change_nothing(tmp_path: Path) -> None:
    async with Workshop(tmp_path, extra=JOBS) as shop:
        await waiting_with_job(shop)

        assert await ask(shop, "job.pause", job="news", dryRun=True) == {"jobs": 1, "rcp": 1}
        assert not shop.worker.jobs.is_paused("news")
        assert await ask(shop, "source.disable", ip="127.0.0.1", dryRun=True) == {"queues": 1}
        assert (await ask(shop, "show.disabledsources"))["source"] == []
        for command, more in (("queue.resume", {}), ("queue.mode", {"mode": "backoff"})):
            assert (await ask(shop, command, pattern="*/*", dryRun=True, **more))["queues"] == 1
        assert await ask(shop, "delete", queue="*/*", dryRun=True) == {"rcp": 1, "msg": 1}
        (row,) = (await ask(shop, "show.queues"))["queue"]
        assert (row["state"], row["mode"], row["rcp"]) == ("paused", "normal", 1)


async def test_a_dry_run_of_the_way_back_leaves_everything_where_it_is(tmp_path: Path) -> None:
    async with Workshop(tmp_path, extra=JOBS) as shop:
        await waiting_with_job(shop)
        await ask(shop, "source.disable", ip="127.0.0.1")
        assert await ask(shop, "source.enable", ip="127.0.0.1", dryRun=True) == {"queues": 1}
        assert len((await ask(shop, "show.disabledsources"))["source"]) == 1

        await ask(shop, "job.pause", job="news")
        assert await ask(shop, "job.resume", job="news", dryRun=True) == {"jobs": 1, "rcp": 1}
        assert shop.worker.jobs.is_paused("news")

        await ask(shop, "delete", jobId="news", grace="1h")
        assert await ask(shop, "undo.delete", dryRun=True) == {"rcp": 1}
        assert await ask(shop, "undo.delete") == {"rcp": 1}


@pytest.mark.parametrize(
    ("lines", "directive", "place"),
    [
        ("retry-after 5m", "backoff-retry-after", "its default"),
        ("retry-after 5m\n    backoff-retry-after 2h", "backoff-retry-after", "backoff-retry-after 2h"),
    ],
)
async def test_a_queue_in_backoff_names_the_line_that_holds_there(
    tmp_path: Path, lines: str, directive: str, place: str
) -> None:
    async with Workshop(tmp_path, rules="CONNECT 421 4.3.2 closed", within=lines) as shop:
        await ask(shop, "queue.pause", pattern="*/*")
        await shop.submit()
        await ask(shop, "queue.mode", pattern="*/*", mode="backoff")
        await ask(shop, "queue.resume", pattern="*/*")
        await shop.until_events(1, "tq")
        await shop.until_idle()
        found = await ask(shop, "why", queue="example.com")

    assert found["directive"] == directive
    assert found["place"].endswith("its default") is (place == "its default")
    if place != "its default":
        number = int(found["place"].rpartition(":")[2])
        assert shop.text.splitlines()[number - 1].strip() == place


async def test_penalties_are_named_where_they_make_a_queue_wait(tmp_path: Path) -> None:
    async with Workshop(tmp_path, rules="RCPT 450 4.2.1 later", within="initial-pts 100") as shop:
        await shop.submit()
        await shop.until_events(1, "t")

        assert (await ask(shop, "why", queue="example.com"))["directive"] == "initial-pts"


@pytest.mark.parametrize("over_tcp", [False, True])
async def test_another_name_server_may_be_asked_with_every_packet_in_view(
    tmp_path: Path, over_tcp: bool
) -> None:
    zone = Zone()
    zone.add("example.com", "MX 5 elsewhere.example.com.")
    zone.add("elsewhere.example.com", "A 127.0.0.77")
    other = Nameserver(zone)
    await other.start()
    async with Workshop(tmp_path) as shop:
        host, port = other.address
        found = await ask(
            shop, "resolve", domain="example.com", server=f"{host}:{port}", tcp=over_tcp, dumpPackets=True
        )
        usual = await ask(shop, "resolve", domain="example.com")
        refused = await ask(shop, "resolve", domain="example.com", server="127.0.0.1:1")
    other.close()

    assert [target["ip"] for target in found["route"]] == ["127.0.0.77"]
    assert [target["ip"] for target in usual["route"]] == ["127.0.0.1"]
    assert "refused" in refused["routeError"]
    assert found["packet"][0].startswith(f"to {host} port {port}\n")
    assert any("MX 5 elsewhere.example.com." in text for text in found["packet"])
    assert "packet" not in usual


async def test_hosts_may_be_greeted_by_another_name_and_a_trace_may_go_to_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with Workshop(tmp_path) as shop:
        found = await ask(shop, "resolve", domain="example.com", connect=True, hostName="nine.example.org")
        assert any(line["text"] == ">>> EHLO nine.example.org" for line in found["connect"][0]["lines"])

        await ask(shop, "queue.pause", pattern="*/*")
        await shop.submit()
        await ask(shop, "trace", queue="example.com", toLog=True)

    lines = [record.getMessage() for record in caplog.records]
    assert any("event=trace wire='>>> MAIL FROM:" in line for line in lines)


async def test_resolve_follows_queue_to_and_takes_a_queue_for_an_argument(tmp_path: Path) -> None:
    extra = "<domain example.org>\nqueue-to example.com\n</domain>\n<virtual-mta v1>\n</virtual-mta>"
    async with Workshop(tmp_path, extra=extra) as shop:
        moved = await ask(shop, "resolve", domain="Example.ORG/v1")
        assert moved["queue"] == "example.com/v1"
        assert [target["host"] for target in moved["route"]] == ["mx.example.com"]
        for name in ("example.com/v2", "example.com/"):
            with pytest.raises(MtaError, match=r"no virtual-mta v2|not one queue"):
                await ask(shop, "resolve", domain=name)
        with pytest.raises(MtaError, match="no virtual-mta v2"):
            await ask(shop, "resolve", domain="example.com", vmta="v2")


@pytest.mark.parametrize("command", ["why", "trace"])
async def test_a_queue_of_a_virtual_mta_that_nobody_has_is_a_mistake(tmp_path: Path, command: str) -> None:
    async with Workshop(tmp_path) as shop:
        with pytest.raises(MtaError, match="no virtual-mta v2"):
            await ask(shop, command, queue="example.com/v2")
