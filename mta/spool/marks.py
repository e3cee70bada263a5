"""How far the disk is known to have everything, in a small file that other processes map.

    0   8  magic "MTAmarks"
    8   8  settle position        file number << 32 | offset: settle records before it are on disk
    16  8  its complement
    24  8  accept position        the same for the newest accept segment, as of the last acknowledged commit
    32  8  its complement
    40  8  outcomes                microseconds of epoch time: outcomes said before it are on disk; when the
                                   commit was formed that saved the last of them, or before
    48  8  its complement

One process writes it, after a sync, with plain stores of eight bytes; others read without a lock, and a
reader that meets a half-written pair tries again. The file itself is never synced on the way: it may be
behind the truth after a power cut, never ahead, and every record is checked anyway.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

__all__ = ["Marks", "Position", "read_marks", "read_safe_until"]

_NAME = "marks"
_MAGIC = int.from_bytes(b"MTAmarks", "little")
_SIZE = 64
_WORDS = struct.Struct("<8Q")
_ALL_ONES = (1 << 64) - 1


class Position(NamedTuple):
    """A place in a series of files: the file's number and the offset in it."""

    number: int
    at: int


class MarksRead(NamedTuple):
    """What the file says; None for what it can't say reliably."""

    settle: Position | None
    accept: Position | None


class Marks:
    """The writing side; one per partition, held by the process that has the lock."""

    def __init__(self, directory: Path) -> None:
        path = directory / _NAME
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.ftruncate(descriptor, _SIZE)
            self._map = mmap.mmap(descriptor, _SIZE)
        finally:
            os.close(descriptor)
        self._words = memoryview(self._map).cast("Q")
        self._words[0] = _MAGIC

    def publish_settle(self, number: int, at: int) -> None:
        self._store(1, number << 32 | at)

    def publish_accept(self, number: int, at: int) -> None:
        self._store(3, number << 32 | at)

    def publish_safe_until(self, moment: float) -> None:
        """Every outcome that was said before this moment (epoch seconds) is on disk."""
        self._store(5, int(moment * 1e6))

    def close(self) -> None:
        self._words.release()
        self._map.flush()
        self._map.close()

    def _store(self, word: int, value: int) -> None:
        self._words[word] = value
        self._words[word + 1] = value ^ _ALL_ONES


def read_marks(directory: Path) -> MarksRead:
    """The marks of a partition, by any process; all None when there is no such file."""
    settle = accept = None
    for _ in range(3):
        words = _read_words(directory)
        if not words:
            break
        settle, accept = _believed(words, 1), _believed(words, 3)
        if settle is not None:
            break
    return MarksRead(_position(settle), _position(accept))


def read_safe_until(directory: Path) -> float:
    """Outcomes said before this moment (epoch seconds) are on disk; 0 when nothing is known.

    What was delivered later may be delivered again if the process dies now: this is the duplicate window.
    """
    for _ in range(3):
        words = _read_words(directory)
        moment = _believed(words, 5) if words else 0
        if moment is not None:
            return moment / 1e6
    return 0.0


def _read_words(directory: Path) -> Sequence[int]:
    """All words of the file; empty when there is none, or it is not ours."""
    try:
        descriptor = os.open(f"{directory}/{_NAME}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ()
    try:
        data = os.read(descriptor, _SIZE)
    except OSError:
        return ()
    finally:
        os.close(descriptor)
    words = _WORDS.unpack(data) if len(data) == _SIZE else ()
    return words if words and words[0] == _MAGIC else ()


def _believed(words: Sequence[int], place: int) -> int | None:
    """A word that its complement confirms."""
    return words[place] if words[place] ^ words[place + 1] == _ALL_ONES else None


def _position(word: int | None) -> Position | None:
    return None if word is None else Position(word >> 32, word & 0xFFFFFFFF)
