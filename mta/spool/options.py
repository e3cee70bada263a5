"""What a partition is told when it is opened."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from mta.clock import Clock, SystemClock
from mta.spool.files import Files
from mta.spool.pace import Pace

__all__ = ["SpoolOptions"]


_DEFAULT_POOL = 64 << 20


class SpoolSettings(Protocol):
    """The getters of `config.settings.Settings` that are used here."""

    def boolean(self, name: str) -> bool: ...
    def size(self, name: str) -> int | None: ...
    def is_set(self, name: str) -> bool: ...


@dataclass(frozen=True, slots=True)
class SpoolOptions:
    """How one partition behaves. Sizes in bytes, 0 where a limit is off.

    `segment_size` and `settle_size` bound a file; 0 chooses by the size of the file system. `delete_files`
    removes files instead of using them again (delete-file-holders). `deliver_only` refuses new mail.
    `most_in_memory` is of how many messages the places are kept in memory, about, 0 for all.
    `max_backlog` is how much of outcomes may wait in memory for room on the disk before mail is refused.
    """

    memory_pool: int = _DEFAULT_POOL
    min_free_space: int = 0
    min_free_inodes: int = 100
    segment_size: int = 0
    settle_size: int = 0
    delete_files: bool = False
    deliver_only: bool = False
    max_backlog: int = 16 << 20
    most_in_memory: int = 0
    pace: Pace = field(default_factory=Pace)
    clock: Clock = field(default_factory=SystemClock)
    files: Files = field(default_factory=Files)

    @classmethod
    def from_settings(cls, top: SpoolSettings, spool: SpoolSettings) -> SpoolOptions:
        """From the top level and the `<spool>` block; the memory pool is the whole process's."""
        pool = top.size("memory-pool-buffer-size")
        return cls(
            memory_pool=_DEFAULT_POOL if pool is None else pool,
            min_free_space=spool.size("min-free-space") or 0,
            delete_files=spool.boolean("delete-file-holders"),
            deliver_only=spool.boolean("deliver-only"),
        )
