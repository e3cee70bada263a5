"""When recipients are tried next, and how often they have been: gathered from the log at a restart.

Beside the index, and bounded as it is.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left

from mta.spool.index import PAGE_ROWS, Index
from mta.spool.pages import NoShelf, Pages, Shelf
from mta.spool.record import Deferral

__all__ = ["Deferrals"]

#: (message, recipient) → its latest deferral
Tries = dict[tuple[int, int], Deferral]

_TRY = struct.Struct("<QHQdI")


class Deferrals:
    """What is known about tries to come, gathered at a restart and given away with `find`.

    Of young messages with one recipient there are arrays beside the index (26 bytes a message); further
    recipients of a message are few and live in a dictionary. What is known about others lies in pages.
    """

    def __init__(self, index: Index, shelf: Shelf | None = None) -> None:
        self._index = index
        self._ids = index.young_ids()
        self._sequences = array("Q", bytes(8 * len(self._ids)))
        self._dues = array("d", bytes(8 * len(self._ids)))
        self._attempts = array("H", bytes(2 * len(self._ids)))
        self._others: dict[tuple[int, int], Deferral] = {}
        self._pages = Pages(shelf or NoShelf(), encode_tries, decode_tries)
        self._row = -1  # found last: whoever asks for all goes from row to row
        self.highest = 0

    def note(self, message: int, recipient: int, deferral: Deferral) -> None:
        """A deferral read from the log, in any order."""
        self.highest = max(self.highest, deferral.sequence)
        row = bisect_left(self._ids, message)
        if row == len(self._ids) or self._ids[row] != message:
            if self._index.row(message) >= 0:
                self._note_old(message, recipient, deferral)
            return
        if recipient:
            known = self._others.get((message, recipient))
            if known is None or known.sequence < deferral.sequence:
                self._others[message, recipient] = deferral
        elif self._sequences[row] < deferral.sequence:
            self._sequences[row], self._dues[row] = deferral.sequence, deferral.due
            self._attempts[row] = min(deferral.attempts, 0xFFFF)

    def find(self, message: int, recipient: int) -> Deferral | None:
        """The latest deferral of one recipient; None when it never was deferred."""
        if recipient and (message, recipient) in self._others:
            return self._others[message, recipient]
        ids, row = self._ids, self._row + 1
        if row >= len(ids) or ids[row] != message:
            row = bisect_left(ids, message)
            if row == len(ids) or ids[row] != message:
                return self._find_old(message, recipient)
        if recipient:
            return None
        self._row = row
        if not self._sequences[row]:
            return None
        return Deferral(self._sequences[row], self._dues[row], self._attempts[row])

    def forget(self) -> None:
        """Nobody asks any more."""
        self._pages.clear()

    def _note_old(self, message: int, recipient: int, deferral: Deferral) -> None:
        number = message // PAGE_ROWS
        if number not in self._pages:
            self._pages.add(number, {})
        tries = self._pages.get(number, is_changing=True)
        known = tries.get((message, recipient))
        if known is None or known.sequence < deferral.sequence:
            tries[message, recipient] = deferral

    def _find_old(self, message: int, recipient: int) -> Deferral | None:
        number = message // PAGE_ROWS
        if number not in self._pages:
            return None
        return self._pages.get(number).get((message, recipient))


def encode_tries(tries: Tries) -> bytes:
    """Deferrals as bytes for `decode_tries`."""
    return b"".join([_TRY.pack(*who, *deferral) for who, deferral in tries.items()])


def decode_tries(data: bytes) -> Tries:
    """What `encode_tries` has made bytes of."""
    return {
        (message, recipient): Deferral(sequence, due, attempts)
        for message, recipient, sequence, due, attempts in _TRY.iter_unpack(data)
    }
