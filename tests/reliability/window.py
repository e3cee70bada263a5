"""Engine 6: the duplicate window under full load, as the service publishes it and as seen from outside.

Outside means: from when the receiver's 250 has left, by its clock, until the service's `marks` say that every
outcome of that moment is on disk. That is what a crash can repeat, the time for which the 250 lies unread in
a socket included; the service's own figure begins when it has read it.
"""

from __future__ import annotations

import asyncio
import bisect
import time

from tests.reliability.arena import Arena
from tests.reliability.ledger import WINDOW, percentile
from tests.reliability.plan import Findings, Plan

__all__ = ["Window", "lags"]

_SESSIONS = 40
_LOOK = 0.001


class Window:
    """`rounds` seconds of full load. The target is of the service's own p99 and a machine to itself: beyond
    it is a breach in the full form, a warning in the short one."""

    name = "window"

    async def run(self, plan: Plan) -> Findings:
        seconds, findings = plan.choose(full=60, short=6), Findings(self.name)
        plan.progress.begin(self.name, seconds)
        samples: list[tuple[float, float]] = []
        async with Arena(plan.directory) as arena:
            load = arena.injector("w", sessions=_SESSIONS)
            running = asyncio.create_task(load.run())
            await load.until(1)
            done, began = 0, time.monotonic()
            while done < seconds and not plan.is_time_up():
                await asyncio.sleep(_LOOK)
                samples.append((arena.safe_until(), time.time()))
                if time.monotonic() - began >= done + 1:
                    done += 1
                    plan.progress.step()
                if done % 20 == 19 and load.acknowledged:
                    # An injector has its time too.
                    arena.note_load(load)
                    load.stop()
                    await running
                    load = arena.injector(f"w{done}-", sessions=_SESSIONS)
                    running = asyncio.create_task(load.run())
                    await load.until(1)
            published = float((await arena.ask("show.status"))["duplicateWindowP99"])
            load.stop()
            await running
            arrivals = [arrival.said for arrival in arena.evidence.arrivals]
        found = lags(arrivals, samples)
        findings.stop_early(done, seconds, plan)
        findings.figures = {
            "seconds of load": done,
            "outcomes": len(found),
            "published p99, ms": round(published * 1000, 1),
            "from outside p50, ms": round(percentile(found, 0.50) * 1000, 1),
            "from outside p99, ms": round(percentile(found, 0.99) * 1000, 1),
            "from outside max, ms": round(max(found, default=0.0) * 1000, 1),
        }
        if published > WINDOW:
            words = f"p99 {published * 1000:.0f} ms is over the target of {WINDOW * 1000:.0f} ms"
            findings.miss(words, plan)
        return findings


def lags(arrivals: list[float], samples: list[tuple[float, float]]) -> list[float]:
    """For each arrival that the samples reach: seconds until a sample says that its moment is on disk.

    `samples` are (until when outcomes are on disk, when that was read), in order.
    """
    moments = [moment for moment, _ in samples]
    found = []
    for at in arrivals:
        place = bisect.bisect_left(moments, at)
        if place < len(samples):
            found.append(max(0.0, samples[place][1] - at))
    return found
