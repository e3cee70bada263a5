"""Limits at the door that all workers share: each has what it was lent, and its part of what is divided."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import replace

from mta.config.units import Rate
from mta.service.borrower import GROUP, HEADROOM, SMTP_IN, Doors
from mta.service.leasedscheduler import Demand
from tests.support.inbound import Inbound

GROUPS = """
<source-group app>
    max-smtp-in 10
    reserved-smtp-in 5
</source-group>
<source-group other>
</source-group>
"""


async def test_nobody_enters_before_the_first_lease_and_a_group_no_more_than_its_own() -> None:
    async with Inbound(GROUPS, source="source-group app") as inbound, AsyncExitStack() as stack:
        doors = Doors(inbound.reception, parts=2)
        assert doors.demands() == {SMTP_IN: Demand(0, HEADROOM), f"{GROUP}app": Demand(0, HEADROOM)}
        async with inbound.caller() as early:
            assert early.greeting.startswith("421")

        doors.open({SMTP_IN: 100, f"{GROUP}app": 2})
        greetings = [(await stack.enter_async_context(inbound.caller())).greeting[:3] for _ in range(3)]
        assert greetings == ["220", "220", "421"]
        assert doors.demands()[f"{GROUP}app"] == Demand(2, 2 + HEADROOM)

        doors.open({SMTP_IN: 100, f"{GROUP}app": 0})
        async with inbound.caller() as late:
            assert late.greeting.startswith("421 4.7.0 Too many connections from your group")
        assert doors.demands()[f"{GROUP}app"] == Demand(2, 2 + HEADROOM)


async def test_what_is_divided_is_each_workers_part_and_stays_so_after_a_reload() -> None:
    async with Inbound(GROUPS) as inbound:
        doors = Doors(inbound.reception, parts=2)
        doors.open({SMTP_IN: 100, f"{GROUP}app": 4})
        inbound.snapshot = replace(inbound.snapshot, epoch=2)
        doors.apply()

        rules = inbound.reception.rules()
        assert (rules.epoch, rules.slots) == (2, 100)
        assert rules.reserved == {"app": 3}
        assert rules.group_slots == {"app": 4}


async def test_failed_logins_count_for_all_workers_together() -> None:
    async with Inbound() as inbound:
        Doors(inbound.reception, parts=2)
        lockout, rate = inbound.reception.lockout, Rate(4, 60.0)
        for _ in range(2):
            assert not lockout.is_locked("192.0.2.1", rate, 1.0)
            lockout.failed("192.0.2.1", rate, 1.0)

        assert lockout.is_locked("192.0.2.1", rate, 1.0)
        assert not lockout.is_locked("192.0.2.1", rate, 62.0)
