"""Load whose messages go to several domains at once."""

from __future__ import annotations

from typing import Any

from tests.support.account import Account
from tests.support.injector import Injector

__all__ = ["DOMAINS", "Account", "SpreadInjector", "domain_of"]

#: Enough that every one of a few workers owns some.
DOMAINS = tuple(f"d{number}.example.com" for number in range(12))


def domain_of(address: str) -> str:
    return address.rpartition("@")[2]


class SpreadInjector(Injector):
    """Each recipient of a message is in another domain than the one before."""

    def __init__(self, port: int, *, domains: tuple[str, ...] = DOMAINS, **options: Any) -> None:
        super().__init__(port, domains=domains, **options)

    def next_message(self) -> tuple[list[str], bytes] | None:
        found = super().next_message()
        if found is None:
            return None
        addresses, content = found
        first = self._domains.index(domain_of(addresses[0]))
        spread = [
            f"{address.rpartition('@')[0]}@{self._domains[(first + 5 * index) % len(self._domains)]}"
            for index, address in enumerate(addresses)
        ]
        return spread, content
