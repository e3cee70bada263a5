"""The demonstration's verdict: it must see every kind of mistake."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mta.sink.counters import Delivery
from mta.sink.demoreport import Ledger, verdict
from mta.sink.sample import SampleMessage, make_message


def ledger(*messages: SampleMessage) -> Ledger:
    made = Ledger()
    for number, message in enumerate(messages):
        made.sent[message.sender] = message
        made.note(arrival(message), float(number))
    return made


def arrival(message: SampleMessage, data: bytes = b"") -> Delivery:
    wire = data or message.content.replace(b"\r\n.", b"\r\n..")
    return Delivery("1", message.sender, message.recipients, "127.0.0.11", "x", 1, len(wire), wire, "")


def records(*messages: SampleMessage, kind: str = "d") -> list[dict[str, str]]:
    return [{"type": kind, "rcpt": recipient} for message in messages for recipient in message.recipients]


ONE, TWO = make_message(1, "date"), make_message(2, "date")


def test_all_is_well_when_everybody_has_one_end() -> None:
    assert verdict(ledger(ONE, TWO), records(ONE, TWO)) == []


def test_bounce_is_an_end_as_well() -> None:
    made = ledger(ONE)
    made.sent[TWO.sender] = TWO

    assert verdict(made, records(ONE) + records(TWO, kind="b")) == []


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda: (ledger(ONE, TWO), records(ONE)), "no final record"),
        (lambda: (ledger(ONE), records(ONE) + records(ONE, kind="b")), "two final records"),
        (lambda: (ledger(ONE, ONE), records(ONE)), "got their mail twice"),
        (lambda: (Ledger(sent={ONE.sender: ONE}), records(ONE)), "disagree about 1 recipients"),
    ],
)
def test_every_mistake_is_seen(
    spoil: Callable[[], tuple[Ledger, list[dict[str, str]]]], complaint: str
) -> None:
    assert any(complaint in sentence for sentence in verdict(*spoil()))


def test_changed_body_is_seen() -> None:
    made = Ledger(sent={ONE.sender: ONE})
    made.note(arrival(ONE, b"A: b\r\n\r\nanother body\r\n"), 1.0)

    assert any("arrived changed" in sentence for sentence in verdict(made, records(ONE)))


def test_bounces_that_come_back_are_counted_apart() -> None:
    made = ledger(ONE)
    dsn = Delivery("2", "", ("news+1@quickstart.example",), "127.0.0.11", "x", 1, 3, b"dsn", "")
    made.note(dsn, 5.0)

    assert made.bounces == 1
    assert verdict(made, [*records(ONE), {"type": "d", "rcpt": "news+1@quickstart.example"}]) == []


def test_rate_leaves_the_late_tenth_out() -> None:
    made = Ledger(times=[float(n) / 10 for n in range(9)] + [1000.0])

    assert made.rate == pytest.approx(9 / 0.8)
    assert Ledger().rate == 0.0
