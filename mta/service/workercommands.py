"""Commands about queues and messages, answered by the worker that owns them.

Names, arguments and shapes are described in `mta/cli/control.py`. Everything here is a snapshot in one turn
of the loop; what walks over messages does so in slices, so that mail goes on meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Set
from dataclasses import asdict
from typing import Any

from mta.clock import Clock
from mta.config.units import parse_interval
from mta.errors import MtaError, SpoolError
from mta.message.envelope import Envelope
from mta.queue.entries import Entry
from mta.queue.key import RECIPIENT_BITS, RECIPIENT_MASK, QueueKey
from mta.queue.pattern import QueuePattern
from mta.queue.queue import QueueMode
from mta.queue.status import QueueStatus
from mta.service.channel import CommandFailed
from mta.service.deliverycommands import DeliveryCommands
from mta.service.filters import is_match, youngest
from mta.service.jobcommands import JobCommands
from mta.service.queuepages import domain_rows, queue_rows, vmta_rows
from mta.service.worker import Worker

__all__ = ["WorkerCommands"]

#: Messages looked at in one turn of the loop.
SLICE = 200


class WorkerCommands:
    """`run(command, arguments)` answers one request; raises CommandFailed with the operator's sentence."""

    def __init__(self, worker: Worker, *, clock: Clock) -> None:
        self._worker = worker
        self._clock = clock
        self._commands: dict[str, Callable[..., Coroutine[Any, Any, Any]]] = {
            "show.status": self._status,
            "glance": self._glance,
            "show.queues": self._queues,
            "show.topqueues": self._queues,
            "show.vmtas": self._vmtas,
            "show.domains": self._domains,
            "list": self._list,
            "queue.pause": self._pause,
            "queue.resume": self._resume,
            "queue.schedule": self._schedule,
            "queue.mode": self._mode,
            "set.priority": self._prioritize,
            "delete": self._delete,
            "undo.delete": self._undo_delete,
            "reset.counters": self._reset,
            "clear.dnscache": self._clear_dns,
            **DeliveryCommands(worker, clock=clock).commands,
            **JobCommands(worker, clock=clock).commands,
        }

    async def run(self, command: str, arguments: dict[str, Any]) -> Any:
        answer = self._commands.get(command)
        if answer is None:
            raise CommandFailed(f"the worker knows no {command!r}")
        try:
            return await answer(**arguments)
        except TypeError as failure:
            raise CommandFailed(f"{command}: {failure}") from None
        except ValueError as failure:
            raise CommandFailed(str(failure)) from None
        except OSError as failure:
            raise CommandFailed(f"{command} is not kept over a restart: {failure}") from None

    async def _status(self) -> dict[str, Any]:
        worker, now = self._worker, self._clock.now()
        spool = worker.partition.stats()
        delivery = worker.dispatcher.stats()
        settled = worker.outbound.settlement.stats()
        reception = worker.listener.reception
        queues = worker.scheduler.waiting_queues()
        return {
            "traffic": worker.traffic.shown(now),
            "conn": {
                "smtpIn": {
                    "cur": len(reception.guests),
                    "top": reception.most_guests,
                    "max": worker.snapshot.top.integer("total-max-smtp-in"),
                },
                "smtpOut": {
                    "cur": delivery.working + delivery.resting + delivery.opening,
                    "top": worker.dispatcher.most_connections,
                    "max": worker.snapshot.top.integer("total-max-smtp-out"),
                },
            },
            "resolver": {
                "namesCached": worker.outbound.directions.resolver.names_cached,
                "queriesPending": worker.outbound.directions.resolver.pending,
                **asdict(worker.outbound.directions.resolver.stats),
            },
            "queue": {"smtp": {"rcp": spool.recipients, "dom": queues, "kb": spool.bytes // 1024}},
            "settled": settled._asdict(),
            "duplicateWindowP99": spool.window_p99,
            "recovering": worker.is_recovering,
            "alarms": [*worker.alarms, *self._shortages()],
            "spool": {
                "dirs": [
                    {
                        "path": str(worker.partition.directory),
                        "free": spool.free_space,
                        "totalRcp": spool.recipients,
                        "messages": spool.messages,
                        "segments": spool.segments,
                        "settleFiles": spool.settle_files,
                        "freeFiles": spool.free_files,
                        "backlog": spool.backlog,
                        "damaged": spool.damaged,
                        "broken": spool.broken,
                    }
                ],
                "totalRcp": spool.recipients,
                "parkedRcp": worker.scheduler.parked,
                "heldRcp": worker.crew.passage.waiting,
                "initPct": 0 if worker.is_recovering else 100,
            },
        }

    def _shortages(self) -> list[str]:
        """What keeps new mail out although nothing is broken."""
        partition = self._worker.partition
        shortage = partition.shortage
        return [f"spool {partition.directory} takes no new mail (452): {shortage}"] if shortage else []

    async def _glance(self) -> dict[str, Any]:
        """One row of `show workers`."""
        worker = self._worker
        delivery = worker.dispatcher.stats()
        return {
            "rcp": worker.partition.stats().recipients,
            "queues": sum(1 for _ in worker.scheduler.queues(self._clock.now())),
            "connIn": len(worker.listener.reception.guests),
            "connOut": delivery.working + delivery.resting + delivery.opening,
            "handedOver": worker.crew.handover.handed,
            "held": worker.crew.passage.waiting,
            "adopted": sum(adoption.waiting for adoption in worker.crew.adoptions),
        }

    async def _queues(self, **filters: Any) -> dict[str, Any]:
        return queue_rows(self._worker, self._clock.now(), **filters)

    async def _vmtas(self, maxitems: int = 0, sort: str = "rcpt") -> dict[str, Any]:
        return vmta_rows(self._worker, self._clock.now())  # sorted and cut where the workers' are merged

    async def _domains(self, **filters: Any) -> dict[str, Any]:
        return domain_rows(self._worker, self._clock.now(), **filters)

    def _count(self, pattern: str, is_meant: Callable[[QueueStatus], bool]) -> dict[str, Any]:
        """What a verb would do: the queues that match and would change."""
        rows = list(self._worker.scheduler.queues(self._clock.now(), pattern))
        return {"queues": sum(map(is_meant, rows)), "total": len(rows)}

    async def _pause(self, pattern: str, dryRun: bool = False) -> dict[str, Any]:
        if dryRun:
            return self._count(pattern, lambda row: row.state != "paused")
        changed = self._worker.scheduler.pause(pattern, self._clock.now())
        self._worker.save_state()
        return {"queues": changed}

    async def _resume(self, pattern: str, dryRun: bool = False) -> dict[str, Any]:
        if dryRun:
            return self._count(pattern, lambda row: row.state == "paused")
        changed = self._worker.scheduler.resume(pattern, self._clock.now())
        # In force whether or not the disk can keep it.
        self._worker.dispatcher.wake()
        self._worker.save_state()
        return {"queues": changed}

    async def _schedule(
        self, pattern: str, retryRecipients: bool = False, dryRun: bool = False
    ) -> dict[str, Any]:
        if dryRun:
            return self._count(
                pattern,
                lambda row: (row.waiting > 0 < row.retry_at) or (retryRecipients and row.deferred > 0),
            )
        scheduler, now = self._worker.scheduler, self._clock.now()
        total = sum(1 for _ in scheduler.queues(now, pattern))
        scheduled = scheduler.schedule_now(pattern, now, with_deferred=retryRecipients)
        self._worker.dispatcher.wake()
        return {"queues": scheduled, "total": total}

    async def _mode(self, pattern: str, mode: str, dryRun: bool = False) -> dict[str, Any]:
        if dryRun:
            wanted = QueueMode(mode).value
            return self._count(pattern, lambda row: row.mode != wanted)
        changed = self._worker.scheduler.set_mode(pattern, QueueMode(mode), self._clock.now())
        self._worker.dispatcher.wake()
        return {"queues": changed}

    async def _reset(self) -> dict[str, Any]:
        self._worker.traffic.reset()
        return {}

    async def _clear_dns(self, domain: str = "*") -> dict[str, Any]:
        self._worker.outbound.directions.resolver.forget(domain)
        self._worker.outbound.directions.router.flush()
        return {}

    async def _list(
        self,
        queue: str = "*/*",
        maxitems: int = 100,
        **filters: str,
    ) -> dict[str, Any]:
        rows: list[dict[str, Any]] = []
        total = 0
        is_paused = self._worker.scheduler.is_paused
        async for key, entry, envelope, owner in self._everywhere(queue, filters):
            total += 1
            if len(rows) < maxitems:
                recipient = envelope.recipients[entry.ref & RECIPIENT_MASK]
                rows.append(
                    {
                        "queueId": envelope.queue_id,
                        "orig": envelope.originator,
                        "rcpt": recipient.address,
                        "queue": str(key),
                        "jobId": envelope.job_id,
                        "envId": envelope.envelope_id,
                        "timeQueued": envelope.received,
                        "attempts": entry.attempts,
                        "nextTry": entry.due,
                        "size": self._worker.partition.size(entry.ref >> RECIPIENT_BITS),
                        "priority": entry.priority,
                        "paused": is_paused(key) or self._worker.jobs.is_paused(envelope.job_id),
                        "schedule": [list(window) for window in envelope.schedule],
                        "heldFor": owner,
                    }
                )
        return {"rcpt": rows, "total": total}

    async def _prioritize(
        self, priority: int, queue: str = "", dryRun: bool = False, **filters: str
    ) -> dict[str, Any]:
        if not 0 <= priority <= 100:
            raise CommandFailed("a priority is a number from 0 to 100")
        if not queue and not filters:
            raise CommandFailed("say which recipients: by queue, rcpt, orig, jobId, envId or olderThan")
        worker, queue = self._worker, queue or "*/*"
        began = self._clock.now()
        found: dict[QueueKey, set[int]] = {}
        total = 0
        async for key, entry, _envelope in self._matching(queue, filters):
            total += 1
            if entry.priority != priority:
                found.setdefault(key, set()).add(entry.ref)
        if dryRun:
            return {"rcp": sum(map(len, found.values())), "total": total}
        changed = 0
        for key, refs in found.items():
            changed += worker.scheduler.prioritize(key, refs, priority, self._clock.now())
            changed += worker.jobs.prioritize(key, refs, priority)
            await asyncio.sleep(0)
        worker.dispatcher.wake()
        worker.priorities.note(priority, queue, filters, began)
        worker.save_state()
        return {"rcp": changed, "total": total}

    async def _delete(
        self,
        dryRun: bool = False,
        dsn: bool = False,
        noAccounting: bool = False,
        queue: str = "",
        grace: str = "0",
        **filters: str,
    ) -> dict[str, Any]:
        if not queue and filters.keys().isdisjoint(("jobId", "orig", "rcpt")):
            raise CommandFailed("delete needs at least one of queue, jobId, orig and rcpt")
        worker, seconds = self._worker, parse_interval(grace) or 0.0
        found: dict[QueueKey, dict[int, Entry]] = {}
        held: dict[int, Envelope] = {}
        async for key, entry, envelope, owner in self._everywhere(queue or "*/*", filters):
            found.setdefault(key, {})[entry.ref] = entry
            if owner is not None:
                held[entry.ref] = envelope
        taken = set(() if dryRun else worker.crew.passage.remove(held.keys()))
        for ref in taken:
            # Nobody here has counted it among its job's, and its end will be.
            if held[ref].job_id:
                worker.jobs.enter(held[ref].job_id, 1, worker.partition.size(ref >> RECIPIENT_BITS))
        gone: dict[QueueKey, list[Entry]] = {}
        for key, entries in found.items():
            refs: Set[int] = entries.keys()
            if not dryRun:
                # Those that were taken for delivery meanwhile are past deleting.
                here = {*worker.scheduler.remove(key, refs), *worker.jobs.remove(key, refs)}
                refs = here | (refs & taken)
                await asyncio.sleep(0)
            gone[key] = [entries[ref] for ref in refs]
        if not dryRun:
            worker.trash.keep(gone, seconds, with_dsn=dsn, is_recorded=not noAccounting)
        messages = {entry.ref >> RECIPIENT_BITS for entries in gone.values() for entry in entries}
        return {"rcp": sum(map(len, gone.values())), "msg": len(messages)}

    async def _undo_delete(self, dryRun: bool = False) -> dict[str, Any]:
        """Bring back what was deleted with a grace that is not over."""
        if dryRun:
            return {"rcp": len(self._worker.trash)}
        found = self._worker.trash.bring_back()
        for number, (key, entry) in enumerate(found, 1):
            self._bring_back(key, entry)
            if number % SLICE == 0:
                await asyncio.sleep(0)
        self._worker.dispatcher.wake()
        return {"rcp": len(found)}

    def _bring_back(self, key: QueueKey, entry: Entry) -> None:
        """One that was deleted waits again, here or for the worker that owns its queue."""
        worker = self._worker
        with contextlib.suppress(SpoolError):
            envelope = worker.partition.envelope(entry.ref >> RECIPIENT_BITS)
            owner = worker.crew.layout.owner(envelope.recipients[entry.ref & RECIPIENT_MASK].queue_domain)
            if owner != worker.crew.number:
                worker.jobs.leave(envelope.job_id)
                worker.crew.passage.add_ref(owner, entry.ref, entry.attempts, float(entry.due))
                return
        worker.admission.again(key, entry)

    async def _everywhere(
        self, queue: str, filters: dict[str, str]
    ) -> AsyncIterator[tuple[QueueKey, Entry, Envelope, int | None]]:
        """`_matching`, then what is held for other workers (`Passage`), with the worker's number."""
        async for key, entry, envelope in self._matching(queue, filters):
            yield key, entry, envelope, None
        worker = self._worker
        latest, pattern = youngest(filters, self._clock.now()), QueuePattern.parse(queue)
        for seen, (ref, attempts, due) in enumerate(worker.crew.passage.held(), 1):
            if seen % SLICE == 0:
                await asyncio.sleep(0)
            try:
                envelope = worker.partition.envelope(ref >> RECIPIENT_BITS)
            except (SpoolError, MtaError):
                continue
            recipient = envelope.recipients[ref & RECIPIENT_MASK]
            key = worker.admission.key(recipient.queue_domain, envelope.vmta)
            if envelope.received > latest or not pattern.matches(key):
                continue
            if is_match(envelope, recipient, filters):
                priority = worker.priorities.of(key, envelope, ref & RECIPIENT_MASK)
                entry = Entry(ref, int(envelope.received), attempts, int(due), priority)
                yield key, entry, envelope, worker.crew.layout.owner(recipient.queue_domain)

    async def _matching(
        self, queue: str, filters: dict[str, str]
    ) -> AsyncIterator[tuple[QueueKey, Entry, Envelope]]:
        """Waiting recipients that match; those whose message can't be read are left out."""
        worker = self._worker
        latest = youngest(filters, self._clock.now())
        seen = 0
        for key, entries in self._waiting(queue):
            for entry in entries:
                seen += 1
                if seen % SLICE == 0:
                    await asyncio.sleep(0)
                if entry.received > latest:
                    continue
                try:
                    envelope = worker.partition.envelope(entry.ref >> RECIPIENT_BITS)
                except (SpoolError, MtaError):
                    continue
                if is_match(envelope, envelope.recipients[entry.ref & RECIPIENT_MASK], filters):
                    yield key, entry, envelope

    def _waiting(self, queue: str) -> Iterator[tuple[QueueKey, list[Entry]]]:
        """What waits in the matching queues, and what is kept back from them."""
        scheduler = self._worker.scheduler
        for status in list(scheduler.queues(self._clock.now(), queue)):
            yield status.key, scheduler.entries(status.key)
        pattern = QueuePattern.parse(queue)
        for key, entries in self._worker.jobs.held():
            if pattern.matches(key):
                yield key, entries
