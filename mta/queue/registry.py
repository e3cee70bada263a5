"""All queues and virtual MTAs that are in use, made when they are first needed, with the settings in force.

Settings are asked for once per queue and configuration epoch: after `reconfigure` each queue follows the new
ones when it is next looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from mta.queue.key import QueueKey
from mta.queue.pattern import QueuePattern
from mta.queue.policy import QueuePolicy, VmtaPolicy
from mta.queue.queue import DeliveryQueue
from mta.queue.vmta import VmtaState

__all__ = ["Registry"]


class Registry:
    """The queues by key, the virtual MTAs by name, the operator's pauses and disabled addresses."""

    __slots__ = ("_policies", "_vmta_policies", "bans", "by_key", "epoch", "pauses", "sizes", "vmtas")

    def __init__(
        self,
        policies: Callable[[QueueKey], QueuePolicy],
        vmtas: Callable[[str], VmtaPolicy],
        sizes: Callable[[int], int] = lambda message: 0,
    ) -> None:
        self._policies = policies
        self._vmta_policies = vmtas
        self.sizes = sizes
        self.by_key: dict[QueueKey, DeliveryQueue] = {}
        self.vmtas: dict[str, VmtaState] = {}
        self.pauses: set[QueuePattern] = set()
        #: (which queues, source address) → until when, by the operator's word
        self.bans: dict[tuple[QueuePattern, str], float] = {}
        self.epoch = 1

    def obtain(self, key: QueueKey, now: float) -> DeliveryQueue:
        """The queue of that key, new if need be; paused if the operator paused its kind."""
        queue = self.by_key.get(key)
        if queue is None:
            vmta = self.obtain_vmta(key.vmta)
            queue = self.by_key[key] = DeliveryQueue(key, self._policies(key), vmta, self.epoch)
            queue.last_used_at = now
            queue.is_paused = any(pattern.matches(key) for pattern in self.pauses)
            for (pattern, ip), until in self.bans.items():
                if until > now and pattern.matches(key):
                    queue.disabled_sources[ip] = until
        return queue

    def obtain_vmta(self, name: str) -> VmtaState:
        """The virtual MTA of that name, new if need be."""
        vmta = self.vmtas.get(name)
        if vmta is None:
            vmta = self.vmtas[name] = VmtaState(name, self._vmta_policies(name), self.epoch, self.sizes)
        return vmta

    def follow(self, queue: DeliveryQueue) -> None:
        """Give the queue the settings in force."""
        if queue.epoch != self.epoch:
            queue.configure(self._policies(queue.key), self.epoch)

    def follow_vmta(self, vmta: VmtaState) -> None:
        """Give the virtual MTA the settings in force."""
        if vmta.epoch != self.epoch:
            vmta.configure(self._vmta_policies(vmta.name), self.epoch)

    def matching(self, pattern: str) -> list[DeliveryQueue]:
        """The queues an operator means. Raises ValueError for what is no pattern."""
        wanted = QueuePattern.parse(pattern)
        return [queue for queue in self.by_key.values() if wanted.matches(queue.key)]

    def forget(self, queue: DeliveryQueue) -> None:
        """Drop a queue that holds nothing."""
        del self.by_key[queue.key]

    def pause(self, pattern: str) -> list[DeliveryQueue]:
        """Remember the pause, also for queues yet to come; returns the queues it stops now."""
        self.pauses.add(QueuePattern.parse(pattern))
        stopped = [queue for queue in self.matching(pattern) if not queue.is_paused]
        for queue in stopped:
            queue.is_paused = True
        return stopped

    def resume(self, pattern: str) -> list[DeliveryQueue]:
        """Drop the pauses that the pattern covers; returns the queues that may send again.

        A queue that a wider pause stopped is let go as well; new queues still follow the wider one.
        """
        wanted = QueuePattern.parse(pattern)
        self.pauses = {pause for pause in self.pauses if not wanted.covers(pause)}
        freed = [queue for queue in self.matching(pattern) if queue.is_paused]
        for queue in freed:
            queue.is_paused = False
        return freed

    def disable_source(self, pattern: str, ip: str, until: float) -> list[DeliveryQueue]:
        """Take a source address out of use, also in queues yet to come; returns those there are."""
        self.bans[QueuePattern.parse(pattern), ip] = until
        queues = self.matching(pattern)
        for queue in queues:
            queue.disabled_sources[ip] = until
        return queues

    def enable_source(self, pattern: str, ip: str) -> list[DeliveryQueue]:
        """Use an address again, whoever disabled it; returns the queues that may."""
        wanted = QueuePattern.parse(pattern)
        self.bans = {
            (banned, address): until
            for (banned, address), until in self.bans.items()
            if address != ip or not wanted.covers(banned)
        }
        queues = [queue for queue in self.matching(pattern) if ip in queue.disabled_sources]
        for queue in queues:
            del queue.disabled_sources[ip]
        return queues

    def disabled_sources(self, now: float) -> list[tuple[str, str, float]]:
        """Queue or pattern, address, and until when, sorted; each word of the operator stands there once.

        A queue stands beside it where a rule has disabled the address for longer.
        """
        found = {(str(pattern), ip): until for (pattern, ip), until in self.bans.items() if until > now}
        covering = list(self.bans.items())
        for queue in self.by_key.values():
            for ip, until in queue.disabled_sources.items():
                is_said = any(
                    address == ip and until <= said and pattern.matches(queue.key)
                    for (pattern, address), said in covering
                )
                if until > now and not is_said:
                    found[str(queue.key), ip] = until
        return sorted((name, ip, until) for (name, ip), until in found.items())

    def paused_names(self) -> list[str]:
        """What has to be paused again after a restart."""
        patterns = [str(pattern) for pattern in sorted(self.pauses)]
        single = [
            str(queue.key)
            for queue in self.by_key.values()
            if queue.is_paused and not any(pattern.matches(queue.key) for pattern in self.pauses)
        ]
        return patterns + sorted(single)

    def restore(self, paused: Iterable[str]) -> None:
        """Pause what was paused before the restart; names that can't be read are skipped."""
        for name in paused:
            try:
                self.pause(name)
            except ValueError:
                continue

    def __iter__(self) -> Iterator[DeliveryQueue]:
        return iter(self.by_key.values())

    def __len__(self) -> int:
        return len(self.by_key)
