"""What the spool hands out: stored messages, recovered ones, and figures about itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from mta.message.envelope import Envelope

__all__ = ["Recovered", "SpoolStats", "Stored", "Waiting"]


class Stored(msgspec.Struct, frozen=True, gc=False):
    """One message; `body` is in wire form, without the final dot. (Half as long in the making as a tuple.)"""

    envelope: Envelope
    body: bytes


class Waiting(NamedTuple):
    """A recipient that is not settled: its index, attempts so far, and when it is due (epoch seconds).

    `due` is 0.0 for one that was never deferred.
    """

    recipient: int
    attempts: int
    due: float


class Recovered(NamedTuple):
    """A message found at a restart, with everybody who still waits; `size` is the body's length."""

    message: int
    envelope: Envelope
    size: int
    waiting: list[Waiting]


@dataclass(frozen=True, slots=True)
class SpoolStats:
    """Figures of one partition. Sizes in bytes, times in seconds.

    `batches` counts commits and `sync_seconds` the time they took; `window_p99` is the duplicate window: how
    long outcomes took to be safe. `backlog` are outcomes not yet on disk, `damaged` records put into
    quarantine by this process, `dropped` deferrals and records that found no room, `broken` why the partition
    is out of order ("" when it is not).
    """

    messages: int
    recipients: int
    bytes: int
    segments: int
    settle_files: int
    free_files: int
    free_space: int
    free_inodes: int | None
    pool_messages: int
    pool_bytes: int
    batches: int
    sync_seconds: float
    window_p99: float
    backlog: int
    damaged: int
    broken: str
    dropped: int = 0
