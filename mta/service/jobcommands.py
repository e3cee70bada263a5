"""Commands about jobs: show jobs, pause and resume job."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from mta.clock import Clock
from mta.errors import MtaError
from mta.queue.entries import Entry
from mta.queue.key import RECIPIENT_BITS

if TYPE_CHECKING:
    from mta.service.worker import Worker

__all__ = ["JobCommands"]

#: Messages looked at in one turn of the loop.
SLICE = 200


class JobCommands:
    """`commands` by name; request and reply shapes are in `mta/cli/control.py`."""

    def __init__(self, worker: Worker, *, clock: Clock) -> None:
        self._worker = worker
        self._clock = clock
        self.commands: dict[str, Callable[..., Coroutine[Any, Any, Any]]] = {
            "show.jobs": self._jobs,
            "job.pause": self._pause,
            "job.resume": self._resume,
        }

    async def _jobs(self, maxitems: int = 0, sort: str = "rcpt") -> dict[str, Any]:
        """All of them: what to show is decided where the workers' answers are put together."""
        book = self._worker.jobs
        rows = [
            {
                "id": name,
                "rcp": job.waiting,
                "kb": job.waiting * job.size // max(1, job.entered) // 1024,
                "paused": book.is_paused(name),
                "delivered": job.delivered,
                "failed": job.failed,
            }
            for name, job in book.jobs().items()
        ]
        return {"job": rows, "totalRcp": sum(job.waiting for job in book.jobs().values())}

    async def _pause(self, job: str, dryRun: bool = False) -> dict[str, Any]:
        """Keep back what waits; what is drawn in the meantime is kept back as well (`JobStore`)."""
        worker = self._worker
        if dryRun:
            known = worker.jobs.jobs().get(job)
            return {
                "jobs": int(not worker.jobs.is_paused(job)),
                "rcp": 0 if known is None else known.waiting,
            }
        is_new = worker.jobs.pause(job)
        worker.save_state()
        seen = 0
        for status in list(worker.scheduler.queues(self._clock.now())):
            entries: dict[int, Entry] = {}
            for entry in worker.scheduler.entries(status.key):
                seen += 1
                if seen % SLICE == 0:
                    await asyncio.sleep(0)
                if self._is_of(job, entry):
                    entries[entry.ref] = entry
            removed = worker.scheduler.remove(status.key, entries.keys()) if entries else []
            worker.jobs.hold(job, status.key, [entries[ref] for ref in removed])
        return {"jobs": int(is_new), "rcp": worker.jobs.held_back(job)}

    async def _resume(self, job: str, dryRun: bool = False) -> dict[str, Any]:
        worker = self._worker
        if dryRun:
            return {"jobs": int(worker.jobs.is_paused(job)), "rcp": worker.jobs.held_back(job)}
        kept = worker.jobs.resume(job)
        if kept is None:
            return {"jobs": 0, "rcp": 0}
        for number, (key, entry) in enumerate(kept):
            if number % SLICE == SLICE - 1:
                await asyncio.sleep(0)
            worker.admission.again(key, entry)
        worker.dispatcher.wake()
        worker.save_state()
        return {"jobs": 1, "rcp": len(kept)}

    def _is_of(self, job: str, entry: Entry) -> bool:
        try:
            return self._worker.partition.envelope(entry.ref >> RECIPIENT_BITS).job_id == job
        except MtaError:
            return False
