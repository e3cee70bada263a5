"""A heartbeat needs no free descriptor: a worker that has run out of them lives on."""

from __future__ import annotations

import os
import resource

from mta.service.vitals import ResidentMemory


def test_resident_memory_is_known_without_a_free_descriptor() -> None:
    memory = ResidentMemory()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, limits[1]))
    try:
        found = memory.octets()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        memory.close()

    assert 1 << 20 < found < 1 << 34
