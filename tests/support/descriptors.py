"""A process that has run out of file descriptors."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator

__all__ = ["no_free_descriptor"]


@contextlib.contextmanager
def no_free_descriptor() -> Iterator[None]:
    """While it lasts, this process can open nothing more: EMFILE. What is open stays so."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
