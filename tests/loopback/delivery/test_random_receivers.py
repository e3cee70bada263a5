"""Receivers that do anything at any point: what they accepted and what we recorded must agree."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from mta.queue.policy import QueuePolicy
from tests.support.delivery_rig import HASTY, DeliveryRig
from tests.support.scripted_server import CLOSE, HALF_CLOSE, HANG, RESET, Drip, Raw, Script, ScriptedServer

pytestmark = pytest.mark.both_loops

SEEDS = 12

POINTS = ["MAIL", "RCPT", "DATA", "dot", "RSET"]
USUAL = {"MAIL": "250 ok", "RCPT": "250 ok", "DATA": "354 go", "dot": "250 2.0.0 ok", "RSET": "250 ok"}
ODD = [
    "421 4.7.0 bye",
    ("421 4.7.0 bye", CLOSE),
    "450 4.2.1 later",
    "452 4.5.3 too many",
    "550 5.1.1 no",
    "552 5.2.2 full",
    "250 what?",
    "354 what?",
    CLOSE,
    RESET,
    HALF_CLOSE,
    HANG,
    Raw(b"250-a\r\n250 b\r\n"),
    Raw(b"\xff\x00\r\n"),
    Drip(b"250 slowly\r\n"),
    Drip(b"550 5.7.1 slowly no\r\n"),
    ("250 one", "250 two"),
]


def random_script(random: Random) -> Script:
    """Mostly well-behaved, odd at a few random places."""
    points = {}
    for point in POINTS:
        steps = [USUAL[point] if random.random() < 0.85 else random.choice(ODD) for _ in range(40)]
        points[point] = steps
    offers = random.choice([("PIPELINING", "8BITMIME"), ("PIPELINING",), ()])
    return Script(offers=offers, **points)


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_what_receivers_accepted_and_what_we_recorded_agree(seed: int) -> None:
    random = Random(seed)
    queue = QueuePolicy(max_smtp_out=4, retry_after=(3600.0,), retry_recipients_after=3600.0)
    scripts = [random_script(random) for _ in range(30)] + [Script()]
    async with ScriptedServer(*scripts) as server:
        rig = DeliveryRig([server.port], policy=HASTY, queue=queue)
        everybody = []
        async with rig:
            for number in range(60):
                names = [f"m{number}r{n}@example.net" for n in range(random.choice([1, 1, 1, 2, 5]))]
                everybody += names
                rig.admit(*names, body=b"Subject: %d\r\n\r\nx\r\n" % number, domain=f"d{number % 6}.example")
            await rig.until_still()

    accepted = Counter(
        recipient
        for attempt in server.accepted
        if attempt.answer.startswith("2")
        for recipient in attempt.recipients
    )
    records = [(event.type, event.recipient) for event in rig.events if event.type in ("d", "b", "t")]
    delivered = {recipient for kind, recipient in records if kind == "d"}
    failed = {recipient for kind, recipient in records if kind == "b"}
    deferred = {recipient for kind, recipient in records if kind == "t"}
    waiting = {
        rig.store.messages[message].envelope.recipients[index].address for message, index in rig.store.waiting
    }
    # Everybody is in exactly one place, and has exactly one final record.
    assert sorted([*delivered, *failed, *waiting]) == sorted(everybody)
    assert len([kind for kind, _ in records if kind in "db"]) == len(delivered) + len(failed)
    assert deferred <= waiting
    # Nobody counts as delivered whom the receiver did not accept. The other way round it may be, when the
    # answer was lost; each such case is counted as uncertain.
    assert delivered <= set(accepted)
    assert len(set(accepted) - delivered) <= rig.settlement.stats().uncertain
    # Nobody was sent a message twice without an answer that was lost in between.
    assert all(count == 1 for count in accepted.values())
