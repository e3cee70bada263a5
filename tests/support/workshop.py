"""A whole worker in the test's process, on a clock that the test moves, with a receiver and a name server."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from mta.config.load import load_text
from mta.message.event import Event, decode_event
from mta.queue.entries import Entry
from mta.queue.key import QueueKey
from mta.service.worker import Worker
from mta.sink.counters import Delivery
from mta.sink.nameserver import Nameserver
from mta.sink.receiver import Receiver, ReceiverOptions
from mta.sink.script import parse_script
from mta.sink.zone import Zone
from mta.spool.files import Files
from mta.spool.settlelog import Cursor, EventReader
from tests.support.inbound import Caller
from tests.support.injector import Injector
from tests.support.moved_clock import MovedClock

__all__ = ["Workshop"]

SECONDS = 20.0


class Workshop:
    """`async with Workshop(tmp_path, ...) as shop`.

    `rules` is the script of the receiver that all `domains` lead to; `refusing` that of a second one, which
    example.com is sent to instead. `within` goes into `<domain *>`, `extra` behind it; time begins at
    `start`. `@PORT@` in `extra` is the port of a second listener, or of the dummy: `second_port`.
    `files` write the spool; of several `workers` it is the first, and the others are not there; `receiving`
    are further options of the receiver (`tls`, `pipelining` ...).
    """

    def __init__(
        self,
        directory: Path,
        *,
        rules: str = "",
        within: str = "",
        extra: str = "",
        refusing: str = "",
        start: float | None = None,
        domains: tuple[str, ...] = ("example.com", "example.org"),
        files: Files | None = None,
        workers: int = 1,
        **receiving: Any,
    ) -> None:
        self.directory = directory
        self.deliveries: list[Delivery] = []
        self.options = ReceiverOptions(
            script=parse_script(rules), delivered=self.deliveries.append, **receiving
        )
        self.receiver = Receiver(self.options)
        self.zone = Zone()
        for domain in domains:
            self.zone.add(domain, f"MX 10 mx.{domain}.")
            self.zone.add(f"mx.{domain}", "A 127.0.0.1")
        self._files = files
        self._workers = workers
        self._within = within
        self._extra = extra
        self.refusing = Receiver(ReceiverOptions(script=parse_script(refusing))) if refusing else None
        self.start = start
        self._events: list[Event] = []
        self._cursor = Cursor()

    async def __aenter__(self) -> Workshop:
        async with AsyncExitStack() as stack:
            await self._open_houses(stack)
            await self._start_worker(stack)
            self._opened = stack.pop_all()
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self._opened.aclose()

    async def _open_houses(self, stack: AsyncExitStack) -> None:
        """The receivers and the name server; whatever fails later, they are closed."""
        for receiver in filter(None, (self.receiver, self.refusing)):
            await receiver.start()
            stack.callback(receiver.close)
        self.nameserver = Nameserver(self.zone)
        await self.nameserver.start()
        stack.callback(self.nameserver.close)

    async def _start_worker(self, stack: AsyncExitStack) -> None:
        # Opened before anybody reads of them: a port that is only looked up may be somebody else's by then.
        sockets = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            for _ in range(2 if "@PORT@" in self._extra else 1)
        ]
        for sock in sockets:
            sock.setblocking(False)
        self.port: int = sockets[0].getsockname()[1]
        self.second_port: int = sockets[-1].getsockname()[1]
        self.clock = MovedClock() if self.start is None else MovedClock(self.start)
        self.text = self._text()
        loaded = load_text(self.text)
        assert loaded.snapshot is not None, loaded.problems
        (self.directory / "spool").mkdir(mode=0o700, exist_ok=True)
        self.worker = Worker(
            loaded.snapshot,
            name="0",
            clock=self.clock,
            loop=asyncio.get_running_loop(),
            workers=self._workers,
            files=self._files,
        )
        stack.callback(self.worker.partition.close)
        self._log = EventReader(self.worker.partition.directory)
        stack.callback(self._log.close)
        assert [other.port for other in loaded.snapshot.listeners] == [
            sock.getsockname()[1] for sock in sockets
        ]
        await self.worker.start(sockets)
        self._life = asyncio.create_task(self.worker.run())
        stack.push_async_callback(self._end_worker)

    async def _end_worker(self) -> None:
        async with asyncio.timeout(SECONDS):
            await self.worker.stop()
            await self._life

    def _text(self) -> str:
        host, port = self.nameserver.address
        detour = ""
        if self.refusing is not None:
            detour = f"<domain example.com>\nsmtp-hosts 127.0.0.1:{self.refusing.port}\n</domain>"
        return f"""
host-name mta.example.org
postmaster postmaster@example.org
smtp-listener 127.0.0.1:{self.port}
name-server {host}:{port}
<source 127.0.0.1>
    always-allow-relaying yes
</source>
<domain *>
    default-smtp-port {self.receiver.port}
    allow-loopback-mx yes
    {self._within}
</domain>
<spool {self.directory}/spool>
</spool>
{detour}
{self._extra.replace("@PORT@", str(self.second_port))}
"""

    def injector(self, **options: object) -> Injector:
        return Injector(self.port, **options)  # type: ignore[arg-type]

    async def submit(self, *, count: int = 1, **options: object) -> list[str]:
        """Hand messages in over SMTP; returns the recipients, all of them acknowledged."""
        load = self.injector(sessions=1, messages=count, **options)
        await load.run()
        assert not load.refusals
        return sorted(load.acknowledged)

    async def hand_in(
        self,
        content: str,
        *recipients: str,
        sender: str = "app@example.org",
        words: str = "",
        address: str = "",
    ) -> None:
        """Hand one message in, word for word, from a client at `address`; `words` stand behind its return
        path."""
        async with Caller(self.port, address=address) as client:
            await client.hello()
            assert (await client.ask(f"MAIL FROM:<{sender}>{words}")).startswith("250")
            for recipient in recipients or ("b@example.com",):
                assert (await client.ask(f"RCPT TO:<{recipient}>")).startswith("250")
            await client.ask("DATA")
            lines = content.replace("\n", "\r\n")
            assert (await client.ask(f"{lines}\r\n.")).startswith("250")

    async def until_delivered(self, count: int = 1) -> list[Delivery]:
        """Wait until the receiver has taken so many messages, then return them."""
        await self.until(lambda: len(self.deliveries) >= count)
        return self.deliveries

    def events(self, *types: str) -> list[Event]:
        """What the settle log says so far, as the events process will read it."""
        found, self._cursor = self._log.read(self._cursor, 10_000)
        self._events += [decode_event(event) for event in found if event]
        return [event for event in self._events if not types or event.type in types]

    async def until_events(self, count: int, *types: str) -> list[Event]:
        """Wait until there are so many events of these types, then return them; more are a failure."""
        await self.until(lambda: len(self.events(*types)) >= count)
        found = self.events(*types)
        assert len(found) == count, found
        return found

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until `condition()` is true."""
        async with asyncio.timeout(SECONDS):
            while not condition():
                await self.turn()

    async def until_idle(self) -> None:
        """Wait until no connection works or is being opened: what could be tried has been tried."""

        def is_idle() -> bool:
            working, _, opening = self.worker.dispatcher.stats()
            return not working and not opening

        await self.until(is_idle)

    async def turn(self) -> None:
        """Let something happen."""
        passed = asyncio.Event()
        asyncio.get_running_loop().call_later(0.005, passed.set)
        await passed.wait()

    async def at(self, when: float) -> None:
        """Let it be `when`, and everything happen that is due then, however long the machine takes for it."""
        with self.clock.standing(when):
            self.worker.dispatcher.wake()
            await self.turn()
            await self.until_idle()

    def waiting(self, domain: str = "example.com", vmta: str = "{default}") -> list[Entry]:
        """What waits in a queue."""
        return self.worker.scheduler.entries(QueueKey(domain, vmta))

    @property
    def connections(self) -> int:
        """How often the receiver was called."""
        return self.receiver.totals.connections
