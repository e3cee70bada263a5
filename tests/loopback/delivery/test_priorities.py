"""`queue-priority` as a receiver on a socket sees it: who is served when connections are short."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mta.queue.policy import EgressSource, QueuePolicy, VmtaPolicy
from tests.support.delivery_rig import DeliveryRig
from tests.support.scripted_server import HANG, Script, ScriptedServer

pytestmark = pytest.mark.both_loops

ONE_CONNECTION = VmtaPolicy(sources=(EgressSource("127.0.0.1", "a"),), max_smtp_out=1)
USUAL = QueuePolicy(max_smtp_out=1)


@pytest.mark.directive("domain queue-priority")
@pytest.mark.directive("domain allow-priority-interruption")
async def test_a_busy_connection_is_given_up_for_a_queue_of_higher_priority() -> None:
    queues = {"urgent.example": replace(USUAL, queue_priority=80)}
    async with (
        ScriptedServer() as server,
        DeliveryRig([server.port], queue=USUAL, vmta=ONE_CONNECTION, queues=queues) as rig,
    ):
        for _ in range(40):
            rig.admit()
        await rig.until(1)
        rig.admit("c@urgent.example", domain="urgent.example")
        events = await rig.until(41)

        place = [attempt.recipients for attempt in server.accepted].index(["c@urgent.example"])
        assert place < 10
        assert server.connections == 3
        assert {event.type for event in events} == {"d"}


@pytest.mark.directive("domain allow-priority-interruption-during-transfer")
async def test_a_message_on_its_way_is_broken_off_where_that_is_allowed_and_sent_again() -> None:
    usual = replace(USUAL, allow_priority_interruption_during_transfer=True)
    queues = {"urgent.example": replace(usual, queue_priority=80)}
    async with (
        ScriptedServer(Script(DATA=HANG), Script()) as server,
        DeliveryRig([server.port], queue=usual, vmta=ONE_CONNECTION, queues=queues) as rig,
    ):
        rig.admit()
        while not server.seen("DATA"):
            await rig.turn()
        rig.admit("c@urgent.example", domain="urgent.example")
        events = await rig.until(2)

        assert [attempt.recipients for attempt in server.accepted] == [
            ["c@urgent.example"],
            ["b@example.net"],
        ]
        assert [event.type for event in events] == ["d", "d"]
        assert rig.store.deferrals == []
