"""Clients without a slot that wait for one (smtp-await-slot, await-slot, dummy-smtp-await-slot)."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.support.inbound import Caller, Inbound
from tests.support.workshop import Workshop

pytestmark = pytest.mark.both_loops

ONE_SLOT = "total-max-smtp-in 1\nsmtp-await-slot yes"


async def until_in_line(inbound: Inbound | Workshop, count: int = 1) -> None:
    """Wait until so many stand in line."""
    reception = inbound.reception if isinstance(inbound, Inbound) else inbound.worker.listener.reception
    async with asyncio.timeout(10):
        while len(reception.line) != count:
            await asyncio.sleep(0.002)


async def test_who_waits_is_greeted_in_turn_and_what_it_said_meanwhile_is_answered() -> None:
    async with Inbound("total-max-smtp-in 2\nsmtp-await-slot yes") as inbound, AsyncExitStack() as stack:
        first = await stack.enter_async_context(inbound.caller())
        await stack.enter_async_context(inbound.caller())
        second = await stack.enter_async_context(inbound.caller(greeting=False))
        await until_in_line(inbound)
        second.send(b"EHLO second.test\r\n")
        third = await stack.enter_async_context(inbound.caller(greeting=False))
        await until_in_line(inbound, 2)

        await first.ask("QUIT")
        assert [(await second.reply())[:4] for _ in range(2)] == ["220 ", "250-"]
        assert len(inbound.reception.line) == 1
        await second.ask("QUIT")
        assert (await third.reply()).startswith("220")
        assert (await third.hello()).startswith("250")
        assert inbound.partition.events == []


async def test_as_many_wait_as_may_be_in_and_others_are_sent_away() -> None:
    async with Inbound(ONE_SLOT) as inbound, inbound.caller(), inbound.caller(greeting=False):
        await until_in_line(inbound)
        async with inbound.caller() as late:
            assert late.greeting.startswith("421 4.3.2")


async def test_a_stranger_has_half_of_the_line() -> None:
    text = "total-max-smtp-in 2\nsmtp-await-slot yes"
    async with Inbound(text, source="") as inbound, AsyncExitStack() as stack:
        for last in (2, 3):
            await stack.enter_async_context(inbound.caller(address=f"127.0.0.{last}"))
        await stack.enter_async_context(inbound.caller(address="127.0.0.4", greeting=False))
        await until_in_line(inbound)
        again = await stack.enter_async_context(inbound.caller(address="127.0.0.4"))
        await stack.enter_async_context(inbound.caller(address="127.0.0.5", greeting=False))
        await until_in_line(inbound, 2)

        assert again.greeting.startswith("421 4.3.2")


async def test_who_gives_up_waiting_leaves_the_place_to_others() -> None:
    async with Inbound(ONE_SLOT) as inbound, inbound.caller() as first:
        async with inbound.caller(greeting=False):
            await until_in_line(inbound)
        await until_in_line(inbound, 0)
        async with inbound.caller(greeting=False) as patient:
            await until_in_line(inbound)
            await first.ask("QUIT")
            assert (await patient.reply()).startswith("220")


async def test_nobody_waits_longer_than_a_client_would(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mta.ingress.connection.SLOT_PATIENCE", 0.02)
    async with Inbound(ONE_SLOT) as inbound, inbound.caller(), inbound.caller() as second:
        assert second.greeting.startswith("421 4.3.2")
        assert await second.is_closed()
        assert len(inbound.reception.line) == 0


async def test_who_waits_when_the_service_ends_is_told_so() -> None:
    async with Inbound(ONE_SLOT) as inbound, inbound.caller(), inbound.caller(greeting=False) as second:
        await until_in_line(inbound)
        inbound.listener.close()

        assert (await second.reply()).startswith("421 4.3.2")


@pytest.mark.parametrize(("own", "waits"), [("yes", True), ("no", False)])
async def test_a_listener_may_differ_from_the_others(tmp_path: Path, own: str, waits: bool) -> None:
    extra = f"""
total-max-smtp-in 1
smtp-await-slot {"no" if waits else "yes"}
<smtp-listener 127.0.0.1:@PORT@>
await-slot {own}
</smtp-listener>"""
    async with (
        Workshop(tmp_path, extra=extra) as shop,
        Caller(shop.port) as first,
        Caller(shop.second_port, greeting=False) as second,
    ):
        if waits:
            await until_in_line(shop)
            await first.ask("QUIT")
        assert (await second.reply()).startswith("220" if waits else "421 4.3.2")


@pytest.mark.parametrize(("wish", "waits"), [("yes", True), ("no", False)])
async def test_the_dummy_has_a_line_of_its_own(tmp_path: Path, wish: str, waits: bool) -> None:
    extra = (
        f"total-max-smtp-in 1\ndummy-smtp-ip 127.0.0.1\ndummy-smtp-port @PORT@\ndummy-smtp-await-slot {wish}"
    )
    async with (
        Workshop(tmp_path, extra=extra) as shop,
        Caller(shop.second_port) as first,
        Caller(shop.second_port, greeting=False) as second,
    ):
        if waits:
            await first.hello()  # the second one has come in vain by now
            await first.ask("QUIT")
        assert (await second.reply()).startswith("220" if waits else "421 4.3.2")
