"""A first dozen rows: enough to build a snapshot."""

from __future__ import annotations

from mta.config.kinds import Directive, Kind, Scope

__all__ = ["ROWS"]

_GLOBAL = frozenset({Scope.GLOBAL})
_DOMAIN = frozenset({Scope.DOMAIN})

ROWS: tuple[Directive, ...] = (
    Directive(
        "total-max-smtp-out", _GLOBAL, Kind.INTEGER, "1200", "Outbound connections of the whole server."
    ),
    Directive("max-smtp-out", _DOMAIN, Kind.INTEGER, "20", "Connections per queue."),
    Directive("retry-after", _DOMAIN, Kind.INTERVALS, "10m", "Waits after failures of the queue."),
)
