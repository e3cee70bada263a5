"""Which virtual MTA sends a message on, and in which queue each recipient waits.

Highest first: the x-virtual-mta header (where it is obeyed), the source's pattern list, the source's
default-virtual-mta (the named source of the listener or login lies over the one of the client's address),
else `{default}`. A pool may stand wherever a virtual MTA may; its members take turns. A name that is
neither goes to invalid-virtual-mta-fallback, or the message is refused with 5.3.5.

The pattern list also gives the message its priority within its queues, whoever chose the virtual MTA.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from mta.config.patterns import AddressPattern
from mta.config.snapshot import DEFAULT_VMTA, Snapshot
from mta.ingress.relaying import SourcePolicy
from mta.message import headers
from mta.message.envelope import NORMAL_PRIORITY, Recipient
from mta.smtp.address import split_domain
from mta.smtp.reply import Reply

__all__ = ["BY_SOURCE_IP", "Choice", "Selection"]

BY_SOURCE_IP = "by-smtp-source-ip"

#: Lists may call one another; what is deeper than this is a circle.
_DEPTH = 16
#: Queue domains remembered; above it the memory starts anew.
_MEMO_LIMIT = 100_000


class Choice(NamedTuple):
    """The virtual MTA, and the pool it was taken from ("" without one)."""

    vmta: str
    pool: str = ""


class _QueueDomains(dict[tuple[str, str], str]):
    """The queue domain by the domain of an address as it was written ("" has none) and the virtual MTA."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def __missing__(self, place: tuple[str, str]) -> str:
        written, vmta = place
        domain = split_domain(f"@{written}")
        found = self._snapshot.effective(domain, vmta).text("queue-to").lower() or domain
        if len(self) >= _MEMO_LIMIT:
            self.clear()
        self[place] = found
        return found


class Selection:
    """The choices that one configuration makes. Turns of pools start afresh with a new configuration."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._names = {name.lower(): name for name in snapshot.vmtas}
        self._pools = {name.lower(): name for name in snapshot.pools}
        self._turns = dict.fromkeys(snapshot.pools, 0)
        self._fallback = snapshot.top.text("invalid-virtual-mta-fallback")
        self._by_ip = {
            source.ip: vmta.name for vmta in snapshot.vmtas.values() for source in vmta.sources if source.ip
        }
        self._queue_domains = _QueueDomains(snapshot)
        self._prioritizing: dict[str, bool] = {}  # pattern lists, by name
        self._default = Choice(DEFAULT_VMTA)

    def choose(
        self,
        policy: SourcePolicy,
        *,
        header: bytes | None,
        block: bytes,
        originator: str,
        recipients: Sequence[str],
        received_on: str,
    ) -> Choice | Reply:
        """The choice for one message; a Reply when it names a virtual MTA that does not exist.

        `header` is the value of x-virtual-mta, None when there is none or it is not to be obeyed; `block` is
        the header block, for pattern lists.
        """
        if header is not None:
            name = header.decode("utf-8", "replace").strip()
            if not name and policy.allow_empty_vmta_header:
                return self._default
            return self.named(name, policy)
        if policy.pattern_list:
            patterns = self._snapshot.address_patterns(policy.pattern_list)
            for pattern in self._matching(patterns, block, originator, recipients, _DEPTH):
                if pattern.vmta:
                    return self.named(pattern.vmta, policy)
        return self.usual(policy, received_on)

    def usual(self, policy: SourcePolicy, received_on: str) -> Choice | Reply:
        """The choice for a message that neither its header nor a pattern list speaks about."""
        name = policy.default_vmta
        if not name:
            return self._default
        if name == BY_SOURCE_IP:
            return Choice(self._by_ip.get(received_on, DEFAULT_VMTA))
        return self.named(name, policy)

    def priority(
        self, policy: SourcePolicy, *, block: bytes, originator: str, recipients: Sequence[str]
    ) -> int:
        """The priority of a message within its queues, from the first entry that matches and gives one."""
        name = policy.pattern_list
        if not name or not self._gives_priority(name):
            return NORMAL_PRIORITY
        patterns = self._snapshot.address_patterns(name)
        for pattern in self._matching(patterns, block, originator, recipients, _DEPTH):
            if pattern.priority is not None:
                return pattern.priority
        return NORMAL_PRIORITY

    def named(self, name: str, policy: SourcePolicy) -> Choice | Reply:
        """The virtual MTA of this name, or the next member of the pool of this name."""
        choice = self.find(name)
        if choice is None and self._fallback:
            choice = self.find(self._fallback)
        if choice is not None:
            return choice
        if not policy.reject_invalid_vmta:
            return self._default
        shown = name if name.isprintable() and len(name) <= 64 else "(unprintable)"
        return Reply(550, f"5.3.5 No such virtual MTA: {shown}", "5.3.5")

    def queue_domain(self, address: str, vmta: str) -> str:
        """The domain of the queue a recipient waits in: the address's, or where queue-to sends it."""
        _, at, domain = address.rpartition("@")
        return self._queue_domains[domain if at else "", vmta]

    def placed(self, recipients: Iterable[tuple[str, int, str]], vmta: str) -> tuple[Recipient, ...]:
        """Recipients (address, NOTIFY, ORCPT) with the domains of the queues they wait in."""
        domains = self._queue_domains
        placed = []
        for address, notify, orcpt in recipients:
            _, at, domain = address.rpartition("@")
            placed.append(Recipient(address, domains[domain if at else "", vmta], notify, orcpt))
        return tuple(placed)

    def find(self, name: str) -> Choice | None:
        """The virtual MTA or the next member of the pool of this name; None when there is neither."""
        low = name.lower()
        if low in self._names:
            return Choice(self._names[low])
        if low == DEFAULT_VMTA:
            return self._default
        pool = self._pools.get(low)
        if pool is None:
            return None
        members = self._snapshot.pools[pool].members
        if not members:
            return None
        turn = self._turns[pool]
        self._turns[pool] = turn + 1
        return Choice(members[turn % len(members)], pool)

    def _matching(
        self,
        patterns: Sequence[AddressPattern],
        block: bytes,
        originator: str,
        recipients: Sequence[str],
        depth: int,
    ) -> Iterator[AddressPattern]:
        """The entries that match, in order, those of lists that are called among them."""
        for pattern in patterns:
            if not _matches(pattern, block, originator, recipients):
                continue
            yield pattern
            inner = self._inner(pattern)
            if inner and depth > 0:
                yield from self._matching(inner, block, originator, recipients, depth - 1)

    def _inner(self, pattern: AddressPattern) -> Sequence[AddressPattern]:
        """The entries that come when this one has matched."""
        return self._snapshot.address_patterns(pattern.call_to) if pattern.call_to else pattern.nested

    def _gives_priority(self, name: str) -> bool:
        """Whether a pattern list, or one that it calls, has any priority in it."""
        found = self._prioritizing.get(name)
        if found is None:
            entries, seen = list(self._snapshot.address_patterns(name)), dict[int, AddressPattern]()
            while entries:
                entry = entries.pop()
                if id(entry) not in seen:
                    seen[id(entry)] = entry
                    entries += self._inner(entry)
            found = any(entry.priority is not None for entry in seen.values())
            self._prioritizing[name] = found
        return found


def _matches(pattern: AddressPattern, block: bytes, originator: str, recipients: Sequence[str]) -> bool:
    if pattern.kind == "mail-from":
        return pattern.regex.search(originator)
    if pattern.kind == "rcpt-to":
        return any(pattern.regex.search(recipient) for recipient in recipients)
    if pattern.kind == "header":
        values = headers.get_all(block, pattern.header.encode("utf-8"))
        return any(pattern.regex.search(value.decode("utf-8", "replace")) for value in values)
    return True
