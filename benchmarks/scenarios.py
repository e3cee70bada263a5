"""What is measured: loads, who takes part, and what each group of loads is about."""

from __future__ import annotations

import enum
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

__all__ = ["GROUPS", "Contest", "Dkim", "Entry", "Kind", "Server", "Shape", "Tools", "chosen", "contests"]


class Kind(enum.Enum):
    """Which way of the mail is timed."""

    RELAY = "relay"  # from the first injection to the last message at the receiver
    BACKLOG = "backlog"  # accepted while nothing may leave, then let go: two rates


class Server(enum.Enum):
    """Whom we measure."""

    MTA = "mta"
    POSTFIX = "postfix"
    HARAKA = "haraka"
    EXIM = "exim"
    OPENSMTPD = "opensmtpd"


class Tools(enum.Enum):
    """Who injects and who receives."""

    OURS = "ours"  # benchmarks.source and benchmarks.receiver
    POSTFIX = "postfix"  # smtp-source and smtp-sink


class Dkim(enum.Enum):
    """How our server signs."""

    OFF = ""
    RSA = "rsa-2048"
    ED25519 = "ed25519"


@dataclass(frozen=True, slots=True)
class Shape:
    """A load and its receiver: octets of a message, sessions that inject at a time, recipients' domains.

    `delay_ms` is what the receiver waits before the reply to the final dot (`delay_at` "dot") or before each
    turn of replies ("each": a round trip).
    """

    group: str
    name: str
    kind: Kind = Kind.RELAY
    size: int = 10_240
    sessions: int = 20
    domains: int = 1
    delay_ms: int = 0
    delay_at: str = "dot"
    tools: Tools = Tools.OURS
    is_piped: bool = False  # the generator pipelines: it costs less CPU, where that would be the bottleneck


@dataclass(frozen=True, slots=True)
class Entry:
    """One that takes part in a contest. `connections` go out at most; for Postfix 0 leaves its defaults."""

    label: str
    count: int
    server: Server = Server.MTA
    workers: int = 1
    is_pinned: bool = False  # each worker on a processor of its own
    connections: int = 20
    dkim: Dkim = Dkim.OFF
    is_tls: bool = False
    is_synced: bool = True


@dataclass(frozen=True, slots=True)
class Contest:
    """A shape and everybody who takes it, run by turns."""

    shape: Shape
    entries: tuple[Entry, ...]

    def name(self, entry: Entry) -> str:
        return f"{self.shape.group}/{self.shape.name} {entry.label}"


#: Each group is one plot: its title and what it shows.
GROUPS = {
    "size": ("Size of the message", "One recipient, one domain; 20 or 200 sessions inject."),
    "domains": ("Number of domains", "10 KB, 20 sessions; every domain is a queue of its own for us."),
    "latency": ("Slow receivers", "10 KB, 100 connections; the receiver waits 100 ms, or not at all (none)."),
    "tls": ("TLS to the receiver", "10 KB, 20 sessions; STARTTLS, sessions kept open."),
    "dkim": ("DKIM signatures", "10 KB, 200 sessions, 40 domains; one signature a message."),
    "sync": ("What durability costs", "10 KB, 200 sessions, with and without fdatasync."),
    "workers": ("One worker and several", "Relay end to end, and drains of a backlog with pinned workers."),
    "backlog": ("Backlog", "10 KB; accepted while nothing may leave, then drained."),
    "coldstart": ("Cold start", "A spool full of mail, and the service started on it."),
}  # fmt: skip
#: Postfix is slower by an order of magnitude: fewer messages take the same time.
PEER_SHARE = 5
#: `--short`: enough to see that everything runs.
SHORT_SHARE = 40
#: What `--short` leaves out: nothing that another one does not run as well.
NOT_SHORT = (
    *("latency/none", "size/1KB", "size/10KB-200", "domains/1 ", "domains/100 ", "domains/1,000 "),
    *(
        "workers/drain 1 KB",
        "workers/drain 10 KB ed25519",
        "10KB-20 postfix tuned",
        "domains/10,000 postfix tuned",
    ),
    "100KB-20 postfix tuned",
)


def contests(
    *, cpus: int, has_tools: bool, peers: Collection[Server], short: bool, is_whole: bool = False
) -> list[Contest]:
    """Everything that can be measured here, with the peers that are installed, in the order of the table.

    `short`: few messages, and without what another scenario runs as well, unless `is_whole`.
    """
    found = [
        *sizes(has_tools),
        *domains(),
        *latencies(),
        tls(),
        dkim(),
        sync(),
        *workers(cpus),
        backlog(),
    ]
    present = {Server.MTA, *peers}
    found = [only(contest, lambda _, entry: entry.server in present) for contest in found]
    if short:
        found = [shortened(contest) for contest in found]
    if short and not is_whole:
        found = [only(contest, lambda name, _: not any(no in name for no in NOT_SHORT)) for contest in found]
    return [contest for contest in found if contest.entries]


def only(contest: Contest, wanted: object) -> Contest:
    """The contest with those entries of which `wanted(name, entry)` says so."""
    assert callable(wanted)
    entries = tuple(entry for entry in contest.entries if wanted(contest.name(entry), entry))
    return Contest(contest.shape, entries)


def shortened(contest: Contest) -> Contest:
    return Contest(
        contest.shape,
        tuple(replace(entry, count=max(100, entry.count // SHORT_SHARE)) for entry in contest.entries),
    )


def against_postfix(count: int) -> tuple[Entry, ...]:
    """Us, Postfix with its defaults, and Postfix with the settings recommended for a relay under load."""
    fewer = count // PEER_SHARE
    return (
        Entry("mta", count),
        Entry("postfix", fewer, Server.POSTFIX, connections=0),
        Entry("postfix tuned", fewer, Server.POSTFIX, connections=50),
    )


def sizes(has_tools: bool) -> list[Contest]:
    tools = Tools.POSTFIX if has_tools else Tools.OURS

    def shape(name: str, size: int, sessions: int) -> Shape:
        return Shape("size", name, size=size, sessions=sessions, tools=tools)

    others = (
        Entry("haraka", 1_200, Server.HARAKA, connections=100),
        Entry("haraka 2 nodes", 1_200, Server.HARAKA, workers=2, connections=100),
        Entry("exim", 800, Server.EXIM),
        Entry("opensmtpd", 200, Server.OPENSMTPD, connections=50),
    )
    return [
        Contest(shape("1KB-20", 1_024, 20), against_postfix(16_000)),
        Contest(shape("1KB-200", 1_024, 200), against_postfix(16_000)),
        Contest(shape("10KB-20", 10_240, 20), (*against_postfix(20_000), *others)),
        Contest(shape("10KB-200", 10_240, 200), against_postfix(20_000)),
        Contest(shape("100KB-20", 102_400, 20), against_postfix(5_000)),
    ]


def domains() -> list[Contest]:
    return [
        Contest(Shape("domains", f"{number:,}", domains=number), against_postfix(count))
        for number, count in ((1, 12_000), (100, 12_000), (1_000, 15_000), (10_000, 12_000))
    ]


def latencies() -> list[Contest]:
    entries = (
        Entry("mta", 10_000, connections=100),
        Entry("postfix tuned", 2_000, Server.POSTFIX, connections=100),
    )
    quick = tuple(replace(entry, count=entry.count * 3 // 2) for entry in entries)
    return [
        Contest(Shape("latency", "none"), quick),
        *(
            Contest(Shape("latency", text, delay_ms=100, delay_at=at), entries)
            for text, at in (("final dot", "dot"), ("every reply", "each"))
        ),
    ]


def tls() -> Contest:
    plain = (Entry("mta", 15_000), Entry("postfix", 3_000, Server.POSTFIX, connections=0))
    secret = tuple(replace(entry, label=f"{entry.label} TLS", is_tls=True) for entry in plain)
    return Contest(Shape("tls", "10KB-20"), (*plain, *secret))


def dkim() -> Contest:
    entries = []
    for kind in (Dkim.OFF, Dkim.ED25519, Dkim.RSA):
        alone = Entry(kind.value or "unsigned", 15_000, dkim=kind)
        entries += [alone, replace(alone, label=f"{alone.label} 2 w", workers=2)]
    return Contest(Shape("dkim", "10KB-200", sessions=200, domains=40), tuple(entries))


def sync() -> Contest:
    entries = Entry("synced", 15_000), Entry("not synced", 15_000, is_synced=False)
    return Contest(Shape("sync", "10KB-200", sessions=200), entries)


def workers(cpus: int) -> list[Contest]:
    """Drains for the scaling alone: no generator runs then, and a light receiver takes little CPU."""
    numbers = sorted({1, 2, cpus})
    relaying = tuple(Entry(f"{number} w", 15_000, workers=number) for number in numbers)

    def drain(name: str, count: int, dkim: Dkim, size: int) -> Contest:
        shape = Shape("workers", name, Kind.BACKLOG, size=size, sessions=100, domains=40, is_piped=True)
        entries = tuple(
            Entry(f"{number} w", count, workers=number, is_pinned=True, dkim=dkim)
            for number in numbers
            if number <= cpus
        )
        return Contest(shape, entries)

    return [
        Contest(Shape("workers", "relay 10 KB", sessions=200, domains=40), relaying),
        drain("drain 1 KB", 20_000, Dkim.OFF, 1_024),
        drain("drain 10 KB ed25519", 10_000, Dkim.ED25519, 10_240),
        drain("drain 10 KB rsa", 8_000, Dkim.RSA, 10_240),
    ]


def backlog() -> Contest:
    shape = Shape("backlog", "10 KB", Kind.BACKLOG)
    entries = (
        Entry("mta", 20_000, connections=100),
        Entry("postfix", 4_000, Server.POSTFIX, connections=0),
        Entry("exim", 1_000, Server.EXIM),
    )
    return Contest(shape, entries)


def chosen(all_: Sequence[Contest], words: Sequence[str]) -> list[Contest]:
    """Those entries whose name contains one of the words (all without words)."""
    if not words:
        return list(all_)
    found = [only(contest, lambda name, _: any(word in name for word in words)) for contest in all_]
    return [contest for contest in found if contest.entries]
