"""Domain patterns and the table that finds all blocks of a domain, general before specific.

`*` matches every domain, `x.y` itself, `*.x.y` the names below it, `[*.]x.y` both, `[10.0.0.0/8]` address
literals. Where two patterns of the same length match, the narrower one (`*.x`) counts as more specific; a
pattern that came from a macro is less specific than the same one written out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

import idna

from mta.config.networks import Network, NetworkTable, parse_address, parse_network

__all__ = ["DomainPattern", "DomainTable", "Reach", "normal_domain"]

T = TypeVar("T")

_NAME = re.compile(r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?)*")
_RESERVED = re.compile(r"\{[a-z0-9_-]+\}(?:\.[a-z]+)?")


def normal_domain(name: str) -> str:
    """`name` as queues know it: lower case, A-labels, no final dot. Unusable names only become lower case."""
    name = name.rstrip(".").lower()
    if name.isascii():
        return name
    try:
        return idna.encode(name, uts46=True).decode("ascii")
    except UnicodeError:
        return name


class Reach:
    """How far a pattern reaches; larger is more specific among patterns of the same length."""

    EVERYTHING = 0
    LITERALS = 1
    SELF_AND_BELOW = 2
    BELOW = 3
    EXACT = 4


@dataclass(frozen=True, slots=True)
class DomainPattern:
    """One parsed pattern; `name` is what is left without the wildcard ('' for `*` and literals)."""

    text: str
    reach: int
    name: str = ""
    networks: tuple[Network, ...] = ()

    @classmethod
    def parse(cls, text: str) -> DomainPattern:
        """Raise ValueError for anything but the five forms (and reserved names such as `{bounce}`)."""
        word = text.strip()
        if word == "*":
            return cls(word, Reach.EVERYTHING)
        if word.startswith("[*.]"):
            return cls(word, Reach.SELF_AND_BELOW, _checked(word[4:], text))
        if word.startswith("*."):
            return cls(word, Reach.BELOW, _checked(word[2:], text))
        if word.startswith("[") and word.endswith("]"):
            return cls(word, Reach.LITERALS, networks=parse_network(word))
        return cls(word, Reach.EXACT, _checked(word, text))

    def covers(self, other: DomainPattern) -> bool:
        """Whether this one matches all that `other` does; patterns of literals cover only themselves."""
        if self == other or self.reach == Reach.EVERYTHING:
            return True
        if other.reach == Reach.EXACT:
            return self.matches(other.name)
        if Reach.LITERALS in (self.reach, other.reach) or other.reach == Reach.EVERYTHING:
            return False
        if self.reach == Reach.EXACT:
            return False
        below = other.name.endswith("." + self.name)
        return below or (
            other.name == self.name and (other.reach == Reach.BELOW or self.reach == other.reach)
        )

    def matches(self, domain: str) -> bool:
        """Whether the pattern covers `domain` (already in `normal_domain` form)."""
        if self.reach == Reach.EXACT:
            return domain == self.name
        if self.reach == Reach.EVERYTHING:
            return True
        if self.reach == Reach.LITERALS:
            return _literal_in(domain, self.networks)
        return domain.endswith("." + self.name) or (
            self.reach == Reach.SELF_AND_BELOW and domain == self.name
        )


def _checked(name: str, text: str) -> str:
    normal = normal_domain(name)
    if _NAME.fullmatch(normal) or _RESERVED.fullmatch(normal):
        return normal
    hint = (
        "a wildcard can only stand at the start, as in *.example.com" if "*" in name else "not a domain name"
    )
    raise ValueError(f"{text!r} is not a domain pattern: {hint}")


def _literal_in(domain: str, networks: tuple[Network, ...]) -> bool:
    if not domain.startswith("["):
        return False
    try:
        address = parse_address(domain)
    except ValueError:
        return False
    return any(address in network for network in networks)


class DomainTable(Generic[T]):
    """Values filed under domain patterns; immutable once built.

    A look-up walks the labels of the name, so ten thousand patterns cost no more than ten.
    """

    def __init__(self, entries: Iterable[tuple[DomainPattern, bool, T]]) -> None:
        """`entries` are (pattern, whether a macro made it, value), in file order."""
        self._everything: list[T] = []
        self._named: dict[tuple[int, str], list[T]] = {}
        literals: list[tuple[Network, T]] = []
        # Macro-made entries come first within a pattern: the written one is merged over them.
        for pattern, _from_macro, value in sorted(entries, key=lambda entry: not entry[1]):
            if pattern.reach == Reach.EVERYTHING:
                self._everything.append(value)
            elif pattern.reach == Reach.LITERALS:
                literals += [(network, value) for network in pattern.networks]
            else:
                self._named.setdefault((pattern.reach, pattern.name), []).append(value)
        self._literals = NetworkTable(literals) if literals else None

    def matching(self, domain: str) -> list[T]:
        """The values of all patterns that match `domain` (normal form), most general first."""
        found = list(self._everything)
        if self._literals is not None and domain.startswith("["):
            try:
                found += self._literals.matching(parse_address(domain))
            except ValueError:
                return found
        named = self._named
        if not named:
            return found
        end = len(domain)
        while (dot := domain.rfind(".", 0, end)) >= 0:
            suffix = domain[dot + 1 :]
            found += named.get((Reach.SELF_AND_BELOW, suffix), ())
            found += named.get((Reach.BELOW, suffix), ())
            end = dot
        found += named.get((Reach.SELF_AND_BELOW, domain), ())
        found += named.get((Reach.EXACT, domain), ())
        return found

    def __bool__(self) -> bool:
        return bool(self._everything or self._named or self._literals)
