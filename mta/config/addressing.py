"""Lines that change or refuse addresses: aliases, rewriting of senders, lists of recipients.

Values only: `addresslines` makes them. Files that a list names are read by whoever uses the list.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mta.config.domainpattern import DomainPattern
from mta.config.regex import Pattern

__all__ = ["AddressBook", "Alias", "DomainRewrite", "RewriteList", "SenderRewrite"]


@dataclass(frozen=True, slots=True)
class Alias:
    """`source` (an address, a bare local part, or `*@domain`; lower case) stands for `targets`."""

    source: str
    targets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SenderRewrite:
    """An envelope sender that matches becomes `target`, whose `*`s are what the `*`s of the pattern found.

    Both may be "": the null return path, written `<>`.
    """

    pattern: re.Pattern[str]
    target: str

    def apply(self, sender: str) -> str | None:
        """The new sender; None when this line is not about it."""
        match = self.pattern.fullmatch(sender)
        if match is None:
            return None
        found = iter(match.groups())
        return re.sub(r"\*", lambda _: next(found, ""), self.target)


@dataclass(frozen=True, slots=True)
class DomainRewrite:
    """Domains that `pattern` covers are written `domain` in the From line."""

    pattern: DomainPattern
    domain: str


@dataclass(frozen=True, slots=True)
class RewriteList:
    """One `<rewrite-list>`; in each half the first line that fits counts."""

    senders: tuple[SenderRewrite, ...] = ()
    domains: tuple[DomainRewrite, ...] = ()


@dataclass(frozen=True, slots=True)
class AddressBook:
    """One `<address-list>`: addresses and local parts in lower case, whole domains, patterns, and files."""

    addresses: frozenset[str] = frozenset()
    domains: frozenset[str] = frozenset()
    regexes: tuple[Pattern, ...] = ()
    files: tuple[str, ...] = ()
