"""All targets by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from tests.fuzz import disk, language, letters, names, wire
from tests.fuzz.target import Target

__all__ = ["TARGETS"]

TARGETS: Mapping[str, Target] = MappingProxyType(
    {target.name: target for module in (wire, letters, disk, language, names) for target in module.TARGETS}
)
