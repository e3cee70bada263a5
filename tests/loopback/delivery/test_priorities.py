"""`queue-priority` as a receiver on a socket sees it: who is served when connections are short."""

from __future__ import annotations

import pytest

from mta.queue.policy import EgressSource, QueuePolicy, VmtaPolicy
from tests.support.delivery_rig import DeliveryRig
from tests.support.inbound import snapshot_of
from tests.support.scripted_server import HANG, Script, ScriptedServer

pytestmark = pytest.mark.both_loops

ONE_CONNECTION = VmtaPolicy(sources=(EgressSource("127.0.0.1", "a"),), max_smtp_out=1)


def queue(*lines: str) -> QueuePolicy:
    """What a `<domain>` with these lines makes of a queue."""
    text = "\n".join(("<domain *>", "max-smtp-out 1", *lines, "</domain>"))
    return QueuePolicy.from_settings(snapshot_of(text).effective("example.net", "{default}"))


@pytest.mark.directive("domain queue-priority")
@pytest.mark.directive("domain allow-priority-interruption")
@pytest.mark.parametrize(
    ("line", "priority", "is_given_up"),
    [
        ("allow-priority-interruption yes", 80, True),
        ("allow-priority-interruption no", 80, False),
        ("allow-priority-interruption yes", 50, False),
    ],
)
async def test_a_busy_connection_is_given_up_for_a_queue_of_higher_priority(
    line: str, priority: int, is_given_up: bool
) -> None:
    queues = {"urgent.example": queue(f"queue-priority {priority}")}
    async with (
        ScriptedServer() as server,
        DeliveryRig([server.port], queue=queue(line), vmta=ONE_CONNECTION, queues=queues) as rig,
    ):
        for _ in range(40):
            rig.admit()
        await rig.until(1)
        rig.admit("c@urgent.example", domain="urgent.example")
        events = await rig.until(41)

        place = [attempt.recipients for attempt in server.accepted].index(["c@urgent.example"])
        assert (place < 10) is is_given_up
        assert server.connections == (3 if is_given_up else 2)
        assert {event.type for event in events} == {"d"}


@pytest.mark.directive("domain allow-priority-interruption-during-transfer")
async def test_a_message_on_its_way_is_broken_off_where_that_is_allowed_and_sent_again() -> None:
    queues = {"urgent.example": queue("queue-priority 80")}
    usual = queue("allow-priority-interruption-during-transfer yes")
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
