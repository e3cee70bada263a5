"""How many connections one local address may have to one MX host, or to an address of it, over all queues.

`mx-connection-limit` and `ip-connection-limit` give hosts a limit; of several lines that fit the closest one
holds. A connection is counted from the moment it is tried to the moment it is closed, also where a reload
gives its host a limit meanwhile.

Queues that find a host full stand in line there, first come, first served. When a place becomes free the
first of them is *called*: the place is kept for it for CALL_LASTS seconds, so that nobody who comes later
takes it. While somebody waits, connections to the host are closed after their fair turn (`Scheduler`), and
idle ones at once.

A connection may need several places: at the name of a host and at its address. A queue is only called when
all of them are free, and then all are kept; who lacks another one moves to the line for that. So no two
queues ever keep from one another what both need, and no place stays empty for somebody who can't use it,
unless that has been passed over before (`debts.py`).

Several workers divide a limit. One that is smaller than their number is *lent* (`service/places.py`): the
worker that has it may open one connection, and the others wait for it as for any host that is full. Queues
that several workers have (roll-ups) keep such limits of their own in the same way. Since a place that is lent
goes away when nobody needs it, and comes soon when somebody does, the first place is kept for a while where
one of two is lent: always in the same order, so that no worker waits for another that waits for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from mta.config.domainpattern import Reach, normal_domain
from mta.config.values import NetworkLimit, PatternLimit
from mta.queue.address import limit_of
from mta.queue.debts import Debts
from mta.queue.policy import UNLIMITED, QueuePolicy
from mta.queue.timers import NEVER

if TYPE_CHECKING:
    from mta.queue.queue import DeliveryQueue
    from mta.queue.slot import Slot

__all__ = ["Host", "HostLimits", "Hosts", "Place", "PlaceDemand", "Target"]

#: The directive that limits it, the local address ("" for all of them), and a name.
Place = tuple[str, str, str]

#: How long (seconds) a place is kept for the queue whose turn it is.
CALL_LASTS = 5.0

#: Queues in line that are looked at in one go: thousands that all lack another place would hold up the loop.
LOOKS_AT_ONCE = 500

SMTP_OUT = "max-smtp-out"
SOURCE_SMTP_OUT = "source-ip-max-smtp-out"


class Target(NamedTuple):
    """An address of an MX host, as tried from one local address."""

    source: str
    host: str
    ip: str


@dataclass(frozen=True, slots=True)
class HostLimits:
    """The lines of both directives; `parts` workers share them, of which this is number `part` (from 0)."""

    names: tuple[PatternLimit, ...] = ()
    networks: tuple[NetworkLimit, ...] = ()
    parts: int = 1
    part: int = 0

    def of_name(self, host: str) -> int | None:
        """The limit of an MX host for all workers; None for none."""
        name = normal_domain(host)
        fitting = [line for line in self.names if line.pattern.matches(name)]
        if not fitting:
            return None
        closest = max(fitting, key=lambda line: (line.pattern.reach == Reach.EXACT, len(line.pattern.name)))
        return max(1, closest.limit)

    def of_address(self, ip: str) -> int | None:
        """The limit of one of its addresses for all workers; None for none."""
        limit = limit_of(ip, self.networks)
        return max(1, limit) if isinstance(limit, int) else None

    def is_lent(self, limit: int) -> bool:
        """Whether there is less of it than one for each worker."""
        return limit < self.parts

    def own(self, limit: int) -> int:
        """Our part of what can be divided."""
        return limit // self.parts + (self.part < limit % self.parts)


class PlaceDemand(NamedTuple):
    """Of a limit that is lent: connections that we may open or have open, wanted ones, and the limit."""

    holding: int
    wanted: int
    limit: int


class Host:
    """One host, or one address, as seen from one local address."""

    __slots__ = (
        "called",
        "directive",
        "is_lent",
        "is_wanted",
        "limit",
        "name",
        "owed",
        "place",
        "queue",
        "slots",
        "waiting",
        "wake_at",
        "whole",
    )

    def __init__(self, place: Place, queue: DeliveryQueue | None = None) -> None:
        """`queue` where the limit is one queue's."""
        self.place = place
        self.directive, _, self.name = place
        self.queue = queue
        self.limit = 0
        self.whole = 0  # what all workers may have together
        self.is_lent = False
        self.is_wanted = False  # connections have to close, as far as is known since it was last seen to
        self.slots: dict[Slot, None] = {}
        self.waiting: dict[DeliveryQueue, tuple[Target, ...]] = {}  # who lacks a place here, and what for
        self.called: dict[DeliveryQueue, float] = {}  # whose turn it is, and until when a place is kept
        self.owed: dict[DeliveryQueue, None] = {}  # who gets the next place before all in line (`debts.py`)
        self.wake_at = NEVER

    def has_room(self, queue: DeliveryQueue) -> bool:
        """Whether a place is free, or kept, for that queue."""
        taken = len(self.slots)
        return taken < self.limit if queue in self.called else taken + len(self.called) < self.limit

    def admits(self, queue: DeliveryQueue) -> bool:
        """Whether it may take one now: nobody else in line was there before."""
        return self.has_room(queue) and (queue in self.called or not self.waiting)

    def count(self, slot: Slot) -> None:
        """A connection is here that has been open for longer than there is a limit."""
        self.slots[slot] = None
        if self.is_lent:
            self.limit = 1  # others may have theirs too, until the lender has heard of it

    def keep(self, queue: DeliveryQueue, now: float) -> None:
        """A place is kept for the queue."""
        self.called[queue] = now + CALL_LASTS
        queue.called_at += (self,)

    def let_go(self, queue: DeliveryQueue) -> None:
        """No place is kept for it any more."""
        self.called.pop(queue, None)
        queue.called_at = tuple(one for one in queue.called_at if one is not self)

    def configure(self, whole: int | None, limits: HostLimits) -> None:
        """Follow another limit; what stands stays."""
        was_lent = self.is_lent
        self.is_lent = whole is not None and limits.is_lent(whole)
        self.whole = UNLIMITED if whole is None else whole
        if not self.is_lent:
            self.limit = UNLIMITED if whole is None else limits.own(whole)
        elif not was_lent:
            # Others may have theirs too: no worker had a part of less than one.
            self.limit = min(1, len(self.slots) + len(self.called))

    def demand(self) -> PlaceDemand:
        """What is needed of a limit that is lent; what nobody here needs goes back with this."""
        is_wanted = bool(self.slots or self.waiting or self.called)
        if not is_wanted:
            self.limit = 0
        return PlaceDemand(max(self.limit, len(self.slots)), int(is_wanted), self.whole)

    def lend(self, size: int) -> None:
        """So many connections may be open; none means that another worker waits for the place."""
        # Who has been called and is on the way comes first, as everywhere.
        self.limit = 1 if size or (self.limit and self.called and not self.slots) else 0

    def wants_back(self) -> int:
        """How many connections have to close so that everybody who waits gets one, here or elsewhere."""
        surplus = max(0, len(self.slots) - self.limit)
        return surplus + len(self.waiting) - sum(slot.is_retired for slot in self.slots)

    def lapse(self, now: float) -> None:
        """Calls that nobody follows are over; who waits for a permit or dials already keeps its place."""
        for queue in [queue for queue, until in self.called.items() if until <= now]:
            if queue.in_ring or queue.opening or queue in self.owed:
                self.called[queue] = now + CALL_LASTS
            else:
                self.let_go(queue)

    def first_in_line(self) -> DeliveryQueue | None:
        """Who is to have the next place, if one is free."""
        return next(iter(self.waiting)) if self.waiting and self.is_free() else None

    def is_free(self) -> bool:
        """Whether there is a place that nobody has and that is kept for nobody."""
        return len(self.slots) + len(self.called) < self.limit

    @property
    def stated(self) -> int:
        """The limit as the operator knows it, where we have no part of it."""
        return self.whole if self.is_lent else self.limit

    def is_idle(self) -> bool:
        return not (self.slots or self.waiting or self.called or self.owed)

    def __repr__(self) -> str:
        return f"<Host {self.name}: {len(self.slots)}/{self.limit}, {len(self.waiting)} queues wait>"


class Hosts:
    """The hosts that have a limit and are in use."""

    __slots__ = ("_debts", "_entered", "_known", "is_short", "limits", "to_revisit")

    def __init__(self, limits: HostLimits) -> None:
        self.limits = limits
        self.to_revisit: list[Host] = []  # somebody has left or come to their lines
        self.is_short = False  # a place that is lent is wanted, or wanted no more
        self._debts = Debts(self.to_revisit)
        self._known: dict[Place, Host] = {}
        self._entered: dict[Slot, Target] = {}  # where all connections are, limited or not

    def enter(self, slot: Slot, host: str, ip: str) -> bool:
        """Count the connection at a host and at its address, if both have room; nowhere else any more.

        What has no room is noted, for `crowd`.
        """
        queue, target = slot.queue, Target(slot.source.ip, host.lower(), ip)
        self._entered[slot] = target
        if not (self.limits.names or self.limits.networks or slot.hosts or is_shared(queue.active)):
            return True
        found = self._places(queue, target)
        may_enter = all(slot in one.slots or one.admits(queue) for one in found)
        for one in slot.hosts:
            one.slots.pop(slot, None)
        self.to_revisit += [one for one in slot.hosts if not may_enter or one not in found]
        slot.hosts = ()
        if not may_enter:
            del self._entered[slot]
            slot.refused_by += (target,)
            return False
        self._let_go(queue)
        self._debts.settle(queue)
        for one in found:
            one.slots[slot] = None
        slot.hosts, slot.refused_by = found, ()
        return True

    def crowd(self, slot: Slot) -> None:
        """No host has room for the connection: let its queue wait for those that refused it."""
        queue = slot.queue
        self._let_go(queue)
        for target in slot.refused_by:
            places = self._places(queue, target)
            if places:  # else a reload has lifted the limits
                full = next((one for one in places if not one.admits(queue)), places[0])
                self._line_up(queue, target, full)

    def call(self, host: Host, now: float) -> list[DeliveryQueue]:
        """Those who may come now: as many as there are places, and only who finds all that it needs."""
        creditor = self._debts.creditor(host, now)
        host.lapse(now)
        called: list[DeliveryQueue] = []
        for _ in range(LOOKS_AT_ONCE):
            queue = creditor if self._is_awaited(host, creditor) else host.first_in_line()
            if queue is None:
                return called
            targets = host.waiting.pop(queue, ())
            queue.crowded_at = tuple(one for one in queue.crowded_at if one is not host)
            if queue is creditor and (target := self._debts.target(queue)) not in targets:
                targets = (target, *targets)
            if self._invite(queue, targets, host, now):
                called.append(queue)
            else:
                self._pass_over(queue, targets[0])
                for target in targets:
                    self._await_other(queue, target, host, now)
            creditor = self._debts.creditor(host, now)
        return called

    def _is_awaited(self, host: Host, creditor: DeliveryQueue | None) -> bool:
        """Whether a free place is to be kept for who is owed one."""
        return creditor is not None and creditor not in host.called and host.is_free()

    def _has_place(self, host: Host, queue: DeliveryQueue, now: float) -> bool:
        """Whether a place is free or kept for a queue, and owed to nobody else."""
        if not host.has_room(queue):
            return False
        creditor = self._debts.creditor(host, now)
        return creditor is queue or queue in host.called or not self._is_awaited(host, creditor)

    def _pass_over(self, queue: DeliveryQueue, target: Target) -> None:
        self._debts.pass_over(queue, target, self._places(queue, target))

    def _invite(self, queue: DeliveryQueue, targets: tuple[Target, ...], host: Host, now: float) -> bool:
        """Keep all places that one of the targets takes for the queue whose turn it is at the host, if they
        are free; returns whether."""
        for target in targets:
            places = self._places(queue, target)
            if all(self._has_place(one, queue, now) for one in places):
                break
        else:
            return False
        for one in places:
            first = next(iter(one.waiting), queue)
            if one is not host and first is not queue:
                self._pass_over(first, one.waiting[first][0])
        for line in queue.crowded_at:
            del line.waiting[queue]
        queue.crowded_at = ()
        self._let_go(queue)
        self._debts.settle(queue)
        turn_to(queue, target.source)
        for one in places if queue.ready.runs else ():
            one.keep(queue, now)
        return True

    def _await_other(self, queue: DeliveryQueue, target: Target, host: Host, now: float) -> None:
        """A place is free at the host, but another one that the target takes isn't: wait there."""
        places = self._places(queue, target)
        lacking = next(one for one in places if not self._has_place(one, queue, now))
        self._line_up(queue, target, lacking)
        self.to_revisit.append(lacking)  # connections that rest there are in the way now
        is_first = host in places[: places.index(lacking)]
        is_kept = is_first and (host.is_lent or lacking.is_lent)
        if (is_kept or self._debts.creditor(host, now) is queue) and host not in queue.called_at:
            host.keep(queue, now)

    def _line_up(self, queue: DeliveryQueue, target: Target, host: Host) -> None:
        """Stand in line for a place at a host, to be used for a target."""
        wanted = host.waiting.get(queue, ())
        if target not in wanted:
            host.waiting[queue] = (*wanted, target)
        if host not in queue.crowded_at:
            queue.crowded_at += (host,)
        self.is_short = self.is_short or (host.is_lent and not host.limit)

    def _let_go(self, queue: DeliveryQueue) -> None:
        """What is kept for a queue is for others: it has what it needs, or can't use it."""
        self.to_revisit += queue.called_at
        for one in queue.called_at:
            one.let_go(queue)

    def leave(self, slot: Slot) -> list[Host]:
        """The connection is gone; returns the hosts where others may have its place."""
        self._entered.pop(slot, None)
        left = list(slot.hosts)
        for target in slot.refused_by:
            left += self._places(slot.queue, target)
        for host in slot.hosts:
            host.slots.pop(slot, None)
            self.is_short = self.is_short or (host.is_lent and not host.limit)
        slot.hosts = slot.refused_by = ()
        return left

    def forget(self, host: Host) -> None:
        """Drop a host that nobody uses; one that is lent goes back first (`demands`)."""
        if host.is_idle() and not host.is_lent and self._known.get(host.place) is host:
            del self._known[host.place]

    def configure(self, limits: HostLimits, follow: Callable[[DeliveryQueue], None]) -> list[Host]:
        """Follow other limits; returns the hosts to look at. What stands stays.

        `follow` gives a queue the policy in force.
        """
        self.limits = limits
        self._debts.forget()
        for host in self._known.values():
            if host.queue is not None:
                follow(host.queue)
            host.configure(self._limit(host.place, host.queue), limits)
        self._count_again(follow)
        return list(self._known.values())

    def follow(self, queue: DeliveryQueue) -> None:
        """The mode of a queue may be another, and with it the limit that workers share."""
        if not is_shared(queue.policy):
            return
        host = self._known.get((SMTP_OUT, "", str(queue.key)))
        limit = queue.active.shared_max_smtp_out
        if host is not None and host.whole != limit:
            host.configure(self._limit(host.place, queue), self.limits)
            self.to_revisit.append(host)
            self.is_short = self.is_short or host.is_lent

    def _count_again(self, follow: Callable[[DeliveryQueue], None]) -> None:
        """Count connections at hosts that have a limit only now."""
        for slot, target in self._entered.items():
            if self.limits.parts > 1:
                follow(slot.queue)  # a roll-up's queue has places too
            for host in self._places(slot.queue, target):
                if slot not in host.slots:
                    host.count(slot)
                    slot.hosts += (host,)

    def demands(self) -> dict[Place, PlaceDemand]:
        """What we need of the limits that are lent. What nobody here needs is named for the last time."""
        lent = [host for host in self._known.values() if host.is_lent]
        found = {host.place: host.demand() for host in lent}
        for host in lent:
            if host.is_idle():
                del self._known[host.place]
        return found

    def lend(self, place: Place, size: int) -> Host | None:
        """So many connections may be open now at a place that was asked for; returns what to look at."""
        host = self._known.get(place)
        if host is None or not host.is_lent:
            return None
        host.lend(size)
        return host

    def _places(self, queue: DeliveryQueue, target: Target) -> tuple[Host, ...]:
        """All places with a limit that a connection there needs, in the order in which they are taken."""
        source, host, ip = target
        wanted = (("mx-connection-limit", host), ("ip-connection-limit", ip))
        found = [one for directive, name in wanted for one in self._at((directive, source, name), None)]
        if is_shared(queue.active):
            for directive, where in ((SMTP_OUT, ""), (SOURCE_SMTP_OUT, source)):
                found += self._at((directive, where, str(queue.key)), queue)
        return tuple(found)

    def _at(self, place: Place, queue: DeliveryQueue | None) -> Iterator[Host]:
        found = self._known.get(place)
        if found is None:
            limit = self._limit(place, queue)
            if limit is None:
                return
            found = self._known[place] = Host(place, queue)
            found.configure(limit, self.limits)
        yield found

    def _limit(self, place: Place, queue: DeliveryQueue | None) -> int | None:
        directive, source, name = place
        if queue is None:
            limits = self.limits
            return limits.of_address(name) if directive == "ip-connection-limit" else limits.of_name(name)
        if directive == SMTP_OUT:
            limit = queue.active.shared_max_smtp_out
            return None if limit >= UNLIMITED else limit
        found = limit_of(source, queue.active.shared_source_ip_max_smtp_out)
        return found if isinstance(found, int) else None

    def __len__(self) -> int:
        return len(self._known)


def is_shared(policy: QueuePolicy) -> bool:
    """Whether other workers have a queue of the same name, with a limit for all of them."""
    return policy.shared_max_smtp_out < UNLIMITED or bool(policy.shared_source_ip_max_smtp_out)


def turn_to(queue: DeliveryQueue, source: str) -> None:
    """The place is one for connections from that address: let the queue's next one come from there."""
    for turn, known in enumerate(queue.vmta.policy.sources, 1):
        if known.ip == source:
            queue.source_turn = turn
