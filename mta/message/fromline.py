"""The domain in the From line, rewritten.

Only the domains of addresses are touched, in place: display names, comments and folding stay as they came.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

from mta.message import headers

__all__ = ["DomainRule", "rewrite_from"]

#: An address outside of quotes, up to the end of its domain.
_PART = re.compile(rb'"(?:[^"\\]|\\.)*"(?!@)|@([A-Za-z0-9](?:[A-Za-z0-9.\-]*[A-Za-z0-9])?)', re.DOTALL)


class Covers(Protocol):
    """`mta.config.domainpattern.DomainPattern`."""

    def matches(self, domain: str) -> bool: ...


class DomainRule(Protocol):
    """Domains that `pattern` covers become `domain`."""

    @property
    def pattern(self) -> Covers: ...
    @property
    def domain(self) -> str: ...


def rewrite_from(block: bytes, rules: Sequence[DomainRule]) -> bytes:
    """The header block with the domains of its From line as the first fitting rule wants them."""
    at = headers.find(block.lower(), b"from")
    if at < 0:
        return block
    end = headers.field_end(block, at)
    line = block[at:end]

    def domain(match: re.Match[bytes]) -> bytes:
        if match[1] is None:
            return match[0]
        name = match[1].decode("ascii").lower()
        for rule in rules:
            if rule.pattern.matches(name):
                return b"@" + rule.domain.encode("ascii")
        return match[0]

    changed = _PART.sub(domain, line)
    return block if changed == line else block[:at] + changed + block[end:]
