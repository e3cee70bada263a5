"""The default bounce categories, for configurations without a `<bounce-category-patterns>` block.

The list is package data (`defaults/bounce-categories.conf`), in the same language and with its reasons beside
it, so that an operator can copy it and change a line.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from mta.config.patterns import BouncePattern, read_bounce_pattern
from mta.config.problems import Origin

__all__ = ["default_categories", "default_text"]

_FILE = "bounce-categories.conf"


def default_text() -> str:
    """The list as an operator would write it."""
    return (resources.files("mta.config") / "defaults" / _FILE).read_text("utf-8")


def default_categories() -> tuple[BouncePattern, ...]:
    """The patterns in order; the last one matches everything. Reads a file: call it once a load."""
    found = []
    for number, line in enumerate(default_text().splitlines(), start=1):
        text = line.strip()
        if text.startswith("/"):
            found.append(read_bounce_pattern(text, Origin(Path(_FILE), number, "bounce-category-patterns")))
    return tuple(found)
