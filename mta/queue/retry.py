"""How long to wait before trying again: `retry-after`, `retry-recipients-after`, and the penalty ladder.

A queue climbs its list with every failure of its own and starts again at the foot after any delivery; the
last entry repeats. A recipient that got a temporary refusal of its own waits for `retry-recipients-after`,
or, where `initial-pts` is set, for a wait that doubles with each attempt up to `max-pts`.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["after_restart", "ladder_wait", "penalty", "penalty_ladder"]

#: Whoever would have expired while nobody was there gets so many seconds for one more try.
RESTART_GRACE = 600.0

#: Doubling stops to matter after this many steps whatever the numbers are.
MOST_STEPS = 30


def ladder_wait(waits: Sequence[float], step: int) -> float:
    """The wait after failure number `step` (0 is the first); the last entry repeats."""
    return waits[min(step, len(waits) - 1)]


def penalty(initial: float, most: float, attempts: int) -> float:
    """`initial` after the first attempt, doubled after each further one, never over `most`."""
    return float(min(most, initial * 2.0 ** min(max(attempts - 1, 0), MOST_STEPS)))


def after_restart(
    now: float, received: float, due: float, *, bounce_after: float, longest: float
) -> tuple[float, float]:
    """When a recipient that comes back after a restart counts as received, and when it is due.

    The service may have been down for long, or the clock may have been set meanwhile: nobody expires without
    another try, and nobody waits longer than the longest wait that is configured.
    """
    received = min(received, now)
    if received + bounce_after <= now:
        return now - bounce_after + min(RESTART_GRACE, bounce_after), now
    return received, min(due, now + longest)


def penalty_ladder(initial: float, most: float) -> tuple[float, ...]:
    """The `retry-after` list that `initial-pts` and `max-pts` stand for."""
    waits = [min(initial, most)]
    while waits[-1] < most and len(waits) < MOST_STEPS:
        waits.append(min(most, waits[-1] * 2))
    return tuple(waits)
