"""The names a test name server knows, and how it behaves when one of them is asked.

A zone is a dict or simple text, one record a line, `;` or `#` starts a comment:

    example.com          MX    10 mx.example.com
    mx.example.com  300  A     127.0.0.2
    nomail.example       MX    0 .               ; null MX (RFC 7505)
    www.example          CNAME example.com
    *.load.example       MX    10 mx.example.com ; any name below that has no lines of its own
    gone.example         NXDOMAIN
    broken.example       SERVFAIL                ; REFUSED likewise
    silent.example       TIMEOUT                 ; no answer at all
    big.example          TRUNCATE                ; "ask again over TCP", then the other records

What is not listed does not exist (NXDOMAIN, with an SOA so that it can be cached).
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import dns.exception
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from mta.errors import ConfigError

__all__ = ["Behaviour", "Node", "Zone"]

DEFAULT_TTL = 300


class Behaviour(enum.Enum):
    """What happens instead of an ordinary answer."""

    NXDOMAIN = "NXDOMAIN"
    SERVFAIL = "SERVFAIL"
    REFUSED = "REFUSED"
    TIMEOUT = "TIMEOUT"
    TRUNCATE = "TRUNCATE"


@dataclass(slots=True)
class Node:
    """Everything known about one name."""

    rrsets: dict[dns.rdatatype.RdataType, dns.rrset.RRset] = field(default_factory=dict)
    behaviour: Behaviour | None = None


class Zone:
    """All names of one name server."""

    def __init__(self) -> None:
        self._nodes: dict[dns.name.Name, Node] = {}
        self._parents: set[dns.name.Name] = set()

    @classmethod
    def from_text(cls, text: str) -> Zone:
        """Read the form shown above; ConfigError names the line that can't be read."""
        zone = cls()
        for number, line in enumerate(text.splitlines(), 1):
            words = line.partition(";")[0].partition("#")[0].split()
            if not words:
                continue
            try:
                zone.add(words[0], " ".join(words[1:]))
            except ConfigError as error:
                raise ConfigError(f"zone line {number}: {error}") from error
        return zone

    @classmethod
    def from_dict(cls, records: Mapping[str, str | Iterable[str]]) -> Zone:
        """`{"example.com": ["MX 10 mx.example.com", "TXT hello"], "broken.example": "SERVFAIL"}`."""
        zone = cls()
        for name, lines in records.items():
            for line in [lines] if isinstance(lines, str) else lines:
                zone.add(name, line)
        return zone

    def add(self, name: str, record: str) -> None:
        """One more line: `[ttl] TYPE value`, or a behaviour. Raises ConfigError."""
        owner = absolute(name)
        node = self._nodes.setdefault(owner, Node())
        parent = owner
        while parent != dns.name.root:
            parent = parent.parent()
            self._parents.add(parent)
        words = record.split(None, 1)
        ttl = DEFAULT_TTL
        if words and words[0].isdigit():
            ttl = int(words[0])
            words = words[1].split(None, 1) if len(words) > 1 else []
        if not words:
            raise ConfigError(f"{name}: a record type is missing")
        kind = words[0].upper()
        value = words[1] if len(words) > 1 else ""
        if kind in Behaviour.__members__ and not value:
            node.behaviour = Behaviour[kind]
            return
        try:
            data = dns.rdata.from_text(dns.rdataclass.IN, kind, value, origin=dns.name.root, relativize=False)
        except (dns.exception.DNSException, ValueError) as error:
            raise ConfigError(f"{name}: {record!r} is not a record: {error}") from error
        known = node.rrsets.get(data.rdtype)
        if known is None:
            node.rrsets[data.rdtype] = dns.rrset.from_rdata(owner, ttl, data)
        else:
            known.add(data, ttl)

    def remove(self, name: str) -> None:
        """Forget a name with all its records; an unknown one is fine."""
        self._nodes.pop(absolute(name), None)

    def find(self, name: dns.name.Name) -> Node | None:
        """The node that answers for a name: its own, else the nearest wildcard's (RFC 4592), else none.

        A name that only exists because something lies below it answers with an empty node.
        """
        node = self._nodes.get(name)
        if node is not None:
            return node
        if name in self._parents:
            return Node()
        parent = name
        while parent != dns.name.root:
            parent = parent.parent()
            node = self._nodes.get(dns.name.Name((b"*", *parent.labels)))
            if node is not None:
                return node
            if parent in self._nodes:
                return None
        return None


def absolute(name: str) -> dns.name.Name:
    """A name as written in a zone, lower case and complete; ConfigError when it is none."""
    try:
        found = dns.name.from_text(name.lower(), origin=dns.name.root)
    except (dns.exception.DNSException, UnicodeError) as error:
        raise ConfigError(f"{name!r} is not a domain name: {error}") from error
    return found
