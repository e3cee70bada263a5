"""Exact accounting: what was promised held against what happened. Pure.

The service promises for every recipient whose message got 250: exactly one fate, delivered or bounced, and
an accounting record of it. It doesn't promise to deliver once. A receiver's 250 that the service has not yet
written down when it dies is forgotten, and the message is sent again. So a second copy is rightful in
exactly these cases, each of them about the kill that ended the first copy's connection:

    in flight   the service never read the receiver's 250, the last one said on its connection: the kernel
                tells, because a socket closed with unread bytes in it resets the connection
    window      the receiver's 250 left it at most WINDOW seconds before the kill
    stall       the receiver said 250 longer before, but no earlier than the moment until which, by the
                service's own published word, outcomes were on disk: the disk was slower than the window
    starved     the receiver said 250 longer before, but for so much of that time the kernel gave the worker
                no processor that it had no more than the window to itself: others kept the machine busy

    handover    with several workers: the owner of a share stored and delivered it, and was killed before the
                worker that accepts the message knew: it was acknowledged only after that kill

In any other case a second copy is a breach, and so is one whose first delivery stands in the accounting
(it was on disk, and the recipient was sent to again).
"""

from __future__ import annotations

import bisect
import enum
import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

__all__ = ["WINDOW", "Arrival", "Cause", "Duplicate", "Evidence", "Kill", "Verdict", "judge", "percentile"]

#: Seconds that an outcome may take from the receiver's 250 to the disk (p99, see docs/reliability.md).
WINDOW = 0.050
#: Two processes look at one clock, one of them a little later.
_BLUR = 0.002
#: The receiver shares its processor with all the others.
_SEEN_LATE = 2.0


class Arrival(NamedTuple):
    """The receiver said 250 for a recipient. `at` is epoch seconds, `connection` the receiver's number.

    `left` is when the 250 had certainly been written to the socket. A receiver that shares its process with
    the load, and its processors with the service, may decide and not write for a long time.
    """

    at: float
    recipient: str
    connection: int
    left: float = 0.0

    @property
    def said(self) -> float:
        """From when on the service can be expected to know."""
        return max(self.at, self.left)


class Kill(NamedTuple):
    """`at` is when the worker was gone; `safe_until` the moment until which its outcomes were on disk.

    `waits` are (moment, seconds) in order: how long the worker had stood in the queue for a processor by
    then, since it began. `struck` is when the signal was sent, where that is known: nothing of a process
    runs after it, and who sent it may be late with looking.
    """

    at: float
    role: str
    safe_until: float
    waits: tuple[tuple[float, float], ...] = ()
    struck: float = math.inf

    def since(self, moment: float) -> float:
        """Seconds from `moment` to the worker's last."""
        return min(self.at, self.struck) - moment

    def waited_since(self, moment: float) -> float:
        """Seconds since `moment` for which the worker wanted a processor and got none; 0 when not known."""
        place = bisect.bisect_right(self.waits, (moment, math.inf)) - 1
        return self.waits[-1][1] - self.waits[place][1] if place >= 0 else 0.0


class Cause(enum.Enum):
    """Why a recipient was sent to again."""

    IN_FLIGHT = "in flight"
    WINDOW = "window"
    STALL = "stall"
    STARVED = "starved"
    HANDOVER = "handover"
    NO_KILL = "no kill between the copies"
    RECORDED = "the first delivery was on record"
    UNEXPLAINED = "unexplained"

    @property
    def is_rightful(self) -> bool:
        return self in (Cause.IN_FLIGHT, Cause.WINDOW, Cause.STALL, Cause.STARVED, Cause.HANDOVER)


class Duplicate(NamedTuple):
    """`lead` is how long before the kill the first 250 was said, in seconds (negative: after it); `role` is
    what was killed, "" without a kill between the copies."""

    recipient: str
    cause: Cause
    lead: float
    role: str


@dataclass(slots=True)
class Evidence:
    """What was seen. Recipients are used once; `records` are (type, recipient, record id) as written."""

    offered: set[str] = field(default_factory=set)
    acknowledged: set[str] = field(default_factory=set)
    arrivals: list[Arrival] = field(default_factory=list)
    #: when each of the receiver's connections was opened
    opened: dict[int, float] = field(default_factory=dict)
    #: … and ended
    closed: dict[int, float] = field(default_factory=dict)
    #: when the client read 250 for a recipient, or will not have read it
    promised_at: dict[str, float] = field(default_factory=dict)
    has_several_workers: bool = False
    #: connections that the service closed without having read all replies
    unread: set[int] = field(default_factory=set)
    kills: list[Kill] = field(default_factory=list)
    records: list[tuple[str, str, str]] = field(default_factory=list)
    #: recipients that DSNs spoke of, one entry for each DSN
    returned: list[str] = field(default_factory=list)
    #: recipients whose message arrived with other content than it had
    damaged: list[str] = field(default_factory=list)
    is_refused: Callable[[str], bool] = lambda recipient: False


@dataclass(slots=True)
class Verdict:
    """Counts for the report; the lists hold names, for the searcher of a bug."""

    acknowledged: int
    delivered: int
    bounced: int
    lost: list[str]
    invented: list[str]
    damaged: list[str]
    wrongly_bounced: list[str]
    records_missing: list[str]
    records_repeated: int
    returns_missing: list[str]
    returns_repeated: int
    duplicates: list[Duplicate]
    windows: list[float]

    @property
    def share(self) -> float:
        """Duplicates by delivered recipients."""
        return len(self.duplicates) / self.delivered if self.delivered else 0.0

    def breaches(self) -> list[str]:
        """Every broken promise as a sentence."""
        found = []
        for what, who in (
            ("acknowledged and neither delivered nor bounced", self.lost),
            ("delivered although never handed in, or refused", self.invented),
            ("delivered with other content", self.damaged),
            ("bounced although the receiver never refused", self.wrongly_bounced),
            ("without a record", self.records_missing),
            ("bounced without a DSN", self.returns_missing),
        ):
            if who:
                found.append(f"{len(who)} {what}: {', '.join(who[:5])}")
        for cause in Cause:
            some = [one for one in self.duplicates if one.cause is cause]
            if some and not cause.is_rightful:
                leads = ", ".join(f"{one.recipient} {one.lead * 1000:.0f} ms" for one in some[:5])
                found.append(f"{len(some)} delivered again, {cause.value}: {leads}")
        return found

    def figures(self) -> dict[str, object]:
        """For the report."""
        causes = Counter(one.cause for one in self.duplicates)
        inside = (Cause.WINDOW, Cause.IN_FLIGHT, Cause.HANDOVER)
        outside = [one for one in self.duplicates if one.cause not in inside]
        leads = sorted(one.lead for one in self.duplicates)
        return {
            "acknowledged": self.acknowledged,
            "delivered": self.delivered,
            "bounced": self.bounced,
            "lost": len(self.lost),
            "invented": len(self.invented),
            "damaged": len(self.damaged),
            "wrongly bounced": len(self.wrongly_bounced),
            "records missing": len(self.records_missing),
            "records repeated": self.records_repeated,
            "DSNs missing": len(self.returns_missing),
            "DSNs repeated": self.returns_repeated,
            "duplicates": len(self.duplicates),
            "duplicates, share": round(self.share, 6),
            "duplicates in the window": causes[Cause.WINDOW],
            "duplicates in flight": causes[Cause.IN_FLIGHT],
            "duplicates in a handover": causes[Cause.HANDOVER],
            "duplicates by what was killed": dict(Counter(one.role for one in self.duplicates)),
            "duplicates outside": len(outside),
            "outside, explained by a stalled disk": causes[Cause.STALL],
            "outside, explained by a busy machine": causes[Cause.STARVED],
            "outside, unexplained": len(outside) - causes[Cause.STALL] - causes[Cause.STARVED],
            "longest before the kill, ms": round(leads[-1] * 1000, 1) if leads else 0.0,
            "behind at the kill p50, ms": round(percentile(self.windows, 0.50) * 1000, 1),
            "behind at the kill p99, ms": round(percentile(self.windows, 0.99) * 1000, 1),
        }


def judge(evidence: Evidence) -> Verdict:
    """Hold everything against everything."""
    arrivals: dict[str, list[Arrival]] = defaultdict(list)
    last: dict[int, float] = {}
    for arrival in sorted(evidence.arrivals):
        arrivals[arrival.recipient].append(arrival)
        last[arrival.connection] = arrival.at
    ids: dict[tuple[str, str], set[str]] = defaultdict(set)
    for kind, recipient, record in evidence.records:
        ids[kind, recipient].add(record)
    delivered = arrivals.keys()
    bounced = {recipient for kind, recipient in ids if kind == "b"} & evidence.offered
    promised = evidence.acknowledged
    returned = Counter(evidence.returned)
    missing = [f"d {name}" for name in delivered & evidence.offered if not ids["d", name]]
    missing += [f"r {name}" for name in promised if not ids["r", name]]
    lines = sum(1 for _, recipient, _ in evidence.records if recipient in evidence.offered)
    distinct = sum(len(found) for (_, recipient), found in ids.items() if recipient in evidence.offered)
    return Verdict(
        acknowledged=len(promised),
        delivered=len(delivered),
        bounced=len(bounced),
        lost=sorted(promised - delivered - bounced),
        invented=sorted(
            name for name in delivered if name not in evidence.offered or evidence.is_refused(name)
        ),
        damaged=sorted(evidence.damaged),
        wrongly_bounced=sorted(name for name in bounced if not evidence.is_refused(name)),
        records_missing=sorted(missing),
        records_repeated=lines - distinct,
        returns_missing=sorted(name for name in bounced & promised if not returned[name]),
        returns_repeated=sum(count - 1 for count in returned.values()),
        duplicates=[
            duplicate
            for name, copies in arrivals.items()
            if len(copies) > 1
            for duplicate in _explain(copies, len(ids["d", name]), last, evidence)
        ],
        windows=[kill.at - kill.safe_until for kill in evidence.kills if kill.safe_until],
    )


def _explain(
    copies: list[Arrival], records: int, last: dict[int, float], evidence: Evidence
) -> Iterable[Duplicate]:
    """One duplicate for every copy but the last; `last` is when each connection had its last 250."""
    recipient = copies[0].recipient
    if evidence.has_several_workers:
        kill = next((kill for kill in evidence.kills if kill.at >= copies[0].at - _BLUR), None)
        if kill is not None and evidence.promised_at.get(recipient, math.inf) > kill.at >= copies[0].at:
            yield Duplicate(recipient, Cause.HANDOVER, kill.since(copies[0].said), kill.role)
            return
    if records >= len(copies):
        yield Duplicate(recipient, Cause.RECORDED, 0.0, "")
        return
    for copy, again in itertools.pairwise(copies):
        kill = _end_of(copy, evidence)
        if kill is None or kill.at > again.at:
            yield Duplicate(recipient, Cause.NO_KILL, 0.0, "")
            continue
        lead = kill.since(copy.said)
        if copy.connection in evidence.unread and copy.at == last[copy.connection]:
            cause = Cause.IN_FLIGHT
        elif lead <= WINDOW + 1e-6:
            cause = Cause.WINDOW
        elif kill.safe_until and copy.said >= kill.safe_until - _BLUR:
            cause = Cause.STALL
        elif lead - kill.waited_since(copy.said) <= WINDOW:
            cause = Cause.STARVED
        else:
            cause = Cause.UNEXPLAINED
        yield Duplicate(recipient, cause, lead, kill.role)


def _end_of(copy: Arrival, evidence: Evidence) -> Kill | None:
    """The kill that ended the connection: the nearest to its end, which the receiver may see later."""
    opened = evidence.opened.get(copy.connection, copy.at)
    kills = [kill for kill in evidence.kills if opened <= kill.at]
    closed = evidence.closed.get(copy.connection)
    if closed is None or not kills:
        return kills[0] if kills else None
    nearest = min(kills, key=lambda kill: abs(kill.at - closed))
    return nearest if abs(nearest.at - closed) <= _SEEN_LATE else None


def percentile(values: Iterable[float], share: float) -> float:
    """The value that `share` of them stay at or under; 0 without any."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
