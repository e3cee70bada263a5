"""check-spf-outbound: mail goes only from an address that SPF lets send it.

Verdicts are remembered by sender and address for some minutes. Finding one out asks the DNS, so the message
goes back into its queue meanwhile; the session draws again when the verdict is there.
"""

from __future__ import annotations

from collections.abc import Callable

from mta.clock import Clock
from mta.routing.resolver import Resolver
from mta.routing.spf import SpfResult, SpfVerdict, check_spf
from mta.smtp.reply import Reply
from mta.smtp.transaction import Transaction, internal_reply

__all__ = ["SpfGate"]

#: Seconds that a verdict holds, and one that only says that the DNS did not answer.
REMEMBERED_FOR = 300.0
FAILURE_FOR = 60.0
REMEMBERED = 10_000

Question = tuple[str, str]


class SpfGate:
    """Knows who may send from where; one per worker."""

    def __init__(self, resolver: Resolver, *, host_name: Callable[[], str], clock: Clock) -> None:
        """`host_name` is asked about where mail has no sender."""
        self._resolver = resolver
        self._host_name = host_name
        self._clock = clock
        self._known: dict[Question, tuple[SpfVerdict, float]] = {}
        self._asking: set[Question] = set()

    def verdict(self, question: Question) -> SpfVerdict | None:
        """What is known about (sender, address); None when it has to be asked."""
        known = self._known.get(question)
        return known[0] if known is not None and known[1] > self._clock.now() else None

    def is_asking(self, question: Question) -> bool:
        return question in self._asking

    async def ask(self, question: Question) -> None:
        """Find it out; afterwards `verdict` knows."""
        sender, ip = question
        self._asking.add(question)
        try:
            found = await check_spf(self._resolver, ip, self._host_name(), sender)
        finally:
            self._asking.discard(question)
        lasting = FAILURE_FOR if found.result is SpfResult.TEMPERROR else REMEMBERED_FOR
        if len(self._known) >= REMEMBERED:
            del self._known[next(iter(self._known))]
        self._known[question] = (found, self._clock.now() + lasting)

    async def find(self, question: Question) -> SpfVerdict:
        """The verdict, asked for where it is not known."""
        while (known := self.verdict(question)) is None:
            await self.ask(question)
        return known

    @staticmethod
    def turn_away(transaction: Transaction, verdict: SpfVerdict) -> None:
        """End a transaction that has not begun, as the verdict wants it (RFC 7372 3.2)."""
        words = f"SPF {verdict.result.value}: {verdict.text}"
        if verdict.result is SpfResult.TEMPERROR:
            transaction.lose(Reply(451, f"4.7.24 {words}", "4.7.24"))
        else:
            transaction.refuse(internal_reply(550, "5.7.23", words))

    def __repr__(self) -> str:
        return f"<SpfGate {len(self._known)} known, {len(self._asking)} asked>"
