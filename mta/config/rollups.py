"""`<mx-rollup-list>`: which domains share one queue because the same hosts take their mail.

A roll-up is all `mx` lines of one name. Only the hosts of the best preference count:

    host names   match when every one of them is among the domain's best hosts (more may be there); they are
                 the route of the roll-up
    patterns     match when every best host is covered by one of them; the roll-up needs `smtp-hosts`, unless
                 it says `rollup-by-ip`
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from mta.config.domainpattern import DomainPattern, normal_domain
from mta.config.problems import Origin
from mta.config.quoting import split_words

__all__ = ["Rollup", "RollupLine", "gather_rollups", "match_rollup", "read_rollup_line"]

SUFFIX = ".rollup"
BY_IP = "rollup-by-ip"


@dataclass(frozen=True, slots=True)
class RollupLine:
    """One `mx` line."""

    pattern: DomainPattern
    text: str
    name: str
    is_by_ip: bool
    origin: Origin

    @property
    def is_host(self) -> bool:
        """Whether it names one host and no pattern."""
        return self.text == self.pattern.name


@dataclass(frozen=True, slots=True)
class Rollup:
    """One roll-up; `name` is the domain of its queues."""

    name: str
    hosts: tuple[str, ...]
    patterns: tuple[DomainPattern, ...]
    is_by_ip: bool
    origin: Origin

    def matches(self, best: Collection[str]) -> bool:
        """Whether a domain with these best hosts belongs to it."""
        if not best:
            return False
        if self.hosts:
            return all(host in best for host in self.hosts)
        return all(any(pattern.matches(host) for pattern in self.patterns) for host in best)

    @property
    def reach(self) -> int:
        """The length of the shortest pattern: the longer, the more specific."""
        return min((len(pattern.name) for pattern in self.patterns), default=0)


def read_rollup_line(text: str, origin: Origin) -> RollupLine:
    """`MX-PATTERN NAME.rollup [rollup-by-ip]`. Raises ValueError with a sentence for the operator."""
    words = split_words(text)
    if len(words) not in (2, 3) or (len(words) == 3 and words[2].lower() != BY_IP):
        raise ValueError(f"a line is: mx PATTERN NAME{SUFFIX} [{BY_IP}]")
    name = words[1].lower()
    if not name.endswith(SUFFIX) or name == SUFFIX:
        raise ValueError(f"{words[1]!r} must end in {SUFFIX}")
    host = words[0].lower().rstrip(".")
    return RollupLine(DomainPattern.parse(host), host, normal_domain(name), len(words) == 3, origin)


def gather_rollups(lines: Iterable[RollupLine]) -> tuple[Rollup, ...]:
    """The roll-ups in the order to ask them: those with hosts first, then long patterns before short ones."""
    by_name: dict[str, list[RollupLine]] = {}
    for line in lines:
        by_name.setdefault(line.name, []).append(line)
    rollups = [
        Rollup(
            name,
            tuple(dict.fromkeys(line.text for line in found if line.is_host)),
            tuple(line.pattern for line in found if not line.is_host),
            any(line.is_by_ip for line in found),
            found[0].origin,
        )
        for name, found in by_name.items()
    ]
    return tuple(sorted(rollups, key=lambda rollup: (not rollup.hosts, -rollup.reach)))


def match_rollup(rollups: Iterable[Rollup], best: Iterable[str]) -> Rollup | None:
    """The roll-up of a domain with these best hosts (lower case, no final dot)."""
    hosts = frozenset(best)
    return next((rollup for rollup in rollups if rollup.matches(hosts)), None)
