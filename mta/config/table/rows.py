"""All rows, in the order in which the reference prints them."""

from __future__ import annotations

from mta.config.kinds import Directive
from mta.config.table import core

__all__ = ["ROWS"]

ROWS: tuple[Directive, ...] = (*core.ROWS,)
