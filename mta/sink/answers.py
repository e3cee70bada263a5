"""How the mock receiver answers recipients: shares of accepted, deferred and refused, domain by domain.

Pure. The shares are spread evenly and come out the same in every run: of any hundred recipients, a
share of 0.3 hits 30 (give or take one), yet a recipient that is tried again does not meet the same
answer for ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

__all__ = ["Answers", "DomainAnswers", "DomainTotals"]

#: Multiples of the golden section fill the unit interval more evenly than dice do (Weyl's sequence).
GOLDEN = 0.6180339887498949

DEFERRED = b"451 4.7.1 Please try again later, this receiver defers some mail on purpose"
REFUSED = b"550 5.1.1 The email account that you tried to reach does not exist"


@dataclass(slots=True)
class DomainTotals:
    """What one domain's recipients were told."""

    accepted: int = 0
    deferred: int = 0
    refused: int = 0
    messages: int = 0


@dataclass(slots=True)
class DomainAnswers:
    """The answers of one domain.

    `defer` and `refuse` are shares between 0 and 1. With `at_dot` the verdict falls after the final dot
    (for the whole message, as its first recipient's domain says) instead of at RCPT TO. `latency` is
    seconds before that verdict. With `greylist` a recipient that was deferred is accepted the next time.
    """

    defer: float = 0.0
    refuse: float = 0.0
    greylist: bool = False
    defer_reply: bytes = DEFERRED
    refuse_reply: bytes = REFUSED
    at_dot: bool = False
    latency: float = 0.0
    totals: DomainTotals = field(default_factory=DomainTotals)
    _point: float = field(init=False, default=0.0)
    _deferred: set[bytes] = field(init=False, default_factory=set)

    def __post_init__(self) -> None:
        if not (0 <= self.defer <= 1 and 0 <= self.refuse <= 1 and self.defer + self.refuse <= 1 + 1e-9):
            raise ValueError("the shares deferred and refused, and their sum, must lie between 0 and 1")

    def verdict(self, address: bytes = b"") -> bytes | None:
        """The next recipient's answer: None = accepted, else the reply without line end."""
        if not self.defer and not self.refuse:
            return None
        if self.greylist and address in self._deferred:
            self._deferred.discard(address)
            return None
        self._point = point = (self._point + GOLDEN) % 1.0
        if point >= 1.0 - self.refuse:
            return self.refuse_reply
        if point >= 1.0 - self.refuse - self.defer:
            if self.greylist:
                self._deferred.add(address)
            return self.defer_reply
        return None


class Answers:
    """The answers of every domain: those named, `*.parent` for names below, and a default for the rest."""

    def __init__(
        self, default: DomainAnswers | None = None, named: Mapping[str, DomainAnswers] | None = None
    ) -> None:
        self._default = default or DomainAnswers()
        self._named = {name.lower().encode(): answers for name, answers in (named or {}).items()}
        self._domains: dict[bytes, DomainAnswers] = {}
        self._spellings: dict[bytes, DomainAnswers] = {}

    def obtain(self, domain: bytes) -> DomainAnswers:
        """The answers of a domain (as bytes, any case), made when it is first seen."""
        found = self._spellings.get(domain)
        if found is None:
            found = self._spellings[domain] = self._make(domain.lower())
        return found

    def totals(self) -> dict[str, DomainTotals]:
        """Totals of the domains seen so far."""
        return {name.decode(errors="replace"): answers.totals for name, answers in self._domains.items()}

    def _make(self, domain: bytes) -> DomainAnswers:
        found = self._domains.get(domain)
        if found is not None:
            return found
        template = self._named.get(domain)
        parent = domain
        while template is None and parent:
            parent = parent.partition(b".")[2]
            template = self._named.get(b"*." + parent)
        made = replace(template or self._default, totals=DomainTotals())
        self._domains[domain] = made
        return made
