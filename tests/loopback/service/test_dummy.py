"""`dummy-smtp-port`: a port that takes everything and keeps nothing."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from tests.support.inbound import Caller
from tests.support.workshop import Workshop


class Dummy(Workshop):
    """A worker with a dummy on `second_port`."""

    def __init__(self, directory: Path, *lines: str, extra: str = "") -> None:
        text = "\n".join(("dummy-smtp-ip 127.0.0.1", "dummy-smtp-port @PORT@", *lines, extra))
        super().__init__(directory, extra=text)


async def post(call: Caller, *recipients: str) -> str:
    assert (await call.ask("MAIL FROM:<a@example.org>")).startswith("250")
    for recipient in recipients:
        assert (await call.ask(f"RCPT TO:<{recipient}>")).startswith("250")
    return await call.content(b"Subject: hello\r\n\r\nhello\r\n")


async def test_every_message_is_taken_and_none_is_kept(tmp_path: Path) -> None:
    async with Dummy(tmp_path) as shop, Caller(shop.second_port) as call:
        await call.hello()
        for number in (1, 2):
            reply = await post(call, "b@example.com", "c@anywhere.example")
            assert reply.startswith("250 ")
            assert f"DUMMY-{number}" in reply

        now = shop.clock.now()
        assert list(shop.worker.scheduler.queues(now)) == []
        assert shop.worker.partition.stats().messages == 0
        taken = shop.worker.traffic.into.total
        assert (taken.recipients, taken.messages) == (4, 2)


async def test_extensions_are_offered_as_configured(tmp_path: Path) -> None:
    async with Dummy(tmp_path) as shop, Caller(shop.second_port) as call:
        plain = await call.hello()
        assert not any(word in plain for word in ("PIPELINING", "CHUNKING", "VERP", "XMRG", "AUTH"))
    words = ("chunking", "pipelining", "verp", "mailmerge")
    lines = [f"dummy-smtp-has-{word} yes" for word in words]
    async with Dummy(tmp_path, *lines) as shop, Caller(shop.second_port) as call:
        rich = await call.hello()
        assert all(word in rich for word in ("PIPELINING", "CHUNKING", "VERP", "XMRG"))


async def test_traffic_need_not_be_counted(tmp_path: Path) -> None:
    async with Dummy(tmp_path, "dummy-smtp-update-stats no") as shop, Caller(shop.second_port) as call:
        await call.hello()
        await post(call, "b@example.com")

        assert shop.worker.traffic.into.total.messages == 0


async def test_answer_may_take_its_time(tmp_path: Path) -> None:
    async with Dummy(tmp_path, "dummy-smtp-latency 60") as shop, Caller(shop.second_port) as call:
        await call.hello()
        began = asyncio.get_running_loop().time()
        await post(call, "b@example.com")

        assert asyncio.get_running_loop().time() - began >= 0.059


async def test_those_on_the_list_are_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    refused = tmp_path / "refused"
    refused.write_text("Bad@Example.com\n\nworse.example\n")
    lines = (f"dummy-smtp-blacklist {refused}", "dummy-smtp-log-blacklist yes")
    with caplog.at_level("INFO"):
        async with Dummy(tmp_path, *lines) as shop, Caller(shop.second_port) as call:
            await call.hello()
            assert await call.codes(
                "MAIL FROM:<a@example.org>",
                "RCPT TO:<bad@example.com>",
                "RCPT TO:<good@example.com>",
                "RCPT TO:<x@WORSE.example>",
            ) == ["250 2.1.0", "550 5.1.1", "250 2.1.5", "550 5.1.1"]
            assert (await call.content(b"\r\nhello\r\n")).startswith("250")
    assert "dummy=refused recipient='bad@example.com'" in caplog.text


async def test_a_share_of_those_on_the_list_is_refused(tmp_path: Path) -> None:
    refused = tmp_path / "refused"
    refused.write_text("example.com\n")
    lines = (
        f"dummy-smtp-blacklist {refused}",
        "dummy-smtp-blacklist-bounce-method random",
        "dummy-smtp-blacklist-bounce-percent 30",
    )
    async with Dummy(tmp_path, *lines) as shop, Caller(shop.second_port) as call:
        await call.hello()
        await call.codes("MAIL FROM:<a@example.org>")
        codes = Counter(
            [code for number in range(120) for code in await call.codes(f"RCPT TO:<r{number}@example.com>")]
        )

    # Refusals count as faults, and too many of them end the connection: what came before is the sample.
    assert codes["250 2.1.5"] > codes["550 5.1.1"] > 0


async def test_mail_of_ours_may_go_to_the_dummy(tmp_path: Path) -> None:
    async with Dummy(
        tmp_path, extra="<domain example.com>\nsmtp-hosts [127.0.0.1]:@PORT@\n</domain>"
    ) as shop:
        await shop.submit()
        (event,) = await shop.until_events(1, "d")

        assert "DUMMY-1" in event.dsn_diag
        assert shop.deliveries == []
