"""Which worker owns a domain's queues: 256 slots by a stable hash of the domain, and claims before them.

All queues of a domain belong to one worker, so limits of a queue need no lock and no lease. A `<worker>`
block claims domains by pattern (the most specific pattern wins, the first block among equals); such a worker
serves what it claims and nothing else. The slots are spread evenly over the workers that claim nothing.

Pure: the same configuration and number of workers give the same owners in every process and at every start.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

from mta.config.domainpattern import DomainPattern, DomainTable, normal_domain
from mta.config.settings import Settings
from mta.config.snapshot import Snapshot
from mta.errors import ConfigError
from mta.message.envelope import Recipient

__all__ = ["SLOTS", "Layout", "Post", "Role", "parse_cpus", "slot_of"]

SLOTS = 256
#: A queue id has room for so many workers.
MOST_WORKERS = 64
MOST_CPUS = 4096
#: Owners remembered by domain; above it the memory starts anew.
MEMO_LIMIT = 100_000


class Role(enum.Enum):
    """What a worker does: take mail in, send it on, or both."""

    BOTH = "both"
    INGRESS = "ingress"
    DELIVERY = "delivery"


@dataclass(frozen=True, slots=True)
class Post:
    """What one worker is there for; `cpus` empty means any, `claims` empty means a share of the slots."""

    number: int
    role: Role = Role.BOTH
    cpus: frozenset[int] = frozenset()
    claims: tuple[DomainPattern, ...] = ()

    @property
    def listens(self) -> bool:
        return self.role is not Role.DELIVERY

    @property
    def delivers(self) -> bool:
        return self.role is not Role.INGRESS


class Layout:
    """The posts of all workers. Raises ConfigError when nobody would listen, or some mail had no owner."""

    def __init__(self, posts: Sequence[Post]) -> None:
        self.posts = tuple(posts)
        if not any(post.listens for post in posts):
            raise ConfigError("<worker>: every worker has 'role delivery', so nobody takes mail in")
        general = [post.number for post in posts if post.delivers and not post.claims]
        if not general:
            raise ConfigError(
                "<worker>: no worker delivers domains that nobody claims; leave one without them"
            )
        self._slots = tuple(general[slot % len(general)] for slot in range(SLOTS))
        self._claims = DomainTable(
            (claim, False, post.number) for post in reversed(posts) if post.delivers for claim in post.claims
        )
        self._owners: dict[str, int] = {}

    @classmethod
    def of(cls, snapshot: Snapshot, *, cpus: int = 1, count: int = 0) -> Layout:
        """The layout that a configuration asks for.

        `cpus` is how many processors there are, for `workers auto`. A running service can't change its
        number of workers: it says `count`, and blocks for workers beyond it are left out.
        """
        numbers = worker_numbers(snapshot)
        count = count or max(workers_wanted(snapshot, cpus), max(numbers.values(), default=-1) + 1)
        if count > MOST_WORKERS:
            raise ConfigError(f"workers: at most {MOST_WORKERS} of them can run on one machine")
        by_number = {number: snapshot.workers[name] for name, number in numbers.items()}
        return cls([make_post(number, by_number.get(number)) for number in range(count)])

    def owner(self, domain: str) -> int:
        """The number of the worker that has the queues of this (queue) domain. Hot path."""
        found = self._owners.get(domain)
        if found is None:
            claimed = self._claims.matching(normal_domain(domain)) if self._claims else ()
            found = claimed[-1] if claimed else self._slots[slot_of(domain)]
            if len(self._owners) >= MEMO_LIMIT:
                self._owners.clear()
            self._owners[domain] = found
        return found

    def sole_owner(self, recipients: Sequence[Recipient]) -> int | None:
        """The worker that has the queues of all of these; None when there are several. Hot path."""
        domain = recipients[0].queue_domain
        owner = self._owners.get(domain)
        if owner is None:
            owner = self.owner(domain)
        if len(recipients) > 1 and any(self.owner(other.queue_domain) != owner for other in recipients):
            return None
        return owner

    def spare_processors(self, number: int, available: int) -> int:
        """Processors that worker `number` may use beside its own when all workers are busy.

        `available` is how many the service has. A part of one, shared with other workers, counts as none.
        """
        own = self.posts[number].cpus
        sharing = sum(not own or not post.cpus or not own.isdisjoint(post.cpus) for post in self.posts)
        return max(0, min(available, len(own) or available) - sharing) // sharing

    def __len__(self) -> int:
        return len(self.posts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Layout) and self.posts == other.posts

    def __hash__(self) -> int:
        return hash(self.posts)

    def __repr__(self) -> str:
        return f"<Layout of {len(self.posts)} workers>"


def slot_of(domain: str) -> int:
    """The slot of a queue domain; the same on every machine, in every version."""
    return crc32(domain.encode("utf-8", "surrogatepass")) % SLOTS


def workers_wanted(snapshot: Snapshot, cpus: int) -> int:
    """What `workers` says; `auto` is one for each processor."""
    if snapshot.top.text("workers").lower() == "auto":
        return max(1, min(cpus, MOST_WORKERS))
    return max(1, snapshot.top.integer("workers"))


def worker_numbers(snapshot: Snapshot) -> dict[str, int]:
    """Which worker each `<worker NAME>` block is about: its number, or the next one that no block names."""
    numbers = {name: int(name) for name in snapshot.workers if name.isascii() and name.isdigit()}
    if len(set(numbers.values())) < len(numbers):
        raise ConfigError("<worker>: two blocks are about the same worker")
    free = (number for number in range(len(snapshot.workers)) if number not in numbers.values())
    for name in snapshot.workers:
        if name not in numbers:
            numbers[name] = next(free)
    return numbers


def make_post(number: int, settings: Settings | None) -> Post:
    """The post that a `<worker>` block describes. Raises ConfigError."""
    if settings is None:
        return Post(number)
    try:
        return Post(
            number,
            Role(settings.text("role") or "both"),
            parse_cpus(settings.text("cpus")),
            tuple(DomainPattern.parse(text) for text in settings.texts("domains")),
        )
    except ValueError as error:
        raise ConfigError(f"<worker {number}>: {error}") from None


def parse_cpus(text: str) -> frozenset[int]:
    """Processors as taskset(1) writes them: `0`, `0,2`, `0-3,8`; nothing means any. Raises ValueError."""
    cpus: set[int] = set()
    for part in filter(None, (word.strip() for word in text.split(","))):
        first, dash, last = part.partition("-")
        if not (first.strip().isdecimal() and (not dash or last.strip().isdecimal())):
            raise ValueError(f"cpus {text}: write numbers and ranges, as in 0,2-3")
        low, high = int(first), int(last or first)
        if high < low or high >= MOST_CPUS:
            raise ValueError(f"cpus {text}: {part} is no range of processors")
        cpus.update(range(low, high + 1))
    return frozenset(cpus)
