"""What the demonstration prints at its end, and its verdict: did every message come to its right end?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mta.sink.counters import Delivery
from mta.sink.receiver import Receiver
from mta.sink.record import body_digest, body_of
from mta.sink.sample import DOMAINS, SENDER_DOMAIN, SampleMessage

__all__ = ["Ledger", "print_report", "verdict"]

#: Records shown as examples, by type.
SHOWN = (("d", 2), ("t", 1), ("b", 2), ("r", 1))


@dataclass(slots=True)
class Ledger:
    """What was sent and what arrived; times are seconds of the event loop."""

    sent: dict[str, SampleMessage] = field(default_factory=dict)
    delivered: Counter[str] = field(default_factory=Counter)
    bounces: int = 0
    damaged: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)

    def note(self, delivery: Delivery, now: float) -> None:
        """A message has arrived at a receiver."""
        if delivery.recipients[0].endswith(f"@{SENDER_DOMAIN}"):
            self.bounces += 1
            return
        self.times.append(now)
        message = self.sent.get(delivery.sender)
        if message is None or body_digest(body_of(delivery.data)) != message.digest:
            self.damaged.append(delivery.sender)
        self.delivered.update(delivery.recipients)

    @property
    def rate(self) -> float:
        """Messages delivered a second while most of them went out; retries come later and are left out."""
        busy = sorted(self.times)[: len(self.times) * 9 // 10]
        seconds = busy[-1] - busy[0] if busy else 0.0
        return len(busy) / seconds if seconds > 0 else 0.0


def verdict(ledger: Ledger, records: Sequence[Mapping[str, str]]) -> list[str]:
    """Everything that is wrong, in sentences; empty when all is well."""
    expected = {recipient for message in ledger.sent.values() for recipient in message.recipients}
    ends = {kind: Counter(ours(records, kind)) for kind in "db"}
    wrong = []
    if lost := expected - set(ends["d"]) - set(ends["b"]):
        wrong.append(f"{len(lost)} recipients have no final record, such as {min(lost)}")
    if twice := [name for name, times in (ends["d"] + ends["b"]).items() if times > 1]:
        wrong.append(f"{len(twice)} recipients have two final records, such as {min(twice)}")
    if different := set(ends["d"]) ^ set(ledger.delivered):
        wrong.append(
            f"records and receivers disagree about {len(different)} recipients: {min(different)}, ..."
        )
    if again := [name for name, times in ledger.delivered.items() if times > 1]:
        wrong.append(f"{len(again)} recipients got their mail twice, such as {min(again)}")
    if ledger.damaged:
        wrong.append(f"{len(ledger.damaged)} bodies arrived changed, such as that of {ledger.damaged[0]}")
    return wrong


def ours(records: Sequence[Mapping[str, str]], kind: str) -> list[str]:
    """Recipients of records of one type, without those of the DSNs that come back to us."""
    found = (record["rcpt"] for record in records if record["type"] == kind)
    return [recipient for recipient in found if not recipient.endswith(f"@{SENDER_DOMAIN}")]


def print_report(
    console: Console,
    ledger: Ledger,
    records: Sequence[Mapping[str, str]],
    *,
    receiver: Receiver,
    folder: Path,
    injected_per_second: float,
) -> None:
    """Tables by domain and by virtual MTA, some accounting lines, and the rates."""
    print_domains(console, records)
    print_sources(console, records, receiver)
    print_examples(console, records, folder)
    console.print(
        f"\n{len(ledger.sent):,} messages went in at {injected_per_second:,.0f}/s and out at "
        f"{ledger.rate:,.0f}/s (each on disk before its 250), "
        f"{ledger.bounces:,} bounces came back to their sender.",
        soft_wrap=True,
    )


def print_domains(console: Console, records: Sequence[Mapping[str, str]]) -> None:
    table = Table(
        "domain", "its receiver", "delivered", "deferred", "bounced", title="What became of the mail"
    )
    counts = {
        kind: Counter(recipient.rpartition("@")[2] for recipient in ours(records, kind)) for kind in "dtb"
    }
    for domain in DOMAINS:
        table.add_row(
            domain.name,
            domain.about,
            *(f"{counts[kind][domain.name]:,}" for kind in "dtb"),
        )
    right_align(table, 2)
    console.print(table)


def print_sources(console: Console, records: Sequence[Mapping[str, str]], receiver: Receiver) -> None:
    table = Table(
        "virtual MTA",
        "source",
        "EHLO name",
        "delivered",
        "sessions",
        "peak",
        title="How it left",
    )
    seen = Counter((record["vmta"], record["dlvSourceIp"]) for record in records if record["type"] == "d")
    for (vmta, address), count in sorted(seen.items()):
        client = receiver.clients.get(address)
        table.add_row(
            vmta,
            address,
            client.greeting if client else "",
            f"{count:,}",
            f"{client.connections:,}" if client else "",
            f"{client.peak:,}" if client else "",
        )
    right_align(table, 3)
    console.print(table)


def right_align(table: Table, first: int) -> None:
    for column in table.columns[first:]:
        column.justify = "right"


def print_examples(console: Console, records: Sequence[Mapping[str, str]], folder: Path) -> None:
    console.print(f"\nAccounting records ({folder}/acct-*.csv), some of {len(records):,}:")
    names = ("timeLogged", "rcpt", "dsnStatus", "dsnDiag", "bounceCat", "vmta", "jobId")
    for kind, count in SHOWN:
        for record in [record for record in records if record["type"] == kind][:count]:
            values = (record.get(name, "") for name in names)
            console.print("  " + ",".join((kind, *values)), markup=False, highlight=False, soft_wrap=True)
