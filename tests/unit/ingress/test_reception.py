"""Slots, rules and the memory for domains."""

from __future__ import annotations

import asyncio

import pytest

from mta.clock import SystemClock
from mta.config.snapshot import Snapshot
from mta.ingress.accept import Acceptance
from mta.ingress.queueid import QueueIds
from mta.ingress.reception import Reception
from mta.ingress.reject import Rejects
from mta.ingress.relaying import SourcePolicy
from tests.support.inbound import snapshot_of
from tests.support.memory_partition import MemoryPartition


class Visitor:
    def come_in(self) -> None: ...

    def drain(self) -> None: ...

    def abort(self) -> None: ...


def reception_of(snapshot: Snapshot) -> Reception:
    clock = SystemClock()
    queue_ids = QueueIds(clock)
    partition = MemoryPartition()
    return Reception(
        snapshot=lambda: snapshot,
        acceptance=Acceptance(
            snapshot=lambda: snapshot,
            partition=partition,
            clock=clock,
            queue_ids=queue_ids,
            admitted=lambda envelope, message, size: None,
        ),
        rejects=Rejects(None, clock=clock, queue_ids=queue_ids),
        clock=clock,
        loop=asyncio.get_running_loop(),
        host_name="system.test",
    )


TRUSTED = SourcePolicy(allow_relaying=True)
STRANGER = SourcePolicy()


async def test_all_slots_taken_is_421_until_somebody_leaves() -> None:
    reception = reception_of(snapshot_of("total-max-smtp-in 3"))
    visitors = [Visitor() for _ in range(3)]
    for visitor in visitors:
        assert reception.enter(visitor, "192.0.2.1", TRUSTED) is None

    refusal = reception.enter(Visitor(), "192.0.2.2", TRUSTED)
    assert refusal is not None
    assert (refusal.code, refusal.enhanced) == (421, "4.3.2")
    reception.leave(visitors[0], "192.0.2.1", "")

    assert reception.enter(Visitor(), "192.0.2.2", TRUSTED) is None
    assert reception.is_crowded


async def test_one_stranger_cannot_take_more_than_half() -> None:
    reception = reception_of(snapshot_of("total-max-smtp-in 4"))
    for _ in range(2):
        assert reception.enter(Visitor(), "192.0.2.1", STRANGER) is None

    refusal = reception.enter(Visitor(), "192.0.2.1", STRANGER)

    assert refusal is not None
    assert (refusal.code, refusal.enhanced) == (421, "4.7.0")
    assert reception.enter(Visitor(), "192.0.2.2", STRANGER) is None
    assert reception.enter(Visitor(), "192.0.2.1", TRUSTED) is None


GROUPS = """
total-max-smtp-in 5
<source-group partners>
    max-smtp-in 2
</source-group>
<source-group own>
    reserved-smtp-in 2
</source-group>
"""


async def test_a_group_takes_no_more_slots_than_its_limit() -> None:
    reception = reception_of(snapshot_of(GROUPS))
    partner = SourcePolicy(allow_relaying=True, group="partners")
    visitors = [Visitor(), Visitor()]
    assert reception.enter(visitors[0], "192.0.2.1", partner) is None
    assert reception.enter(visitors[1], "192.0.2.2", partner) is None

    refusal = reception.enter(Visitor(), "192.0.2.3", partner)
    assert refusal is not None
    assert "from your group" in refusal.text
    assert reception.enter(Visitor(), "192.0.2.3", TRUSTED) is None
    reception.leave(visitors[0], "192.0.2.1", "partners")
    assert reception.enter(Visitor(), "192.0.2.3", partner) is None


async def test_reserved_slots_are_kept_free_for_their_group() -> None:
    reception = reception_of(snapshot_of(GROUPS))
    own = SourcePolicy(allow_relaying=True, group="own")
    for _ in range(3):
        assert reception.enter(Visitor(), "192.0.2.1", TRUSTED) is None

    assert reception.enter(Visitor(), "192.0.2.1", TRUSTED) is not None
    assert reception.enter(Visitor(), "192.0.2.1", own) is None
    assert reception.enter(Visitor(), "192.0.2.1", TRUSTED) is not None
    assert reception.enter(Visitor(), "192.0.2.1", own) is None
    assert reception.enter(Visitor(), "192.0.2.1", own) is not None


async def test_leaving_twice_counts_once_and_nothing_is_kept() -> None:
    reception = reception_of(snapshot_of())
    visitor = Visitor()
    reception.enter(visitor, "192.0.2.1", STRANGER)

    reception.leave(visitor, "192.0.2.1", "")
    reception.leave(visitor, "192.0.2.1", "")

    assert reception.empty.is_set()
    assert not reception._addresses
    assert not reception._groups


async def test_source_without_service_gets_554() -> None:
    refusal = reception_of(snapshot_of()).enter(Visitor(), "192.0.2.1", SourcePolicy(is_served=False))

    assert refusal is not None
    assert refusal.code == 554


async def test_clients_with_the_same_settings_share_a_policy() -> None:
    rules = reception_of(snapshot_of()).rules()

    assert rules.policy("192.0.2.1", "") is rules.policy("192.0.2.2", "")
    assert rules.host_name == "mx.test"


@pytest.mark.parametrize(
    ("domain", "is_valid"),
    [(b"example.com", True), (b"-x.com", False), (b"a..b", False), (b"1.2.3.4", False)],
)
async def test_domains_are_judged_once(domain: bytes, is_valid: bool) -> None:
    reception = reception_of(snapshot_of())

    assert reception.knows_domain(domain) is is_valid
    assert reception.knows_domain(domain) is is_valid


async def test_remembered_domains_are_bounded() -> None:
    reception = reception_of(snapshot_of())

    for number in range(20_000):
        reception.knows_domain(b"d%d.test" % number)

    assert len(reception._domains) <= 4096
