"""Where counts of cold virtual MTAs are kept, in memory."""

from __future__ import annotations

from typing import Any

__all__ = ["ColdMemory"]


class ColdMemory:
    """Kept counts; `fails` is a full disk."""

    def __init__(self) -> None:
        self.kept: dict[str, dict[str, Any]] = {}
        self.fails = False

    def load(self, name: str) -> dict[str, Any]:
        return dict(self.kept.get(name, {}))

    def save(self, name: str, value: dict[str, Any]) -> None:
        if self.fails:
            raise OSError("disk full")
        self.kept[name] = value
