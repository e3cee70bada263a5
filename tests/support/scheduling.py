"""A scheduler with one policy for every queue, and the calls a worker makes to it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mta.config.snapshot import EgressSource
from mta.queue.key import RECIPIENT_BITS, QueueKey
from mta.queue.policy import QueuePolicy, VmtaPolicy
from mta.queue.reaction import Reaction
from mta.queue.scheduler import Scheduler, Settled
from mta.queue.slot import Slot

__all__ = ["A", "B", "Desk", "deliver_all", "open_at", "ref"]

A = QueueKey("a.example", "v1")
B = QueueKey("b.example", "v1")


def ref(message: int, recipient: int = 0) -> int:
    """The reference of one recipient."""
    return message << RECIPIENT_BITS | recipient


def open_at(scheduler: Scheduler, host: str, now: float) -> list[Slot]:
    """Connections to a host at 10.0.0.1 that come about; the others wait."""
    slots = []
    for slot in scheduler.take(now):
        if scheduler.enter(slot, host, "10.0.0.1"):
            slots.append(slot)
        else:
            scheduler.crowded(slot, now)
    return slots


def deliver_all(scheduler: Scheduler, slot: Slot, now: float) -> int:
    """Let a connection deliver everything that it may draw; returns how many messages that were."""
    messages = 0
    while refs := scheduler.draw(slot, now):
        messages += 1
        for one in refs:
            scheduler.settle(slot, now, one, Reaction.DELIVERED)
    return messages


class Desk:
    """`scheduler` with settings that a test may change; keyword arguments are fields of the policies."""

    def __init__(
        self,
        *,
        total: int = 1000,
        sources: tuple[str, ...] = ("192.0.2.1",),
        vmta: dict[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        self.policy = QueuePolicy(**settings)
        addresses = tuple(EgressSource(ip, "mail.example") for ip in sources)
        self.vmta = VmtaPolicy(sources=addresses, **(vmta or {}))
        self.scheduler = Scheduler(
            policies=lambda key: self.policy, vmtas=lambda name: self.vmta, total_max_smtp_out=total
        )

    def admit(self, key: QueueKey, *messages: int, at: float = 0.0, recipients: int = 1) -> None:
        """One or more messages that have just been received."""
        for message in messages:
            for recipient in range(recipients):
                self.scheduler.admit(key, ref(message, recipient), at, received=at)

    def connect(self, at: float = 0.0) -> Slot:
        """The one connection that the scheduler wants opened."""
        (slot,) = self.scheduler.take(at)
        self.scheduler.opened(slot, at)
        return slot

    def attempt(self, slot: Slot, at: float, reaction: Reaction) -> list[Settled]:
        """Draw the next message and give all its recipients the same result."""
        return [self.scheduler.settle(slot, at, one, reaction) for one in self.scheduler.draw(slot, at)]

    def configure(self, at: float, **settings: Any) -> None:
        """A reload."""
        self.policy = replace(self.policy, **settings)
        self.scheduler.reconfigure(at)
