"""The reject log: complete for people, bounded for the disk."""

from __future__ import annotations

from mta.ingress.queueid import QueueIds
from mta.ingress.reject import PER_SECOND, Rejects
from mta.message.event import Event, decode_event
from mta.smtp.reply import Reply


class SteppedClock:
    def __init__(self) -> None:
        self.moment = 1_790_000_000.0

    def now(self) -> float:
        return self.moment

    def wall(self) -> float:
        return self.moment


DENIED = Reply(550, "5.7.1 Relaying denied", "5.7.1")
BUSY = Reply(421, "4.3.2 Too many connections", "4.3.2")


def rejects() -> tuple[Rejects, list[Event], SteppedClock]:
    clock = SteppedClock()
    events: list[Event] = []
    log = Rejects(lambda event: events.append(decode_event(event)), clock=clock, queue_ids=QueueIds(clock))
    return log, events, clock


def test_refused_recipient_is_a_record_with_everything_known() -> None:
    log, events, clock = rejects()

    log.recipient(
        DENIED,
        source_ip="192.0.2.1",
        received_on="192.0.2.25",
        source_mta="client.test (192.0.2.1)",
        source_user="app",
        originator="a@example.com",
        recipient="b@example.net",
    )

    event = events[0]
    assert (event.type, event.text, event.dsn_status) == ("R", "5.7.1 Relaying denied", "5.7.1")
    assert event.dsn_diag == "smtp;550 5.7.1 Relaying denied"
    assert (event.originator, event.recipient) == ("a@example.com", "b@example.net")
    assert (event.received_source_ip, event.received_destination_ip) == ("192.0.2.1", "192.0.2.25")
    assert (event.source_mta, event.source_user) == ("client.test (192.0.2.1)", "app")
    assert event.time_logged == clock.moment
    assert event.dsn_action == "failed"
    assert len(event.event_id) == 14


def test_refused_connection_is_a_record_of_its_own_kind() -> None:
    log, events, _ = rejects()

    log.connection(BUSY, source_ip="192.0.2.1", received_on="192.0.2.25")

    assert (events[0].type, events[0].dsn_action) == ("C", "delayed")


def test_a_flood_is_counted_instead_of_written() -> None:
    log, events, clock = rejects()

    for _ in range(10_000):
        log.connection(BUSY, source_ip="192.0.2.1", received_on="192.0.2.25")
    clock.moment += 1
    log.connection(BUSY, source_ip="192.0.2.1", received_on="192.0.2.25")
    log.connection(BUSY, source_ip="192.0.2.1", received_on="192.0.2.25")

    assert len(events) == PER_SECOND + 2
    assert events[-2].text == "4.3.2 Too many connections (9800 more refusals were not recorded)"
    assert events[-1].text == "4.3.2 Too many connections"


def test_nobody_listening_is_fine() -> None:
    clock = SteppedClock()

    Rejects(None, clock=clock, queue_ids=QueueIds(clock)).connection(BUSY, source_ip="", received_on="")
