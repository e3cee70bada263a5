"""Whether a domain lets an address send its mail: SPF (RFC 7208), asked of the DNS as a receiver would.

pyspf judges. It asks the DNS as it goes along and waits for each answer, which nobody can do on an event
loop, so it gets what is known already and is interrupted at the first question that is not: our resolver
asks that, and pyspf starts again. The answers don't change meanwhile, so neither does what it finds.

`check_spf` gives the result that `Received-SPF` would name, and never raises for what a domain publishes: a
record that can't be read is `permerror`, a DNS that does not answer `temperror`. What one check may cost is
bounded by RFC 7208 4.6.4 (ten terms that ask the DNS, two empty answers, ten names of an MX) and by the
limits below.

Not here: what to do about the result.
"""

from __future__ import annotations

import asyncio
import enum
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import dns.rdatatype

from mta.config.networks import parse_address
from mta.routing.resolver import Answer, Resolver, Status
from mta.smtp.address import split_domain

with warnings.catch_warnings():
    # From Python 3.12 on, compiling pyspf (where nobody did when it was installed) says on standard error
    # that one of its comments has a backslash too many.
    warnings.simplefilter("ignore")
    import spf

__all__ = ["SpfResult", "SpfVerdict", "check_spf"]

#: Ten terms with ten hosts each, and the record of each; no honest record comes near it.
MOST_QUESTIONS = 130
#: RFC 7208 4.6.4: at least 20 seconds for all of it.
SECONDS = 20.0
#: Octets. RFC 7208 3.4 wants 450 and less of a record; pyspf takes time with the square of a term's length.
LONGEST_RECORD = 4096
LONGEST_TERM = 320

Question = tuple[str, str]


class SpfResult(enum.Enum):
    """RFC 7208 2.6."""

    NONE = "none"
    NEUTRAL = "neutral"
    PASS = "pass"
    FAIL = "fail"
    SOFTFAIL = "softfail"
    TEMPERROR = "temperror"
    PERMERROR = "permerror"


class SpfVerdict(NamedTuple):
    """The result, and in a few words where it comes from."""

    result: SpfResult
    text: str


async def check_spf(resolver: Resolver, ip: str, helo: str, mail_from: str = "") -> SpfVerdict:
    """May `ip` send for `mail_from` (for `helo` when that is empty)? Raises ValueError for what is no IP."""
    address = str(parse_address(ip))
    known: dict[Question, Answer] = {}
    try:
        async with asyncio.timeout(SECONDS):
            for _ in range(MOST_QUESTIONS):
                check = _Check(address, helo, mail_from, known)
                try:
                    return check.verdict()
                except _Unknown as unknown:
                    name, kind = unknown.question
                    known[unknown.question] = await resolver.lookup(name, dns.rdatatype.from_text(kind))
    except TimeoutError:
        return SpfVerdict(SpfResult.TEMPERROR, f"no result within {SECONDS:.0f} s")
    return SpfVerdict(SpfResult.PERMERROR, f"more than {MOST_QUESTIONS} look-ups")


class _Unknown(Exception):
    """The check needs an answer that is not there yet."""

    def __init__(self, question: Question) -> None:
        super().__init__(question)
        self.question = question


class _Check(spf.query):  # type: ignore[misc]
    """One go of pyspf's over what is known."""

    def __init__(self, ip: str, helo: str, mail_from: str, known: dict[Question, Answer]) -> None:
        super().__init__(i=ip, s=mail_from, h=helo)
        self._known = known

    def verdict(self) -> SpfVerdict:
        """Raises _Unknown when it takes an answer that is not known."""
        domain = split_domain(self.s)
        try:
            word, _, said = self.check()
        except _Unknown:
            raise
        except Exception as error:  # foreign code before a stranger's record: mail must not bounce for it
            return SpfVerdict(SpfResult.TEMPERROR, f"the record of {domain} can't be judged: {error!r}")
        result = SpfResult(word)
        if result in (SpfResult.PERMERROR, SpfResult.TEMPERROR):
            return SpfVerdict(result, str(said))
        if result is SpfResult.NONE:
            return SpfVerdict(result, f"{domain or 'the sender'} publishes no SPF record")
        return SpfVerdict(result, f"{self.mechanism or 'the end of the record'} of {domain}")

    def dns(self, name: str, qtype: str, cnames: object = None, ignore_void: bool = False) -> Sequence[Any]:
        """pyspf's way to the DNS: addresses and names as text, TXT as tuples of octets, MX as pairs.

        CNAMEs are followed by the resolver."""
        name = str(name).lower().rstrip(".")
        if not all(0 < len(label) < 64 for label in name.split(".")):
            return []  # what can't be asked does not exist
        answer = self._known.get((name, qtype))
        if answer is None:
            raise _Unknown((name, qtype))
        if answer.status is Status.FAILED:
            raise spf.TempError(f"{name}: {answer.text}")
        if answer.status is not Status.FOUND and not ignore_void:
            self.void_lookups += 1
            if self.void_lookups > spf.MAX_VOID_LOOKUPS:
                raise spf.PermError(f"more than {spf.MAX_VOID_LOOKUPS} look-ups found nothing")
        if qtype == "MX":
            return [(record.preference, record.host) for record in answer.mx]
        if qtype == "TXT":
            return [(_bounded(text, name),) for text in answer.texts]
        return [address.rstrip(".") for address in answer.addresses]  # of PTR they are names


def _bounded(text: str, name: str) -> bytes:
    """The text, as pyspf wants it; PermError when a record is longer than any that was meant."""
    if text[:6].lower() == "v=spf1" and (
        len(text) > LONGEST_RECORD or any(len(term) > LONGEST_TERM for term in text.split(" "))
    ):
        raise spf.PermError(f"the record of {name} is too long")
    return text.encode()
