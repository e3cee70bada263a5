"""What an operator does with queues, and what may be seen of them.

The verbs and views of the scheduler (scheduler.py), which is their only user: they share its parts.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from itertools import chain, islice
from typing import Any

from mta.queue.entries import Entry
from mta.queue.explain import Reason, explain
from mta.queue.key import QueueKey
from mta.queue.modes import Modes
from mta.queue.permits import Permits
from mta.queue.queue import DeliveryQueue, QueueMode
from mta.queue.ratememory import rate_rows, restore_rates
from mta.queue.registry import Registry
from mta.queue.status import QueueStatus, status_of
from mta.queue.timers import NEVER
from mta.queue.turns import Turns

__all__ = ["OperatorVerbs"]


class OperatorVerbs:
    """Verbs take a pattern of queues and raise ValueError when it can't be read."""

    _registry: Registry
    _permits: Permits
    _turns: Turns
    _modes: Modes

    # -- verbs ------------------------------------------------------------------------------------------

    def pause(self, pattern: str, now: float) -> int:
        """Stop the queues that match, also those to come; what is in flight is finished. Returns how many.

        Raises ValueError, as all verbs with a pattern do, when it can't be read.
        """
        return len(self._registry.pause(pattern))

    def resume(self, pattern: str, now: float) -> int:
        """Let paused queues go on; returns how many."""
        return self._look_at(self._registry.resume(pattern), now)

    def disable_source(self, pattern: str, ip: str, now: float, lasting: float | None) -> int:
        """Let the matching queues, also those to come, not use a source address for `lasting` seconds (None:
        until the operator says otherwise); returns how many there are."""
        until = NEVER if lasting is None else now + lasting
        return self._look_at(self._registry.disable_source(pattern, ip, until), now)

    def enable_source(self, pattern: str, ip: str, now: float) -> int:
        """Let them use it again, also where a rule had disabled it; returns how many could not until now."""
        return self._look_at(self._registry.enable_source(pattern, ip), now)

    def without_source(self, pattern: str, ip: str) -> int:
        """How many of the matching queues may not use a source address."""
        return sum(ip in queue.disabled_sources for queue in self._registry.matching(pattern))

    def disabled_sources(self, now: float) -> list[tuple[str, str, float]]:
        """Queue or pattern, source address, and until when (infinity: until it is enabled)."""
        return self._registry.disabled_sources(now)

    def schedule_now(self, pattern: str, now: float, *, with_deferred: bool = True) -> int:
        """Try the matching queues at once, with recipients that wait for a retry of their own or without;
        returns how many queues had to wait."""
        queues = self._registry.matching(pattern)
        return self._look_at(
            [queue for queue in queues if queue.hurry(now, with_deferred=with_deferred)], now
        )

    def set_mode(self, pattern: str, mode: QueueMode, now: float) -> int:
        """Put queues into backoff (until the operator says otherwise) or back to normal; returns how many."""
        queues = self._registry.matching(pattern)
        for queue in queues:
            if mode is QueueMode.BACKOFF:
                lasting = queue.policy.backoff_to_normal_after
                self._modes.enter_backoff(queue, now, "by the operator", lasting)
            else:
                self._modes.leave_backoff(queue, now, "by the operator")
        return self._look_at(queues, now)

    def delete(self, pattern: str, now: float) -> list[tuple[QueueKey, int]]:
        """Take out everything that waits (not what is in flight); the recipients are the caller's now."""
        return [(queue.key, ref) for queue in self._registry.matching(pattern) for ref in queue.empty()]

    def remove(self, key: QueueKey, refs: Set[int]) -> list[int]:
        """Take these out of a queue, those in flight excepted; they are the caller's then."""
        queue = self._registry.by_key.get(key)
        return [] if queue is None else queue.remove(refs)

    def prioritize(self, key: QueueKey, refs: Set[int], priority: int, now: float) -> int:
        """Give these another priority within their queue, those in flight excepted; returns how many had
        another one."""
        queue = self._registry.by_key.get(key)
        changed = 0 if queue is None else queue.prioritize(refs, priority)
        if queue is not None and changed:
            self._turns.refresh(queue, now)
        return changed

    # -- views ------------------------------------------------------------------------------------------

    def recent(self, key: QueueKey) -> list[tuple[float, str, str]]:
        """Time, kind and text of the last things that went wrong (`error`, `reply`) and, where they are
        tracked, of all results (`rcpt`), newest first."""
        queue = self._registry.by_key.get(key)
        if queue is None:
            return []
        errors = [(when, "error", text) for when, text in queue.errors]
        replies = [(when, "reply", text) for when, text in queue.replies]
        outcomes = [(when, "rcpt", text) for when, text in queue.outcomes]
        return sorted(errors + replies + outcomes, reverse=True)

    def empty(self, key: QueueKey) -> list[int]:
        """Take out everything that waits in one queue: it has no route and never will."""
        queue = self._registry.by_key.get(key)
        return [] if queue is None else queue.empty()

    def explain(self, key: QueueKey, now: float) -> str:
        """Why a queue is not sending, or that it is, in one sentence."""
        return self.reason(key, now).text

    def reason(self, key: QueueKey, now: float) -> Reason:
        """The same with the directive that makes it wait."""
        queue = self._registry.by_key.get(key)
        return Reason("Nothing waits.") if queue is None else explain(queue, self._permits, now)

    def queues(self, now: float, pattern: str = "*/*") -> Iterator[QueueStatus]:
        """One row per queue."""
        return (status_of(queue, self._permits, now) for queue in self._registry.matching(pattern))

    def is_paused(self, key: QueueKey) -> bool:
        """Whether the operator has stopped a queue."""
        queue = self._registry.by_key.get(key)
        return queue is not None and queue.is_paused

    def waiting_queues(self) -> int:
        """How many queues have recipients, in flight or not; cheaper than a row for each."""
        return sum(1 for queue in self._registry if queue.in_flight or queue.waiting())

    def entries(self, key: QueueKey) -> list[Entry]:
        """Everything that waits in a queue."""
        queue = self._registry.by_key.get(key)
        return [] if queue is None else queue.entries()

    def sample(self, key: QueueKey, limit: int) -> list[Entry]:
        """The first of what waits in a queue, without looking at the rest."""
        queue = self._registry.by_key.get(key)
        return [] if queue is None else list(islice(chain(queue.ready, queue.deferred), limit))

    # -- over restarts ----------------------------------------------------------------------------------

    def snapshot_state(self, *, with_rates: bool = False) -> dict[str, Any]:
        """What an operator would hate to lose in a restart, as JSON; `with_rates` what windows count too."""
        state: dict[str, Any] = {"paused": self._registry.paused_names()}
        banned = self._registry.disabled_sources(self._modes.seen_at)
        if banned:
            # JSON has no infinity: 0 stands for it.
            state["disabledSources"] = [
                [name, ip, 0.0 if until == NEVER else until] for name, ip, until in banned
            ]
        if rows := self._modes.rows():
            state["queues"] = rows
        if with_rates and (counted := rate_rows(self._registry)):
            state["rates"] = counted
        return state

    def restore_state(self, state: dict[str, Any], now: float = NEVER) -> None:
        """Take over what `snapshot_state` gave; what lies ahead of `now` came from a clock that ran ahead."""
        self._registry.restore(state.get("paused", ()))
        for queue in self._modes.restore(state.get("queues", ()), now):
            self._turns.wake_at(queue, 0.0)
        for queue in restore_rates(self._registry, state.get("rates", {}), now):
            self._turns.wake_at(queue, 0.0)
        for name, ip, until in state.get("disabledSources", ()):
            self._registry.disable_source(name, ip, until or NEVER)

    def _look_at(self, queues: list[DeliveryQueue], now: float) -> int:
        for queue in queues:
            self._turns.refresh(queue, now)
        return len(queues)
