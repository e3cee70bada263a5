"""Who gets the mail for an alias.

An alias is an address, a bare local part (then it holds at our own host names), or `*@domain`; the most
specific one counts. Targets may be aliases themselves; an address that comes up again stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable

from mta.config.addressing import Alias

__all__ = ["AliasTable"]

#: Recipients that one recipient may become.
_MOST = 1000


class AliasTable:
    """The aliases of one configuration."""

    def __init__(self, aliases: Iterable[Alias], own_names: Iterable[str]) -> None:
        self._targets: dict[str, tuple[str, ...]] = {}
        for alias in aliases:
            # Several lines for one name add up.
            self._targets[alias.source] = self._targets.get(alias.source, ()) + alias.targets
        self._own_names = frozenset(name.lower() for name in own_names)

    def expand(self, address: str) -> tuple[str, ...]:
        """The recipients behind an address, each once; the address itself when it is no alias."""
        if not self._targets or self._find(address) is None:
            return (address,)
        found: dict[str, None] = {}
        seen = {address.lower()}
        waiting = [address]
        while waiting and len(found) < _MOST:
            current = waiting.pop(0)
            targets = self._find(current)
            if targets is None:
                found[current] = None
                continue
            for target in targets:
                if target.lower() in seen:
                    # A circle, or `alias ann ann@here,archive@there`: ann gets hers.
                    found[target] = None
                else:
                    seen.add(target.lower())
                    waiting.append(target)
        return tuple(found)

    def _find(self, address: str) -> tuple[str, ...] | None:
        low = address.lower()
        targets = self._targets.get(low)
        if targets is None:
            local, _, domain = low.rpartition("@")
            if domain in self._own_names:
                targets = self._targets.get(local)
            if targets is None:
                targets = self._targets.get(f"*@{domain}")
        return targets

    def __bool__(self) -> bool:
        return bool(self._targets)
