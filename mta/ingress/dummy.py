"""The dummy: a port that says yes to everything and keeps nothing (`dummy-smtp-port`).

For trying out queues, rates and accounting against a receiver that bothers nobody, and for measuring what
feeds us. It speaks as our listener does, for whoever can reach it; whom it should refuse stands in a file, an
address or a domain a line.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable
from pathlib import Path
from random import Random

from mta.config.snapshot import Snapshot
from mta.ingress.joint import AcceptResult
from mta.ingress.reception import Rules
from mta.ingress.relaying import RelayRules, SourcePolicy
from mta.ingress.submission import Submission
from mta.smtp.reply import Reply

__all__ = ["DummyAcceptance", "DummyRules"]

log = logging.getLogger(__name__)

_REFUSED = Reply(550, "5.1.1 Recipient is on the list of those that the dummy refuses", "5.1.1")
#: Octets of a file of those to be refused.
_LIST_LIMIT = 64 * 1024 * 1024


class DummyRules(Rules):
    """What a configuration says about the dummy: the same for every client."""

    def __init__(self, snapshot: Snapshot, host_name: str) -> None:
        super().__init__(snapshot, host_name)
        top = snapshot.top
        refused = RefusedRecipients(snapshot)
        self.relaying = refused
        self.awaits_slot = top.boolean("dummy-smtp-await-slot")
        self._policy = SourcePolicy(
            # Who may relay isn't asked recipient by recipient.
            allow_relaying=not refused,
            allow_auth=False,
            allow_chunking=top.boolean("dummy-smtp-has-chunking"),
            allow_mailmerge=top.boolean("dummy-smtp-has-mailmerge"),
            verp_default=top.boolean("dummy-smtp-has-verp"),
            offers_pipelining=top.boolean("dummy-smtp-has-pipelining"),
        )

    def policy(self, ip: str, source_name: str) -> SourcePolicy:
        """The dummy knows nobody."""
        return self._policy


class RefusedRecipients(RelayRules):
    """`dummy-smtp-blacklist`, and how many of those in it are refused."""

    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__(snapshot)
        top = snapshot.top
        path = top.path("dummy-smtp-blacklist")
        self._listed = _read_list(path) if path is not None else frozenset()
        is_random = top.text("dummy-smtp-blacklist-bounce-method").lower() == "random"
        share = top.integer("dummy-smtp-blacklist-bounce-percent") or (50 if is_random else 100)
        self._share = share / 100
        self._is_logged = top.boolean("dummy-smtp-log-blacklist")
        self._random = Random()

    def __bool__(self) -> bool:
        return bool(self._listed)

    def refusal(self, policy: SourcePolicy, address: str, domain: str) -> Reply | None:
        """Everybody is welcome who isn't on the list, and some who are."""
        lowered = address.lower()
        if self._listed.isdisjoint((lowered, domain)) or self._random.random() >= self._share:
            return None
        if self._is_logged:
            log.info("dummy=refused recipient=%r", address)
        return _REFUSED


class DummyAcceptance:
    """Takes every message and drops it. `taken(recipients, size)` counts."""

    def __init__(
        self,
        snapshot: Callable[[], Snapshot],
        *,
        taken: Callable[[int, int], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._snapshot = snapshot
        self._taken = taken
        self._loop = loop
        self._numbers = itertools.count(1)

    def refusal(self, size: int) -> Reply | None:
        """There is room for everything."""
        return None

    def accept(self, submission: Submission, done: Callable[[AcceptResult], None]) -> None:
        """Drop a message, and say so after `dummy-smtp-latency`."""
        top = self._snapshot().top
        if top.boolean("dummy-smtp-update-stats"):
            self._taken(len(submission.recipients), submission.size)
        result = AcceptResult(f"DUMMY-{next(self._numbers)}")
        latency = top.integer("dummy-smtp-latency")
        if latency:
            self._loop.call_later(latency / 1000, done, result)
        else:
            done(result)


def _read_list(path: Path) -> frozenset[str]:
    """Addresses and domains, lower case; none when the file can't be read (reported)."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            lines = file.read(_LIST_LIMIT).splitlines()
    except OSError as error:
        log.error("dummy-smtp-blacklist %s: %s", path, error.strerror)
        return frozenset()
    return frozenset(line.strip().lower().removeprefix("@") for line in lines if line.strip())
