"""What a server offered in its answer to EHLO (RFC 5321 4.1.1.1), reduced to what a client acts on.

Pure and forgiving: servers send lower case, duplicates and junk; what isn't understood is skipped.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

__all__ = ["PLAIN_SMTP", "Extensions"]

#: Keywords kept for the accounting column; nobody offers as many, junk generators do.
_KEYWORDS_KEPT = 40
_KEYWORD_LENGTH = 40


@dataclass(frozen=True, slots=True)
class Extensions:
    """The extensions in force on one connection; all absent after HELO.

    `size` is the largest message in octets that the server says it takes (RFC 1870), None for no limit;
    `has_size` says that SIZE= may be given at all. `auth` holds the mechanisms in upper case. `offered` is
    the comma list that accounting prints, as offered, also of what is ignored by order of the operator.
    """

    pipelining: bool = False
    has_size: bool = False
    size: int | None = None
    eightbitmime: bool = False
    smtputf8: bool = False
    dsn: bool = False
    chunking: bool = False
    starttls: bool = False
    auth: frozenset[str] = frozenset()
    offered: str = ""

    @classmethod
    def parse(cls, lines: Iterable[str]) -> Extensions:
        """Read the lines that follow the greeting line of a 250 to EHLO, without codes."""
        found: dict[str, str] = {}
        for line in lines:
            keyword, _, argument = line.strip().replace("=", " ", 1).partition(" ")
            keyword = keyword.upper()
            if _is_keyword(keyword) and len(found) < _KEYWORDS_KEPT:
                found.setdefault(keyword, argument.strip())
        return cls(
            pipelining="PIPELINING" in found,
            has_size="SIZE" in found,
            size=_size_limit(found.get("SIZE", "")),
            eightbitmime="8BITMIME" in found,
            smtputf8="SMTPUTF8" in found,
            dsn="DSN" in found,
            chunking="CHUNKING" in found,
            starttls="STARTTLS" in found,
            auth=frozenset(found.get("AUTH", "").upper().split()),
            offered=",".join(found),
        )

    def without(
        self, *, pipelining: bool = False, eightbitmime: bool = False, dsn: bool = False
    ) -> Extensions:
        """The same, with what is named True treated as absent (ignore-pipelining and its kin)."""
        return replace(
            self,
            pipelining=self.pipelining and not pipelining,
            eightbitmime=self.eightbitmime and not eightbitmime,
            dsn=self.dsn and not dsn,
        )


def _is_keyword(text: str) -> bool:
    return 0 < len(text) <= _KEYWORD_LENGTH and text.isascii() and text.replace("-", "").isalnum()


def _size_limit(argument: str) -> int | None:
    """RFC 1870 4: 0 is "no fixed limit"; so is an argument that makes no sense."""
    digits = argument.partition(" ")[0]
    if not digits.isascii() or not digits.isdigit() or len(digits) > 20:
        return None
    return int(digits) or None


#: A server that only knows HELO.
PLAIN_SMTP = Extensions()
