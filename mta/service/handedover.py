"""The configuration in force, on its way from the supervisor to a process that it starts.

A file without a name, in memory: whoever inherits its descriptor reads in it what the supervisor has read.
"""

from __future__ import annotations

import os

from mta.config.files import Reading

__all__ = ["HandedOver", "received"]


class HandedOver:
    """The supervisor's side: one such file, made anew with each configuration."""

    def __init__(self, reading: Reading) -> None:
        self._descriptor = _file_of(reading)

    @property
    def descriptor(self) -> int:
        return self._descriptor

    def replace(self, reading: Reading) -> None:
        """Another configuration is in force. Raises OSError, and changes nothing, when there is no room."""
        descriptor = _file_of(reading)
        os.close(self._descriptor)
        self._descriptor = descriptor


def received(descriptor: int) -> Reading:
    """What the supervisor has read; the descriptor is closed."""
    # The offset is everybody's: read from the start without moving it.
    size = os.fstat(descriptor).st_size
    try:
        return Reading.decode(os.pread(descriptor, size, 0))
    finally:
        os.close(descriptor)


def _file_of(reading: Reading) -> int:
    descriptor = os.memfd_create("mta-configuration", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(reading.encode())
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
