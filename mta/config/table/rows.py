"""All rows, in the order in which the reference prints them."""

from __future__ import annotations

from mta.config.kinds import Directive
from mta.config.table import (
    delivering,
    foreign,
    listening,
    lists,
    records,
    routing,
    server,
    services,
    signing,
    sources,
)

__all__ = ["ROWS"]

ROWS: tuple[Directive, ...] = (
    *server.ROWS,
    *listening.ROWS,
    *sources.ROWS,
    *delivering.ROWS,
    *routing.ROWS,
    *signing.ROWS,
    *records.ROWS,
    *lists.ROWS,
    *services.ROWS,
    *foreign.ROWS,
)
