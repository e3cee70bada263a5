"""Which event loop the tests run on; fixtures live beside the tests that need them or in tests/support."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop
from hypothesis import settings

# The machine of a test run is busy with other tests: slow is not wrong.
settings.register_profile("default", deadline=None, max_examples=60)
settings.load_profile("default")

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Mapping[str, LoopFactory]:
    """Every test runs on uvloop, those marked `both_loops` on plain asyncio as well."""
    if item.get_closest_marker("both_loops"):
        return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}
    return {"uvloop": uvloop.new_event_loop}
