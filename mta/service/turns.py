"""Long work in turns of the event loop: as much of each as everything else took of the one before.

So neither waits for the other, however busy the loop is: a fixed number of items a turn would be next to
nothing where turns are long, and too much where they are short.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TypeVar

from mta.clock import Clock

__all__ = ["take_turns"]

T = TypeVar("T")

#: Seconds of a turn that the work takes at least and at most.
LEAST, MOST = 0.002, 0.02
#: Items between two looks at the clock, and in one turn in any case.
LOOK, LIMIT = 25, 2500


async def take_turns(items: Iterable[T], work: Callable[[T], None], clock: Clock) -> int:
    """Do the work for each item; returns how many there were."""
    count, limit, until = 0, LIMIT, clock.now() + LEAST
    for item in items:
        work(item)
        count += 1
        if count % LOOK:
            continue
        stopped_at = clock.now()
        if stopped_at >= until or count >= limit:
            await asyncio.sleep(0)
            resumed_at = clock.now()
            limit = count + LIMIT
            until = resumed_at + min(MOST, max(LEAST, resumed_at - stopped_at))
    return count
