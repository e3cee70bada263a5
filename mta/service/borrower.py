"""A worker's side of the leases: says what it has and needs, and passes on what it gets.

It asks twice a second, and at once (but no more often than PROMPTLY) when connections are wanted that the
lease does not allow. While the supervisor doesn't answer, the old lease holds until it ends; then nothing new
is opened.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping

from mta.clock import Clock
from mta.errors import MtaError
from mta.ingress.reception import Reception
from mta.queue.hosts import Place, PlaceDemand
from mta.queue.policy import UNLIMITED
from mta.service.leasedscheduler import Demand, LeasedScheduler
from mta.service.leases import LEASE_SECONDS

__all__ = ["GROUP", "PLACE", "SMTP_IN", "SMTP_OUT", "VMTA", "Borrower", "Demands", "Doors", "Lender"]

log = logging.getLogger(__name__)

SMTP_OUT = "smtp-out"
SMTP_IN = "smtp-in"
#: Before the name of a virtual MTA, and of a source group.
VMTA = "vmta:"
GROUP = "group:"
#: Before a place that is lent: the directive, the local address, and what is limited.
PLACE = "place:"

INTERVAL = 0.5
PROMPTLY = 0.05
#: Seconds without an answer after which a lease counts as ended, so that it does before the book says so.
PATIENCE = LEASE_SECONDS * 0.8
#: Clients that may come before the next lease.
HEADROOM = 8

Demands = Mapping[str, Demand | PlaceDemand]
Lender = Callable[[Demands], Awaitable[dict[str, int | None]]]


class Doors:
    """How many clients a reception lets in, in all and of each source group: none before the first lease.

    `parts` workers take mail in; what is reserved for a group, and the failures that a client may have when
    it logs in, are divided between them.
    """

    def __init__(self, reception: Reception, parts: int = 1) -> None:
        self._reception = reception
        self._parts = reception.lockout.parts = max(1, parts)
        self._slots: dict[str, int] = {}
        self.apply()

    @property
    def slots(self) -> int:
        """How many clients may be in."""
        return self._slots.get(SMTP_IN, 0)

    @property
    def guests(self) -> int:
        """How many clients are in."""
        return len(self._reception.guests)

    def demands(self) -> dict[str, Demand]:
        """What we have and would like to have of each limit."""
        groups = self._reception.rules().snapshot.source_groups
        return {
            SMTP_IN: demand_for(self.slots, self.guests),
            **{
                GROUP + name: demand_for(self._slots.get(GROUP + name, 0), self._reception.guests_of(name))
                for name, group in groups.items()
                if group.integer("max-smtp-in")
            },
        }

    def open(self, slots: Mapping[str, int]) -> None:
        """Let so many in."""
        self._slots = dict(slots)
        self.apply()

    def apply(self) -> None:
        """Tell the reception (again: its rules are made anew by a reload)."""
        rules = self._reception.rules()
        rules.slots = self.slots
        for name, group in rules.snapshot.source_groups.items():
            if group.integer("max-smtp-in"):
                rules.group_slots[name] = self._slots.get(GROUP + name, 0)
            if group.integer("reserved-smtp-in"):
                rules.reserved[name] = -(-group.integer("reserved-smtp-in") // self._parts)
        self._reception.call_in()


def demand_for(slots: int, guests: int) -> Demand:
    """What is wanted where so many clients may be in, and are."""
    return Demand(max(slots, guests), guests * 5 // 4 + HEADROOM)


class Borrower:
    """Keeps one worker's leases; `run()` is its life."""

    def __init__(
        self,
        lender: Lender,
        *,
        scheduler: LeasedScheduler,
        doors: Doors,
        lent: Callable[[], None],
        clock: Clock,
    ) -> None:
        """`lent()` is called when there may be something new to open."""
        self._lender = lender
        self._scheduler = scheduler
        self.doors = doors
        self._lent = lent
        self._clock = clock
        self._hurry = asyncio.Event()
        self._answered_at = clock.now()

    def __repr__(self) -> str:
        return f"<Borrower {self._scheduler.demand()} doors={self.doors.slots}>"

    def hurry(self) -> None:
        """Connections are wanted that the lease doesn't allow."""
        self._hurry.set()

    async def run(self) -> None:
        while True:
            await asyncio.sleep(PROMPTLY)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(INTERVAL):
                    await self._hurry.wait()
            await self.renew()

    async def renew(self) -> None:
        """Ask once, and follow the answer."""
        self._hurry.clear()
        scheduler, doors = self._scheduler, self.doors
        demands: Demands = {
            SMTP_OUT: scheduler.demand(),
            **doors.demands(),
            **{VMTA + name: demand for name, demand in scheduler.vmta_demands().items()},
            **{name_of(place): demand for place, demand in scheduler.place_demands().items()},
        }
        try:
            parts = await self._lender(demands)
        except MtaError as failure:
            if self._clock.now() - self._answered_at > PATIENCE:
                log.error("event=no-lease error=%s", failure)
                self._follow(dict.fromkeys(demands, 0))
            return
        self._answered_at = self._clock.now()
        self._follow(parts)

    def _follow(self, parts: Mapping[str, int | None]) -> None:
        sizes = {name: UNLIMITED if part is None else part for name, part in parts.items()}
        inward = [name for name in sizes if name == SMTP_IN or name.startswith(GROUP)]
        self.doors.open({name: sizes.pop(name) for name in inward})
        places = {place_of(name): sizes.pop(name) for name in list(sizes) if name.startswith(PLACE)}
        self._scheduler.lend_places(places, self._clock.now())
        total = sizes.pop(SMTP_OUT)
        self._scheduler.lend(total, {name.removeprefix(VMTA): size for name, size in sizes.items()})
        self._lent()


def name_of(place: Place) -> str:
    """What a place is called on the way to the supervisor."""
    return PLACE + " ".join(place)


def place_of(name: str) -> Place:
    """The place that is called so."""
    directive, source, what = name.removeprefix(PLACE).split(" ", 2)
    return directive, source, what
