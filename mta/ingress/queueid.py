"""Queue ids: our name for an accepted message, in replies, headers, logs and records.

Fourteen characters that need no quoting anywhere. The first ten hold the millisecond in which this generator
was made, the worker and twelve random bits, so that no two processes and no two lives of one process give the
same id; the last four count. The alphabet is in ASCII order: ids of one worker sort by age.
"""

from __future__ import annotations

import secrets

from mta.clock import Clock

__all__ = ["QueueIds"]

_ALPHABET = "-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"
_PAIRS = tuple(first + second for first in _ALPHABET for second in _ALPHABET)
_WORKERS = 64
_COUNT_BITS = 24


class QueueIds:
    """Gives one id after the other; `worker` is a number below 64."""

    def __init__(self, clock: Clock, worker: int = 0) -> None:
        self._clock = clock
        self._worker = worker % _WORKERS
        self._prefix = ""
        self._count = 0
        self._renew()

    def next(self) -> str:
        """An id that nobody else has."""
        count = self._count
        self._count = count + 1
        if count >> _COUNT_BITS:
            self._renew()
            return self.next()
        return self._prefix + _PAIRS[count >> 12] + _PAIRS[count & 4095]

    def _renew(self) -> None:
        moment = int(self._clock.wall() * 1000) & ((1 << 42) - 1)
        number = moment << 18 | self._worker << 12 | secrets.randbits(12)
        self._prefix = "".join(_PAIRS[number >> shift & 4095] for shift in (48, 36, 24, 12, 0))
        # Any start will do; one in the middle spares people ids that end in a row of dashes.
        self._count = secrets.randbelow(1 << (_COUNT_BITS - 1))

    def __repr__(self) -> str:
        return f"<QueueIds worker={self._worker} prefix={self._prefix}>"
