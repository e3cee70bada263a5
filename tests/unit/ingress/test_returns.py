"""Failures go back to the sender: when, to whom, together, and never without bound."""

from __future__ import annotations

import asyncio
import email
import email.policy
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mta.config.load import load_text
from mta.config.snapshot import Snapshot
from mta.errors import SpoolCorrupt, SpoolFull
from mta.ingress import returns as module
from mta.ingress.accept import Acceptance
from mta.ingress.queueid import QueueIds
from mta.ingress.returns import Returns
from mta.message.envelope import Envelope, Notify, Recipient, Ret
from mta.message.event import Event
from tests.support.memory_partition import MemoryPartition

ORIGINAL = b"Subject: hello\r\n\r\nthe body\r\n"
CONFIGURATION = """
host-name mta.example.com
<virtual-mta v1>
    smtp-source-host 127.0.0.2 v1.example.com
</virtual-mta>
<domain quiet.example>
    deliver-local-dsn no
</domain>
<domain *>
    bounce-after 2d
</domain>
"""


class StandingClock:
    moment = 1_795_219_200.0

    def now(self) -> float:
        return self.moment

    wall = now


@dataclass
class Desk:
    """Returns in front of a real Acceptance whose spool is in memory."""

    clock: StandingClock = field(default_factory=StandingClock)
    configuration: str = CONFIGURATION
    loads: int = 0
    broken: bool = False

    def __post_init__(self) -> None:
        loop = asyncio.get_running_loop()
        loaded = load_text(self.configuration)
        assert loaded.snapshot is not None, loaded.problems
        snapshot: Snapshot = loaded.snapshot
        self.partition = MemoryPartition(loop)
        ids = QueueIds(self.clock)
        acceptance = Acceptance(
            snapshot=lambda: snapshot,
            partition=self.partition,
            clock=self.clock,
            queue_ids=ids,
            admitted=lambda envelope, message, size: None,
        )
        self.returns = Returns(
            accept=acceptance.accept,
            load=self.load,
            snapshot=lambda: snapshot,
            queue_ids=ids,
            clock=self.clock,
            loop=loop,
        )

    def load(self, message: int) -> bytes:
        self.loads += 1
        if self.broken:
            raise SpoolCorrupt("damaged")
        return ORIGINAL

    async def settle(self) -> None:
        """Let the loop work until nothing is under way any more."""
        for _ in range(400):
            await asyncio.sleep(0)


@pytest.fixture
async def desk() -> Desk:
    return Desk()


def envelope(*recipients: Recipient, **fields: object) -> Envelope:
    values: dict[str, object] = {"vmta": "v1", "originator": "alice@example.com", **fields}
    return Envelope(
        "Q1",
        StandingClock.moment - 60,
        recipients=recipients or (Recipient("bob@example.net", "example.net"),),
        **values,  # type: ignore[arg-type]
    )


def event(recipient: str = "bob@example.net", action: str = "failed") -> Event:
    return Event(
        "b", "e1", StandingClock.moment, recipient=recipient, dsn_action=action, dsn_status="5.1.1",
        dsn_diag="smtp;550 5.1.1 unknown", dsn_mta="mx.example.net (192.0.2.1)",
    )  # fmt: skip


async def test_a_failure_comes_in_again_as_mail_to_the_sender(desk: Desk) -> None:
    desk.returns(envelope(), 0, event(), 7)
    await desk.settle()

    (stored,) = desk.partition.envelopes
    assert stored.originator == ""
    assert [(one.address, one.notify) for one in stored.recipients] == [("alice@example.com", Notify.NEVER)]
    assert stored.vmta == "v1"
    assert stored.source_type == "dsn"
    message = email.message_from_bytes(desk.partition.bodies[0], policy=email.policy.SMTP)
    assert message.get_content_type() == "multipart/report"
    assert b"X-MTA-VirtualMTA: v1\r\n" in desk.partition.bodies[0]
    assert b"Subject: hello\r\n" in desk.partition.bodies[0]
    assert b"the body" not in desk.partition.bodies[0]
    assert desk.returns.stats() == (1, 0, 0)


async def test_recipients_that_fail_in_one_turn_share_a_report(desk: Desk) -> None:
    several = envelope(*(Recipient(f"r{number}@example.net", "example.net") for number in range(3)))

    for number in range(3):
        desk.returns(several, number, event(f"r{number}@example.net"), 7)
    desk.returns(several, 0, event("r0@example.net"), 8)
    await desk.settle()

    assert [body.count(b"Final-Recipient") for body in desk.partition.bodies] == [3, 1]
    assert desk.loads == 2


async def test_a_later_failure_of_the_same_message_has_a_report_of_its_own(desk: Desk) -> None:
    desk.returns(envelope(), 0, event(), 7)
    await desk.settle()
    desk.returns(envelope(), 0, event(), 7)
    await desk.settle()

    assert len(desk.partition.stored) == 2


async def test_very_many_recipients_are_spread_over_several_reports(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RECIPIENT_LIMIT", 2)

    for _ in range(5):
        desk.returns(envelope(), 0, event(), 7)
    await desk.settle()

    assert [body.count(b"Final-Recipient") for body in desk.partition.bodies] == [2, 2, 1]


@pytest.mark.parametrize(
    "silent",
    [
        envelope(originator=""),
        envelope(suppress_dsn=True),
        envelope(Recipient("bob@example.net", "example.net", Notify.NEVER)),
        envelope(Recipient("bob@example.net", "example.net", Notify.DELAY)),
        envelope(Recipient("bob@quiet.example", "quiet.example")),
    ],
    ids=["null sender", "suppressed", "never", "only delays", "quiet domain"],
)
async def test_nobody_is_told_who_does_not_want_to_know(silent: Envelope, desk: Desk) -> None:
    desk.returns(silent, 0, event(), 7)
    await desk.settle()

    assert desk.partition.stored == []
    assert desk.loads == 0


async def test_a_report_about_a_report_is_never_made(desk: Desk) -> None:
    desk.returns(envelope(), 0, event(), 7)
    await desk.settle()

    desk.returns(desk.partition.envelopes[0], 0, event("alice@example.com"), 1)
    await desk.settle()

    assert len(desk.partition.stored) == 1


async def test_relayed_is_reported_to_those_who_asked_for_success(desk: Desk) -> None:
    asked = envelope(Recipient("bob@example.net", "example.net", Notify.SUCCESS))

    desk.returns(asked, 0, event(action="relayed"), 7)
    desk.returns(envelope(), 0, event(action="relayed"), 8)
    desk.returns(asked, 0, event(action="delivered"), 9)
    await desk.settle()

    (body,) = desk.partition.bodies
    assert b"Action: relayed\r\n" in body


async def test_a_delay_is_reported_as_often_as_the_operator_says() -> None:
    desk = Desk(configuration=CONFIGURATION.replace("bounce-after 2d", "notify-of-delay-every 1h"))
    asked = envelope(Recipient("bob@example.net", "example.net", Notify.DELAY))
    for _ in range(4):
        desk.clock.moment += 1800
        desk.returns(asked, 0, event(action="delayed"), 7)
        await desk.settle()

    assert len(desk.partition.bodies) == 2

    never = Desk(configuration=CONFIGURATION.replace("bounce-after 2d", "notify-of-delay-every never"))
    never.clock.moment += 86400
    never.returns(asked, 0, event(action="delayed"), 7)
    await never.settle()
    assert never.partition.bodies == []


async def test_a_delay_is_reported_once_after_four_hours(desk: Desk) -> None:
    asked = envelope(Recipient("bob@example.net", "example.net", Notify.DELAY))

    desk.returns(asked, 0, event(action="delayed"), 7)
    await desk.settle()
    assert desk.partition.stored == []

    desk.clock.moment += 4 * 3600
    desk.returns(asked, 0, event(action="delayed"), 7)
    desk.returns(asked, 0, event(action="delayed"), 7)
    await desk.settle()

    (body,) = desk.partition.bodies
    assert body.count(b"Action: delayed\r\n") == 1
    assert b"Will-Retry-Until: Sun, 22 Nov 2026 23:59:00 +0000\r\n" in body


async def test_ret_full_returns_the_body(desk: Desk) -> None:
    desk.returns(envelope(ret=int(Ret.FULL)), 0, event(), 7)
    await desk.settle()

    assert b"the body" in desk.partition.bodies[0]


async def test_a_damaged_message_is_reported_without_its_header(desk: Desk) -> None:
    desk.broken = True

    desk.returns(envelope(), 0, event(), 7)
    await desk.settle()

    assert b"Final-Recipient: rfc822;bob@example.net\r\n" in desk.partition.bodies[0]


async def test_an_internationalised_sender_needs_smtputf8(desk: Desk) -> None:
    desk.returns(envelope(originator="grün@example.com"), 0, event(), 7)
    await desk.settle()

    (stored,) = desk.partition.envelopes
    assert stored.is_smtputf8
    assert stored.is_8bit


async def test_a_virtual_mta_that_is_gone_does_not_stop_the_report(desk: Desk) -> None:
    desk.returns(envelope(vmta="gone"), 0, event(), 7)
    await desk.settle()

    assert desk.partition.envelopes[0].vmta == "{default}"


async def test_a_full_spool_makes_reports_wait(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SPOOL_PAUSE", 0.0)
    desk.partition.refuses = SpoolFull("no room")
    for message in range(3):
        desk.returns(envelope(), 0, event(), message)
    await desk.settle()
    assert desk.returns.stats().waiting == 3

    desk.partition.refuses = None
    await desk.settle()
    await desk.settle()

    assert desk.returns.stats() == (3, 0, 0)


async def test_an_outcome_is_settled_when_its_report_is_on_disk(desk: Desk) -> None:
    settled: list[int] = []
    desk.partition.is_held = True
    several = envelope(*(Recipient(f"r{number}@example.net", "example.net") for number in range(2)))

    for number in range(2):
        desk.returns(several, number, event(), 7, lambda number=number: settled.append(number))
    await desk.settle()
    assert settled == []

    desk.partition.commit()
    assert settled == [0, 1]


async def test_an_outcome_without_a_report_is_settled_at_once(desk: Desk) -> None:
    settled: list[int] = []

    desk.returns(envelope(originator=""), 0, event(), 7, lambda: settled.append(7))

    assert settled == [7]


async def test_where_the_disk_stays_full_outcomes_are_settled_because_they_make_room(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    settled: list[int] = []
    desk.partition.refuses = SpoolFull("no room")

    desk.returns(envelope(), 0, event(), 7, lambda: settled.append(7))
    await desk.settle()
    assert settled == []

    monkeypatch.setattr(module, "SPOOL_PAUSE", 0.0)
    desk.returns(envelope(), 0, event(), 8, lambda: settled.append(8))
    desk.returns._go_on()
    await desk.settle()
    assert 7 in settled
    assert desk.returns.stats().waiting == 2


async def test_a_flood_is_bounded_and_counted(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OUTBOX_LIMIT", 10)

    for message in range(25):
        desk.returns(envelope(), 0, event(), message)
    await desk.settle()

    assert desk.returns.stats() == (10, 15, 0)
    assert repr(desk.returns) == "<Returns sent=10 dropped=15 waiting=0>"


async def test_reports_reach_the_spool_a_few_at_a_time(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OPEN_LIMIT", 4)
    desk.partition.is_held = True
    for message in range(10):
        desk.returns(envelope(), 0, event(), message)
    await desk.settle()

    assert len(desk.partition.waiting) == 4

    for _ in range(3):
        desk.partition.commit()
        await desk.settle()
    assert len(desk.partition.stored) == 10


async def test_closing_lets_go_of_what_waits(desk: Desk) -> None:
    desk.partition.refuses = SpoolFull("no room")
    desk.returns(envelope(), 0, event(), 7)
    await desk.settle()

    desk.returns.close()

    assert desk.returns.stats().waiting == 0


async def test_everything_goes_to_the_spool_before_its_last_commit(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "OPEN_LIMIT", 2)
    desk.partition.is_held = True
    for message in range(10):
        desk.returns(envelope(), 0, event(), message)

    desk.returns.flush()

    assert len(desk.partition.waiting) == 10


async def test_the_operators_words_come_from_the_configuration_and_its_file(tmp_path: Path) -> None:
    template = tmp_path / "failed.txt"
    template.write_text("Sorry, ${recipient} is unknown here (retry ${retryAfter}).\n")
    words = f"""
custom-dsn-from-header "Post <post@example.com>"
dsn-failed-subject-template "Back: ${{subject}}"
dsn-failed-body-template-from {template}
<domain plain.example>
    dsn-format plain-text
    retry-after 7m
</domain>
"""
    desk = Desk(configuration=CONFIGURATION + words)
    both = envelope(
        Recipient("bob@example.net", "example.net"), Recipient("eve@plain.example", "plain.example")
    )
    desk.returns(both, 0, event(), 7)
    desk.returns(both, 1, event("eve@plain.example"), 7)
    await desk.settle()

    report, plain = (
        email.message_from_bytes(body, policy=email.policy.SMTP) for body in desk.partition.bodies
    )
    assert report["From"] == "Post <post@example.com>"
    assert report["Subject"] == "Back: hello"
    assert report.get_content_type() == "multipart/report"
    assert plain.get_content_type() == "text/plain"
    assert b"Sorry, eve@plain.example is unknown here (retry 7m)." in desk.partition.bodies[1]


async def test_a_template_that_is_gone_leaves_our_own_words(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    desk = Desk(configuration=f"{CONFIGURATION}\ndsn-failed-body-template-from {tmp_path}/none\n")
    desk.returns(envelope(), 0, event(), 7)
    await desk.settle()

    assert "our own words are used" in caplog.text
    assert b"could not be delivered" in desk.partition.bodies[0]
