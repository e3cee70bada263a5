"""What all inbound connections of a process share: rules, limits, logins, and who is here.

Rules follow the configuration: a connection asks `rules()` at each transaction and gets new ones after a
reload. Slots: total-max-smtp-in for all, `max-smtp-in` of a `<source-group>` for its sources, its
`reserved-smtp-in` of all slots kept free of others, and for clients that may not relay by address alone, at
most half of all slots from one address, so that one stranger can't shut out everybody else. Whom the
operator lets wait (smtp-await-slot) stands in line, without a word from us, until somebody leaves.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from mta.clock import Clock
from mta.config.snapshot import Snapshot
from mta.ingress.joint import AcceptResult
from mta.ingress.login import Lockout, Logins
from mta.ingress.reject import Rejects
from mta.ingress.relaying import RelayRules, SourcePolicy
from mta.ingress.submission import Submission
from mta.ingress.waitingline import WaitingLine
from mta.smtp.address import is_valid_domain
from mta.smtp.reply import Reply

__all__ = ["ALL_TAKEN", "Accepting", "Guest", "Reception", "Rules"]

#: Octets of messages that may be in memory while they arrive, all connections together.
RECEIVE_MEMORY = 256 * 1024 * 1024
#: From this share of taken slots on, idle clients get less time.
_CROWDED = 0.8
_DOMAINS_KEPT = 4096

ALL_TAKEN = Reply(421, "4.3.2 Too many connections, try again later", "4.3.2")
_GROUP_TAKEN = Reply(421, "4.7.0 Too many connections from your group, try again later", "4.7.0")
_ADDRESS_TAKEN = Reply(421, "4.7.0 Too many connections from your address, try again later", "4.7.0")
_NOT_SERVED = Reply(554, "5.7.1 No SMTP service for you here", "5.7.1")


class Accepting(Protocol):
    """Where messages go: `mta.ingress.accept.Acceptance`, or the dummy's."""

    def refusal(self, size: int) -> Reply | None: ...
    def accept(self, submission: Submission, done: Callable[[AcceptResult], None]) -> None: ...


class Guest(Protocol):
    """A connection, as far as the reception cares."""

    def come_in(self) -> None:
        """There is a slot for one who has waited."""

    def drain(self) -> None:
        """Finish what is under way, then leave."""

    def abort(self) -> None:
        """Leave at once."""


class Rules:
    """One configuration as connections need it."""

    def __init__(self, snapshot: Snapshot, host_name: str) -> None:
        self.snapshot = snapshot
        self.epoch = snapshot.epoch
        self.host_name = snapshot.host_name() or host_name
        #: What completes a bare host name; "" when nothing does.
        self.domain_suffix = snapshot.top.text("domain-suffix").strip(".") or _domain_of(self.host_name)
        self.relaying = RelayRules(snapshot)
        self.logins = Logins(snapshot)
        #: Whether clients wait for a slot at listeners that say nothing of it themselves.
        self.awaits_slot = snapshot.top.boolean("smtp-await-slot")
        self.slots = snapshot.top.integer("total-max-smtp-in") or 1_000_000
        groups = snapshot.source_groups
        self.group_slots = {
            name: group.integer("max-smtp-in")
            for name, group in groups.items()
            if group.integer("max-smtp-in")
        }
        self.reserved = {
            name: group.integer("reserved-smtp-in")
            for name, group in groups.items()
            if group.integer("reserved-smtp-in")
        }
        self._policies: dict[int, SourcePolicy] = {}

    def policy(self, ip: str, source_name: str) -> SourcePolicy:
        """What holds for a client; one object for all clients with the same settings."""
        settings = self.snapshot.source(ip, source_name)
        # The snapshot shares settings and keeps them while it lives, so their identity names them.
        found = self._policies.get(id(settings))
        if found is None:
            found = self._policies[id(settings)] = SourcePolicy.from_settings(settings)
        return found


def _domain_of(host_name: str) -> str:
    """The domain that a host with this name is in: its name without the first label, or the name itself."""
    rest = host_name.partition(".")[2]
    return rest if "." in rest else host_name if rest else ""


class _KnownDomains(dict[bytes, bool]):
    """Whether each is a valid ASCII domain; remembered, because few domains make most of the mail."""

    def __missing__(self, domain: bytes) -> bool:
        if len(self) >= _DOMAINS_KEPT:
            self.clear()
        known = self[domain] = is_valid_domain(domain.decode("ascii"))
        return known


class Reception:
    """Shared by all listeners of one process; used on its event loop only."""

    def __init__(
        self,
        *,
        snapshot: Callable[[], Snapshot],
        acceptance: Accepting,
        rejects: Rejects,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
        host_name: str,
        receive_memory: int = RECEIVE_MEMORY,
        make_rules: Callable[[Snapshot, str], Rules] = Rules,
    ) -> None:
        self._make_rules = make_rules
        self.acceptance = acceptance
        self.rejects = rejects
        self.clock = clock
        self.loop = loop
        self.receive_memory = receive_memory
        self.receiving = 0
        #: connections that have more commands waiting than they may have answered in one turn of the loop
        self.busy = 0
        self.lockout = Lockout()
        self.is_draining = False
        self.empty = asyncio.Event()
        self.empty.set()
        self.guests: set[Guest] = set()
        self.line: WaitingLine[Guest] = WaitingLine()
        self.most_guests = 0
        self.snapshot = snapshot
        self._host_name = host_name
        self._rules = make_rules(snapshot(), host_name)
        self._addresses: Counter[str] = Counter()
        self._groups: Counter[str] = Counter()
        self._domains = _KnownDomains()
        #: Whether a domain is a valid ASCII one.
        self.knows_domain: Callable[[bytes], bool] = self._domains.__getitem__

    def rules(self) -> Rules:
        """The rules of the configuration in force now."""
        snapshot = self.snapshot()
        if snapshot.epoch != self._rules.epoch:
            self._rules = self._make_rules(snapshot, self._host_name)
        return self._rules

    def enter(self, guest: Guest, ip: str, policy: SourcePolicy) -> Reply | None:
        """Let a connection in, or say why not; whoever came in must `leave`."""
        refusal = self._refusal(ip, policy)
        if refusal is not None:
            return refusal
        self.guests.add(guest)
        self.most_guests = max(self.most_guests, len(self.guests))
        self._addresses[ip] += 1
        self._groups[policy.group] += 1
        self.empty.clear()
        return None

    def _refusal(self, ip: str, policy: SourcePolicy) -> Reply | None:
        rules = self._rules
        if not policy.is_served:
            return _NOT_SERVED
        if self.is_draining or len(self.guests) >= rules.slots:
            return ALL_TAKEN
        if not policy.allow_relaying and self._addresses[ip] >= max(1, rules.slots // 2):
            return _ADDRESS_TAKEN
        if policy.group and self._groups[policy.group] >= rules.group_slots.get(policy.group, rules.slots):
            return _GROUP_TAKEN
        if rules.reserved and len(self.guests) + self._kept_free(policy.group) >= rules.slots:
            return ALL_TAKEN
        return None

    def line_up(self, guest: Guest, ip: str, policy: SourcePolicy) -> bool:
        """Let a connection that found all slots taken wait for one; False when it can't.

        As many may wait as may be in, and a client that may not relay has half of the places at most. Who
        gives up must `step_out`.
        """
        places = self._rules.slots
        of_one = places if policy.allow_relaying else max(1, places // 2)
        return not self.is_draining and self.line.join(guest, ip, policy, places=places, of_one=of_one)

    def step_out(self, guest: Guest) -> None:
        """A connection waits no more; nothing when it did not."""
        self.line.leave(guest)

    def call_in(self) -> None:
        """Let those in who wait and for whom there is a slot now, in their order."""
        # Without a slot the answer is the same for everybody: who leaves must not make us ask them all.
        while self.line and len(self.guests) < self._rules.slots:
            guest = self.line.first(lambda ip, policy: self._refusal(ip, policy) is None)
            if guest is None:
                return
            self.line.leave(guest)
            guest.come_in()

    def leave(self, guest: Guest, ip: str, group: str) -> None:
        """The connection is gone; `group` is that of the policy it came in with."""
        if guest not in self.guests:
            return
        self.guests.discard(guest)
        for counter, key in ((self._addresses, ip), (self._groups, group)):
            counter[key] -= 1
            if not counter[key]:
                del counter[key]
        if self.line:
            self.call_in()
        if not self.guests:
            self.empty.set()

    def guests_of(self, group: str) -> int:
        """How many connections a source group has."""
        return self._groups[group]

    def _kept_free(self, group: str) -> int:
        """Slots that are reserved for other groups and not taken by them."""
        return sum(
            max(0, reserved - self._groups[name])
            for name, reserved in self._rules.reserved.items()
            if name != group
        )

    @property
    def is_crowded(self) -> bool:
        return len(self.guests) > _CROWDED * self._rules.slots

    def __repr__(self) -> str:
        state = " draining" if self.is_draining else ""
        return f"<Reception guests={len(self.guests)} receiving={self.receiving}{state}>"
