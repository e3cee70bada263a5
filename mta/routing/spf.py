"""Whether a domain lets an address send its mail: SPF (RFC 7208), asked of the DNS as a receiver would.

`check_spf` gives the result that `Received-SPF` would name, and never raises: a record that can't be read is
`permerror`, a DNS that does not answer `temperror`. What one check may cost is bounded by RFC 7208 4.6.4: ten
terms that ask the DNS, so many empty answers, ten names of an MX.

Not here: explanations (`exp=`), and what to do about the result. The macro `p` is always "unknown", and `ptr`
never matches: RFC 7208 asks nobody to use either.
"""

from __future__ import annotations

import enum
import ipaddress
import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import quote

import dns.rdatatype

from mta.config.networks import Address, parse_address
from mta.routing.resolver import Answer, Resolver, Status
from mta.smtp.address import is_valid_domain, split_domain

__all__ = ["SpfResult", "SpfVerdict", "check_spf"]

#: RFC 7208 4.6.4.
MOST_LOOKUPS = 10
MOST_VOID_LOOKUPS = 2
MOST_MX_NAMES = 10
LONGEST_NAME = 253


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


class _Ended(Exception):
    """The check ends here with an error."""

    def __init__(self, result: SpfResult, text: str) -> None:
        super().__init__(text)
        self.verdict = SpfVerdict(result, text)


_QUALIFIERS = MappingProxyType(
    {"+": SpfResult.PASS, "-": SpfResult.FAIL, "~": SpfResult.SOFTFAIL, "?": SpfResult.NEUTRAL}
)
_MODIFIER = re.compile(r"([A-Za-z][A-Za-z0-9_.\-]*)=(.*)\Z")
_MECHANISM = re.compile(
    r"([+\-~?]?)(all|include|a|mx|ptr|ip4|ip6|exists)(?:(:)([^/].*?|))?((?:/.*)?)\Z", re.I
)
_LENGTHS = re.compile(r"(?:/([0-9]{1,2}))?(?://([0-9]{1,3}))?\Z")
_MACRO = re.compile(r"%(?:\{([slodipvhcrt])([0-9]{0,3})(r?)([.\-+,/_=]*)\}|([%_\-]))", re.I)
_NEEDS_VALUE = frozenset(("include", "exists", "ip4", "ip6"))


@dataclass(frozen=True, slots=True)
class _Term:
    """One mechanism of a record."""

    name: str
    result: SpfResult
    value: str
    lengths: tuple[int, int]  #: prefix lengths for IPv4 and IPv6
    text: str


@dataclass(frozen=True, slots=True)
class _Record:
    terms: tuple[_Term, ...]
    redirect: str


async def check_spf(
    resolver: Resolver, ip: str, helo: str, mail_from: str = "", *, most_voids: int = MOST_VOID_LOOKUPS
) -> SpfVerdict:
    """May `ip` send for `mail_from` (for `helo` when that is empty)? Raises ValueError for what is no IP."""
    check = _Check(resolver, parse_address(ip), helo, mail_from or f"postmaster@{helo}", most_voids)
    try:
        return await check.host(split_domain(check.sender))
    except _Ended as ended:
        return ended.verdict


class _Check:
    """One check, with what it has cost so far."""

    def __init__(self, resolver: Resolver, address: Address, helo: str, sender: str, most_voids: int) -> None:
        self.sender = sender if "@" in sender else f"postmaster@{sender}"
        self._resolver = resolver
        self._address = address
        self._helo = helo
        self._lookups = 0
        self._voids = 0
        self._most_voids = most_voids

    async def host(self, domain: str) -> SpfVerdict:
        """check_host() of RFC 7208 4."""
        if not is_valid_domain(domain) or "." not in domain:
            return SpfVerdict(SpfResult.NONE, f"{domain or 'the sender'} is no domain name")
        record = await self._record(domain)
        if record is None:
            return SpfVerdict(SpfResult.NONE, f"{domain} publishes no SPF record")
        for term in record.terms:
            if await self._matches(term, domain):
                return SpfVerdict(term.result, f"{term.text} of {domain}")
        if not record.redirect:
            return SpfVerdict(SpfResult.NEUTRAL, f"nothing in the record of {domain} matches")
        self._count_lookup()
        found = await self.host(self._expanded(record.redirect, domain))
        if found.result is SpfResult.NONE:
            raise _Ended(SpfResult.PERMERROR, f"redirect of {domain} leads to no record")
        return found

    async def _record(self, domain: str) -> _Record | None:
        answer = await self._resolver.lookup(domain, dns.rdatatype.TXT)
        if answer.status is Status.FAILED:
            raise _Ended(SpfResult.TEMPERROR, f"{domain}: {answer.text}")
        texts = [text for text in answer.texts if text.lower() == "v=spf1" or text[:7].lower() == "v=spf1 "]
        if len(texts) > 1:
            raise _Ended(SpfResult.PERMERROR, f"{domain} publishes {len(texts)} SPF records")
        return _parse_record(texts[0], domain) if texts else None

    async def _matches(self, term: _Term, domain: str) -> bool:
        name = term.name
        if name == "all":
            return True
        if name in ("ip4", "ip6"):
            return self._is_within([term.value], term)
        self._count_lookup()
        target = self._expanded(term.value, domain) if term.value else domain
        if name == "include":
            return await self._includes(target)
        if name == "exists":
            answer = await self._ask(target, dns.rdatatype.A)
            return answer.status is Status.FOUND
        if name == "a":
            return self._is_within(await self._addresses(target), term)
        if name == "mx":
            answer = await self._ask(target, dns.rdatatype.MX)
            if len(answer.mx) > MOST_MX_NAMES:
                raise _Ended(SpfResult.PERMERROR, f"{target} has more than {MOST_MX_NAMES} MX records")
            for record in answer.mx:
                if self._is_within(await self._addresses(record.host), term):
                    return True
        return False

    async def _includes(self, target: str) -> bool:
        found = await self.host(target)
        if found.result in (SpfResult.TEMPERROR, SpfResult.PERMERROR):
            raise _Ended(*found)
        if found.result is SpfResult.NONE:
            raise _Ended(SpfResult.PERMERROR, f"include leads to {target}, which publishes no SPF record")
        return found.result is SpfResult.PASS

    async def _addresses(self, host: str) -> tuple[str, ...]:
        kind = dns.rdatatype.A if self._address.version == 4 else dns.rdatatype.AAAA
        return (await self._ask(host, kind)).addresses

    async def _ask(self, name: str, kind: dns.rdatatype.RdataType) -> Answer:
        answer = await self._resolver.lookup(name, kind)
        if answer.status is Status.FAILED:
            raise _Ended(SpfResult.TEMPERROR, f"{name}: {answer.text}")
        if answer.status is not Status.FOUND:
            self._voids += 1
            if self._voids > self._most_voids:
                raise _Ended(SpfResult.PERMERROR, f"more than {self._most_voids} look-ups found nothing")
        return answer

    def _count_lookup(self) -> None:
        self._lookups += 1
        if self._lookups > MOST_LOOKUPS:
            raise _Ended(SpfResult.PERMERROR, f"more than {MOST_LOOKUPS} terms ask the DNS")

    def _is_within(self, addresses: tuple[str, ...] | list[str], term: _Term) -> bool:
        length = term.lengths[self._address.version == 6]
        for text in addresses:
            network = ipaddress.ip_network(f"{text}/{length}" if "/" not in text else text, strict=False)
            if network.version == self._address.version and self._address in network:
                return True
        return False

    def _expanded(self, text: str, domain: str) -> str:
        """The text with its macros filled in (RFC 7208 7), cut from the left to a name's length."""
        local, _, sender_domain = self.sender.rpartition("@")
        address = self._address
        dotted = str(address) if address.version == 4 else ".".join(address.exploded.replace(":", ""))
        values = {
            "s": self.sender,
            "l": local,
            "o": sender_domain,
            "d": domain,
            "i": dotted,
            "p": "unknown",
            "v": "in-addr" if address.version == 4 else "ip6",
            "h": self._helo,
        }

        def filled(match: re.Match[str]) -> str:
            letter, digits, is_reversed, delimiters, escape = match.groups()
            if escape:
                return {"%": "%", "_": " ", "-": "%20"}[escape]
            if letter.lower() not in values or digits == "0":
                raise _Ended(SpfResult.PERMERROR, f"macro {match[0]} has no place in a record")
            parts = re.split(f"[{re.escape(delimiters or '.')}]", values[letter.lower()])
            parts = parts[::-1] if is_reversed else parts
            joined = ".".join(parts[-int(digits) :] if digits else parts)
            return quote(joined, safe="-._~") if letter.isupper() else joined

        name = _MACRO.sub(filled, text)
        while len(name) > LONGEST_NAME and "." in name:
            name = name.partition(".")[2]
        return name


def _parse_record(text: str, domain: str) -> _Record:
    """Raises _Ended with permerror for what is no record."""
    terms = []
    modifiers: dict[str, str] = {}
    for word in text.split()[1:]:
        modifier = _MODIFIER.match(word)
        if modifier is not None:
            name = modifier[1].lower()
            if name in modifiers and name in ("redirect", "exp"):
                raise _Ended(SpfResult.PERMERROR, f"{name} stands twice in the record of {domain}")
            modifiers[name] = modifier[2]
            continue
        terms.append(_parse_term(word, domain))
    is_open = all(term.name != "all" for term in terms)
    return _Record(tuple(terms), modifiers.get("redirect", "") if is_open else "")


def _parse_term(word: str, domain: str) -> _Term:
    bad = _Ended(SpfResult.PERMERROR, f"{word} in the record of {domain} can't be read")
    match = _MECHANISM.match(word)
    if match is None:
        raise bad
    qualifier, name, colon, value, slashes = match.groups()
    name = name.lower()
    lengths = (32, 128)
    if name in ("ip4", "ip6"):
        value = f"{value or ''}{slashes}"
        try:
            network = ipaddress.ip_network(value, strict=False)
        except ValueError:
            raise bad from None
        if network.version != int(name[2]):
            raise bad
    elif slashes:
        found = _LENGTHS.match(slashes)
        if found is None or name not in ("a", "mx"):
            raise bad
        lengths = (int(found[1] or 32), int(found[2] or 128))
        if lengths[0] > 32 or lengths[1] > 128:
            raise bad
    if (colon and (not value or name == "all")) or (name in _NEEDS_VALUE and not value):
        raise bad
    return _Term(name, _QUALIFIERS[qualifier or "+"], value or "", lengths, word)
