"""Queue ids: our name for an accepted message, in replies, headers, logs and records.

Fourteen characters that need no quoting anywhere. The first ten hold the millisecond in which this generator
was made, the worker and twelve random bits, so that no two processes and no two lives of one process give the
same id; the last four count. The alphabet is in ASCII order: ids of one worker sort by age.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from itertools import chain, islice, product

from mta.clock import Clock

__all__ = ["QueueIds"]

_ALPHABET = "-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"
_PAIRS = tuple(first + second for first in _ALPHABET for second in _ALPHABET)
_WORKERS = 64
_COUNT_BITS = 24


class QueueIds:
    """Gives one id after the other; `worker` is a number below 64, `first` where counting begins."""

    def __init__(self, clock: Clock, worker: int = 0, *, first: int | None = None) -> None:
        self._clock = clock
        self._worker = worker % _WORKERS
        self._prefix = self._make_prefix()
        series = self._series(_any_start() if first is None else first)
        #: An id that nobody else has; made without a step of the interpreter.
        self.next: Callable[[], str] = chain.from_iterable(series).__next__

    def _series(self, first: int) -> Iterator[Iterator[str]]:
        """The ids from a count on, and when they are used up those of a new prefix."""
        while True:
            high, low = divmod(first, len(_PAIRS))
            yield map("".join, islice(product((self._prefix,), _PAIRS[high:], _PAIRS), low, None))
            self._prefix = self._make_prefix()
            first = _any_start()

    def _make_prefix(self) -> str:
        moment = int(self._clock.wall() * 1000) & ((1 << 42) - 1)
        number = moment << 18 | self._worker << 12 | secrets.randbits(12)
        return "".join(_PAIRS[number >> shift & 4095] for shift in (48, 36, 24, 12, 0))

    def __repr__(self) -> str:
        return f"<QueueIds worker={self._worker} prefix={self._prefix}>"


def _any_start() -> int:
    """Any start will do; one in the middle spares people ids that end in a row of dashes."""
    return secrets.randbelow(1 << (_COUNT_BITS - 1))
