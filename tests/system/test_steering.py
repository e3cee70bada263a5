"""The operator's hand on single deliveries, jobs and source addresses, through the control socket."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from xml.etree import ElementTree

import aiosmtplib
import pytest

from mta.sink.receiver import ReceiverOptions
from mta.sink.script import parse_script
from tests.support.service import World

pytestmark = pytest.mark.timeout(180)


async def inject(world: World, recipient: str, *, job: str = "") -> None:
    """Hand one message in."""
    header = f"X-Job: {job}\r\n" if job else ""
    content = f"From: app@example.org\r\nTo: {recipient}\r\n{header}Subject: hello\r\n\r\nbody\r\n"
    client = aiosmtplib.SMTP(hostname="127.0.0.1", port=world.port, start_tls=False)
    async with client:
        await client.sendmail("app@example.org", [recipient], content.encode())


async def test_a_trace_delivers_one_message_of_a_paused_queue(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        await world.ask("queue.pause", pattern="example.com/*")
        await inject(world, "a@example.com")
        await inject(world, "b@example.com")

        found = await world.ask("trace", queue="example.com/{default}", logData=True, logResolution=True)
        assert found["delivered"]
        texts = [line["text"] for line in found["lines"]]
        assert ">>> Subject: hello" in texts
        assert f"host mx.example.com address 127.0.0.1 port {world.receiver.port}" in texts
        assert world.received.total() == 1

        with pytest.raises(RuntimeError, match="no recipient waits"):
            await world.ask("trace", queue="example.net")
        assert (await world.ask("why", queue="example.com"))["text"].startswith("Paused by the operator")


async def test_why_says_which_line_set_the_limit(tmp_path: Path) -> None:
    async with World(tmp_path, within="max-msg-rate 1/h") as world:
        await inject(world, "a@example.com")
        await world.until(lambda: world.received.total() == 1)
        await inject(world, "b@example.com")

        found = await world.ask("why", queue="example.com/{default}")
        line = world.config.read_text().splitlines().index("    max-msg-rate 1/h") + 1
        assert found["directive"] == "max-msg-rate"
        assert found["place"] == f"{world.config}:{line}"
        assert f"(max-msg-rate: {world.config}:{line})" in found["text"]


async def test_a_paused_job_waits_over_a_restart_and_the_others_go_on(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        await world.ask("queue.pause", pattern="*/*")
        await inject(world, "before@example.com", job="news")
        assert (await world.ask("job.pause", job="news"))["rcp"] == 1
        await world.ask("queue.resume", pattern="*/*")
        await inject(world, "after@example.com", job="news")
        await inject(world, "other@example.com", job="letters")
        await world.until(lambda: world.received.total() == 1)
        assert list(world.received) == ["other@example.com"]

        jobs = (await world.ask("show.jobs"))["job"]
        assert [(row["id"], row["rcp"], row["paused"]) for row in jobs] == [("news", 2, True)]
        assert (await world.ask("list", jobId="news"))["total"] == 2

        assert await world.stop() == 0
        await world.start()
        await world.until(lambda: "recovered messages=2" in world.log())
        assert (await world.ask("list", jobId="news"))["total"] == 2
        assert world.received.total() == 1

        assert (await world.ask("job.resume", job="news"))["rcp"] == 2
        await world.until(lambda: world.received.total() == 3)
        await world.until_empty()
        assert (await world.ask("show.jobs"))["job"] == []


async def test_a_paused_job_can_be_deleted(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        await world.ask("job.pause", job="news")
        await inject(world, "a@example.com", job="news")
        assert (await world.ask("delete", jobId="news", dryRun=True)) == {"rcp": 1, "msg": 1}
        assert (await world.ask("delete", jobId="news"))["rcp"] == 1
        await world.until_empty()
        await world.until(lambda: len(world.records("b")) == 1)
        assert world.received.total() == 0


async def test_a_disabled_source_sends_nothing_until_it_is_enabled(tmp_path: Path) -> None:
    extra = """
<virtual-mta v1>
    smtp-source-ip 127.0.0.1
    host-name v1.example.org
</virtual-mta>
"""
    async with World(tmp_path, extra=extra, within="") as world:
        await world.ask("source.disable", ip="127.0.0.1", pattern="*/v1")
        assert (await world.ask("show.disabledsources"))["source"] == [
            {"queue": "*/v1", "ip": "127.0.0.1", "until": 0}
        ]
        client = aiosmtplib.SMTP(hostname="127.0.0.1", port=world.port, start_tls=False)
        async with client:
            content = b"From: a@example.org\r\nX-Virtual-MTA: v1\r\n\r\nbody\r\n"
            await client.sendmail("a@example.org", ["a@example.com"], content)
        text = (await world.ask("why", queue="example.com/v1"))["text"]
        assert "no source address" in text

        assert (await world.ask("source.enable", ip="127.0.0.1", pattern="*/*"))["queues"] == 1
        await world.until(lambda: world.received.total() == 1)


async def test_resolve_shows_hosts_with_addresses_and_greets_them(tmp_path: Path) -> None:
    options = ReceiverOptions(with_bodies=False, script=parse_script("CONNECT x1 421 4.3.2 not now\n"))
    async with World(tmp_path, options=options) as world:
        found = await world.ask("resolve", domain="Example.COM", connect=True)
        assert found["status"] == "success"
        assert found["host"] == [{"pref": 10, "name": "mx.example.com", "ip": ["127.0.0.1"]}]
        assert [row["port"] for row in found["route"]] == [world.receiver.port]
        (refused,) = found["connect"]
        assert refused["result"] == "421 4.3.2 not now"
        (greeted,) = (await world.ask("resolve", domain="example.com", connect=True))["connect"]
        assert greeted["result"] == "ready for mail"
        assert any(line["text"].startswith(">>> EHLO") for line in greeted["lines"])

        missing = await world.ask("resolve", domain="nowhere.example")
        assert missing["host"] == []
        assert missing["routeError"]


async def test_domains_are_shown_with_all_their_queues(tmp_path: Path) -> None:
    async with World(tmp_path, domains=("example.com", "example.net")) as world:
        await world.ask("queue.pause", pattern="*/*")
        for recipient in ("a@example.com", "b@example.com", "c@example.net"):
            await inject(world, recipient)
        found = await world.ask("show.domains")
        assert [(row["name"], row["rcp"]) for row in found["domain"]] == [
            ("example.com", 2),
            ("example.net", 1),
        ]
        assert (found["totalRcp"], found["totalDomains"]) == (3, 2)
        assert [row["name"] for row in (await world.ask("show.domains", domain="*.net"))["domain"]] == [
            "example.net"
        ]


async def test_a_monitors_command_line_reads_a_running_server(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        await world.ask("queue.pause", pattern="*/*")
        for number in range(3):
            await inject(world, f"r{number}@example.com")

        async def mta(*arguments: str) -> str:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "mta",
                "-c",
                str(world.config),
                *arguments,
                stdout=asyncio.subprocess.PIPE,
            )
            output, _ = await process.communicate()
            assert process.returncode == 0
            return output.decode()

        lines = (await mta("--dom", "show", "topqueues", "--maxitems=100000")).splitlines()
        assert 'queue[0].name="example.com/{default}"' in lines
        assert 'queue[0].rcp="3"' in lines
        assert 'queue[0].paused="true"' in lines
        status = dict(line.split("=", 1) for line in (await mta("--dom", "show", "status")).splitlines())
        assert status["status.queue.smtp.rcp"] == '"3"'
        assert status["status.traffic.total.in.rcp"] == '"3"'
        root = ElementTree.fromstring(await mta("--xml", "show", "status"))
        assert root.findtext("data/status/status") == "running"
        rows = (await mta("show", "vmtas")).splitlines()[2:-2]
        assert [row.split()[:3:2] for row in rows] == [["{default}", "3"]]
