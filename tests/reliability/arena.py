"""The whole service between a load and a receiver that keep books of everything.

Mail for `example.com` is taken, for `later.example` put off once and then taken, for `never.example` refused:
DSNs about that come back to the same receiver.
"""

from __future__ import annotations

import asyncio
import contextlib
import csv
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mta.sink.answers import Answers, DomainAnswers
from mta.sink.counters import Delivery
from mta.sink.receiver import Receiver, ReceiverOptions, Session
from mta.spool.marks import read_safe_until
from tests.reliability.ledger import Arrival, Evidence, Kill
from tests.support.injector import Injector
from tests.support.service import World

__all__ = ["DOMAINS", "Arena", "Load", "WaitingTime", "WatchedReceiver"]

DOMAINS = ("example.com", "example.com", "example.com", "later.example", "never.example")
_SENDER = "app@example.org"
#: Types of records that the accounting is held against.
_JUDGED = frozenset({"d", "b", "r"})
_RETURNED = re.compile(rb"^Final-Recipient: *rfc822; *([^\r\n]+)", re.MULTILINE | re.IGNORECASE)


class WatchedReceiver(Receiver):
    """Notes when connections began and ended, and which were reset: their client left replies unread."""

    def __init__(self, options: ReceiverOptions) -> None:
        super().__init__(options)
        self.opened: dict[int, float] = {}
        self.closed: dict[int, float] = {}
        self.unread: set[int] = set()
        #: told when a session has written its replies to what it has read
        self.replied: Callable[[], None] = lambda: None

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> int:
        server = await asyncio.get_running_loop().create_server(
            lambda: _WatchedSession(self), host, port, backlog=4096
        )
        self._servers.append(server)
        found: int = server.sockets[0].getsockname()[1]
        return found


class _WatchedSession(Session):
    def __init__(self, house: WatchedReceiver) -> None:
        super().__init__(house)
        self._house = house

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._house.opened[self._number] = time.time()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._house.replied()

    def connection_lost(self, exc: Exception | None) -> None:
        self._house.closed[self._number] = time.time()
        if isinstance(exc, ConnectionError):
            self._house.unread.add(self._number)
        super().connection_lost(exc)


class Arena(World):
    """A `World` whose evidence can be judged: feed it with `injector`, report each kill with `note_kill`.

    With `keeps_records` no accounting file is ever deleted, whatever the date.
    """

    def __init__(
        self,
        directory: Path,
        *,
        extra: str = "",
        within: str = "",
        spool: Path | None = None,
        wrapper: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        latency: float = 0.0,
        keeps_records: bool = False,
    ) -> None:
        self._keeps_records = keeps_records
        answers = Answers(
            named={
                "later.example": DomainAnswers(defer=1.0, greylist=True),
                "never.example": DomainAnswers(refuse=1.0),
            }
        )
        options = ReceiverOptions(answers=answers, latency=latency)
        super().__init__(
            directory,
            extra=extra,
            within="retry-recipients-after 1s\n    retry-after-dns-error 1s\n    " + within,
            domains=(*dict.fromkeys(DOMAINS), "example.org"),
            options=options,
            spool=spool,
            wrapper=wrapper,
            environment=environment,
        )
        self.watched = WatchedReceiver(options)
        self.watched.replied = self._replied
        self.receiver = self.watched
        self.evidence = Evidence(
            opened=self.watched.opened,
            closed=self.watched.closed,
            unread=self.watched.unread,
            is_refused=lambda name: name.endswith("@never.example"),
        )
        self._loads: list[Load] = []
        self._leaving: list[tuple[float, str, int]] = []

    async def __aenter__(self) -> Arena:
        await super().__aenter__()
        return self

    def write_config(self, extra: str | None = None) -> None:
        super().write_config(extra)
        if self._keeps_records:
            text = self.config.read_text()
            self.config.write_text(text.replace("\n    records", "\n    delete-after never\n    records"))

    def remember(self, delivery: Delivery) -> None:
        now = time.time()
        if not delivery.sender and delivery.recipients == (_SENDER,):
            self.evidence.returned += [found.decode() for found in _RETURNED.findall(delivery.data)]
            return
        self.received.update(delivery.recipients)
        self._leaving += [(now, name, delivery.connection) for name in delivery.recipients]
        subject = delivery.recipients[0].partition(".")[0].encode()
        is_whole = (b"\r\nSubject: %s\r\n" % subject) in delivery.data
        if not is_whole or not any(load.has_content(delivery.data) for load in self._loads):
            self.evidence.damaged += delivery.recipients

    def _replied(self) -> None:
        """The replies about what was remembered last have been written."""
        if self._leaving:
            now = time.time()
            self.evidence.arrivals += [Arrival(*one, now) for one in self._leaving]
            self._leaving.clear()

    def injector(self, prefix: str, **options: object) -> Load:
        """A load whose promises count."""
        load = Load(self.port, prefix=prefix, domains=DOMAINS, sender=_SENDER, **options)
        self._loads.append(load)
        return load

    def note_load(self, load: Injector) -> None:
        """The load has ended: what it was promised is to be kept."""
        self.evidence.offered |= load.offered
        self.evidence.acknowledged |= load.acknowledged
        if isinstance(load, Load):
            self.evidence.promised_at.update(load.promised_at)

    def safe_until(self, victims: Sequence[str] = ()) -> float:
        """The moment until which outcomes are on disk; of several partitions the earliest, of `victims`
        (`worker-0` …) theirs alone."""
        names = [victim.removeprefix("worker-") for victim in victims]
        places = [self.spool / name for name in names] or [
            marks.parent for marks in self.spool.rglob("marks")
        ]
        return min((moment for moment in map(read_safe_until, places) if moment), default=0.0)

    def note_kill(
        self,
        role: str,
        victims: Sequence[str] = (),
        waits: Sequence[tuple[float, float]] = (),
        struck: float = math.inf,
    ) -> None:
        """Workers have just died (all, or `victims`), and nobody has started other ones yet; `waits` are of
        `WaitingTime`, `struck` is a moment just before the signal."""
        safe_until = self.safe_until(victims)
        self.evidence.kills.append(Kill(time.time(), role, safe_until, tuple(waits), struck))

    async def until_settled(self, seconds: float) -> None:
        """Wait until every acknowledged recipient has arrived or is known as bounced, and nothing waits."""
        await self.until_empty(seconds)
        wanted = {name for name in self.evidence.acknowledged if not self.evidence.is_refused(name)}
        await self.until(lambda: wanted <= self.received.keys(), seconds)

    def take_records(self) -> None:
        """Read the accounting files into the evidence; call it after the service has ended.

        Three cells of a line and no more: there may be millions of lines, of thirty cells each.
        """
        found = self.evidence.records = []
        for path in sorted(self.directory.glob("acct*.csv")):
            with path.open(newline="") as file:
                rows = csv.reader(file)
                columns = next(rows, [])
                if not columns:
                    continue  # killed between the file and its first line
                kind, recipient, number = map(columns.index, ("type", "rcpt", "recordId"))
                found += [(row[kind], row[recipient], row[number]) for row in rows if row[kind] in _JUDGED]


class WaitingTime:
    """How long a process has stood in the queue for a processor, look by look.

    `async with WaitingTime(pid) as waiting:` looks every 10 ms; `waiting.looks` are (moment, seconds).
    """

    def __init__(self, pid: int) -> None:
        self.looks: list[tuple[float, float]] = []
        self._path = Path(f"/proc/{pid}/schedstat")
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> WaitingTime:
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    def look(self) -> None:
        """Now; nothing where the process is gone or the kernel doesn't count."""
        with contextlib.suppress(OSError, IndexError):
            waited = int(self._path.read_text().split()[1]) / 1e9
            self.looks.append((time.time(), waited))

    async def _watch(self) -> None:
        while True:
            self.look()
            del self.looks[:-1000]
            await asyncio.sleep(0.01)


class Load(Injector):
    """An injector that knows its own content again, and when it was promised what."""

    def __init__(self, port: int, **options: object) -> None:
        super().__init__(port, **options)  # type: ignore[arg-type]
        self.promised_at: dict[str, float] = {}

    def acknowledge(self, recipients: list[str]) -> None:
        super().acknowledge(recipients)
        self.promised_at.update(dict.fromkeys(recipients, time.time()))

    def has_content(self, data: bytes) -> bool:
        return data.endswith(b"\r\n\r\n" + self._body)
