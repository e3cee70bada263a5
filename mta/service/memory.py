"""Giving memory back to the kernel.

Reading a long queue at a start takes memory for a moment, in large pieces that the C library keeps for later
when small ones lie between them. A worker may run for months, so it asks once to have them released.
"""

from __future__ import annotations

import ctypes

__all__ = ["give_back_memory"]


def give_back_memory() -> None:
    """Release what is free; does nothing with a C library that can't (glibc can)."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return
    trim(0)
