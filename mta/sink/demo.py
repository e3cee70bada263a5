"""The demonstration: `python -m mta.sink.demo [--stay]` shows the whole server at work on this machine.

It starts a small name server, the mock receiver and the server itself (conf/quickstart.conf), relays two
thousand messages through it, and checks that each of them came to its end: delivered once, with the body
that was sent, or bounced. Nothing leaves the machine. Exit code 0 = everything was right.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import aiosmtplib
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from mta.config.load import load
from mta.config.snapshot import Snapshot
from mta.service.loop import run
from mta.sink.answers import Answers, DomainAnswers
from mta.sink.counters import Delivery
from mta.sink.demoreport import Ledger, ours, print_report, verdict
from mta.sink.nameserver import Nameserver
from mta.sink.receiver import Receiver, ReceiverOptions
from mta.sink.sample import DOMAINS, SENDER_DOMAIN, SampleMessage, sample_messages
from mta.sink.tail import AccountingTail
from mta.sink.zone import Zone

__all__ = ["main"]

CONFIG = Path(__file__).parents[2] / "conf" / "quickstart.conf"
MESSAGES = 2000
SESSIONS = 20
START_SECONDS = 60.0
FINISH_SECONDS = 120.0
POLL = 0.1
#: The receiver for the sender's own domain, where DSNs go.
OWN_ADDRESS = "127.0.0.20"

GREYLISTED = b"451 4.7.1 Greylisted, please try again in a few seconds"
RIGHT = "Every recipient has exactly one final record, and every body arrived as it was sent."
UNKNOWN_USER = b"550 5.1.1 The email account that you tried to reach does not exist"


class DemoFailed(Exception):
    """The demonstration can't go on; the text says why and what to do."""


class Demo:
    """One run of the demonstration; `run()` returns the exit code."""

    def __init__(self, *, config: Path, count: int, stay: bool, console: Console) -> None:
        self._config = config
        self._count = count
        self._stay = stay
        self._console = console
        self._snapshot = read_config(config)
        self._ledger = Ledger()
        self._receiver = Receiver(receiver_options(self._arrived))
        self._stop = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._injected_per_second = 0.0
        listener = self._snapshot.listeners[0]
        self._host, self._port = listener.host, listener.port
        self._tail = AccountingTail(Path(self._snapshot.acct_files[0].target))
        self._folder = self._tail.target.parent

    async def run(self) -> int:
        """Show everything; 0 = every message came to its right end, 130 = interrupted before that."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop.set)
        self._clear_folder()
        async with contextlib.AsyncExitStack() as stack:
            await self._start_world(stack)
            stack.push_async_callback(self._stop_server)
            await self._start_server()
            if self._stop.is_set() or not await self._relay():
                return self._interrupted()
            wrong = self._report()
            if self._stay and not self._stop.is_set():
                self._console.print("\nEverything keeps running until you press Ctrl-C.")
                await self._stop.wait()
        return 1 if wrong else 0

    # --- before

    def _clear_folder(self) -> None:
        """Forget the last demonstration: its mail would be mixed with today's."""
        require_free(self._host, self._port)
        require_free(*self._name_server())
        self._folder.mkdir(parents=True, exist_ok=True)
        for block in self._snapshot.spools:
            if self._folder in block.path.parents:
                shutil.rmtree(block.path, ignore_errors=True)
        for pattern in ("acct-*.csv", "rejects-*.csv", ".*.position"):
            for path in self._folder.glob(pattern):
                path.unlink()

    def _name_server(self) -> tuple[str, int]:
        host, _, port = self._snapshot.top.texts("name-server")[0].rpartition(":")
        return host, int(port)

    async def _start_world(self, stack: contextlib.AsyncExitStack) -> None:
        """The name server, and a receiver at each domain's address."""
        nameserver = Nameserver(zone())
        port = self._snapshot.effective("any.example", "").integer("default-smtp-port")
        try:
            await nameserver.start(*self._name_server())
            stack.callback(nameserver.close)
            stack.callback(self._receiver.close)
            for address in (OWN_ADDRESS, *(domain.address for domain in DOMAINS if domain.address)):
                await self._receiver.start(address, port)
        except OSError as error:
            raise DemoFailed(f"{error}; is another demonstration running?") from error
        host, own_port = nameserver.address
        self._console.print(f"name server     {host}:{own_port}")
        first, last = self._receiver.addresses[0][0], self._receiver.addresses[-1][0]
        self._console.print(f"mock receivers  {first} to {last}, port {port}")

    async def _start_server(self) -> None:
        """The real thing, in processes of its own."""
        log_path = self._folder / "mta.log"
        with log_path.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "mta", "-c", str(self._config), "run"),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            async with asyncio.timeout(START_SECONDS):
                while not await is_answering(self._host, self._port):
                    if self._stop.is_set():
                        return
                    if self._process.returncode is not None:
                        raise TimeoutError
                    await asyncio.sleep(POLL)
        except TimeoutError:
            said = log_path.read_text(errors="replace")[-2000:]
            raise DemoFailed(f"the server did not start; it said:\n{said}") from None
        self._console.print(f"server          {self._host}:{self._port}, log in {shown(log_path)}\n")

    async def _stop_server(self) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(40):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    # --- the mail

    async def _relay(self) -> bool:
        """Inject everything, and wait until each recipient has its final record; False when interrupted."""
        messages = list(sample_messages(self._count))
        recipients = sum(len(message.recipients) for message in messages)
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        with Progress(*columns, console=self._console) as progress:
            injected = progress.add_task("messages accepted", total=len(messages))
            finished = progress.add_task("recipients at their end", total=recipients)
            async with asyncio.TaskGroup() as company:
                company.create_task(self._inject_all(messages, lambda: progress.advance(injected)))
                watching = company.create_task(
                    self._watch(recipients, lambda count: progress.update(finished, completed=count))
                )
        return watching.result() or not self._stop.is_set()

    async def _inject_all(self, messages: list[SampleMessage], accepted: Callable[[], None]) -> None:
        """The application: some sessions at a time, each sends message after message."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        waiting = list(reversed(messages))
        async with asyncio.TaskGroup() as company:
            for _ in range(SESSIONS):
                company.create_task(self._inject(waiting, accepted))
        self._injected_per_second = len(self._ledger.sent) / (loop.time() - begun)

    async def _inject(self, waiting: list[SampleMessage], accepted: Callable[[], None]) -> None:
        client = aiosmtplib.SMTP(
            hostname=self._host, port=self._port, start_tls=False, local_hostname=f"app.{SENDER_DOMAIN}"
        )
        try:
            async with client:
                while waiting and not self._stop.is_set():
                    message = waiting.pop()
                    self._ledger.sent[message.sender] = message
                    options = ["BODY=8BITMIME"] + (["SMTPUTF8"] if message.needs_smtputf8 else [])
                    await client.sendmail(
                        message.sender, list(message.recipients), message.content, mail_options=options
                    )
                    accepted()
        except (aiosmtplib.SMTPException, OSError) as error:
            raise DemoFailed(f"the server refused a message: {error}") from error

    async def _watch(self, recipients: int, show: Callable[[int], None]) -> bool:
        """Read the accounting file as it grows, until time is up; True when everybody has a final record."""
        deadline = asyncio.get_running_loop().time() + FINISH_SECONDS
        while not self._stop.is_set() and asyncio.get_running_loop().time() < deadline:
            self._tail.read()
            finals = len(ours(self._tail.records, "d")) + len(ours(self._tail.records, "b"))
            show(finals)
            if finals >= recipients:
                return True
            await asyncio.sleep(POLL)
        return False

    def _arrived(self, delivery: Delivery) -> None:
        self._ledger.note(delivery, asyncio.get_running_loop().time())

    # --- after

    def _interrupted(self) -> int:
        self._console.print("Interrupted before every recipient had come to its end: no verdict.")
        return 130

    def _report(self) -> list[str]:
        self._tail.read()
        print_report(
            self._console,
            self._ledger,
            self._tail.records,
            receiver=self._receiver,
            folder=shown(self._folder),
            injected_per_second=self._injected_per_second,
        )
        wrong = verdict(self._ledger, self._tail.records)
        for sentence in wrong:
            self._console.print(f"[red]wrong:[/red] {sentence}")
        if not wrong:
            self._console.print(RIGHT)
        if self._stay:
            self._console.print(
                further(shown(self._config), shown(self._folder), self._host, self._port), soft_wrap=True
            )
        return wrong


def further(config: Path, folder: Path, host: str, port: int) -> str:
    """How to look further while it runs."""
    return f"""
How to look further, in another terminal:
  .venv/bin/mta -c {config} show status
  .venv/bin/mta -c {config} show topqueues
  .venv/bin/mta -c {config} show settings busy.example/vmta1
  tail -f {folder}/acct-*.csv
  .venv/bin/mta -c {config} spool list
  swaks --server {host}:{port} --from me@{SENDER_DOMAIN} --to you@mailbox.example"""


def zone() -> Zone:
    """DNS for all the domains of the demonstration."""
    made = Zone()
    made.add(SENDER_DOMAIN, f"MX 10 mx.{SENDER_DOMAIN}.")
    made.add(f"mx.{SENDER_DOMAIN}", f"A {OWN_ADDRESS}")
    for domain in DOMAINS:
        made.add(domain.name, f"MX 10 mx.{domain.name}." if domain.address else "MX 0 .")
        if domain.address:
            made.add(f"mx.{domain.name}", f"A {domain.address}")
    return made


def receiver_options(delivered: Callable[[Delivery], None]) -> ReceiverOptions:
    named = {
        domain.name: DomainAnswers(
            defer=domain.defer,
            refuse=domain.refuse,
            greylist=True,
            latency=domain.latency,
            at_dot=domain.latency > 0,
            defer_reply=GREYLISTED,
            refuse_reply=UNKNOWN_USER,
        )
        for domain in DOMAINS
    }
    return ReceiverOptions(host_name="mx.example", answers=Answers(named=named), delivered=delivered)


def read_config(path: Path) -> Snapshot:
    """The configuration of the demonstration. Raises DemoFailed."""
    loaded = load(path)
    if loaded.snapshot is None:
        problems = "\n".join(map(str, loaded.problems))
        raise DemoFailed(f"the configuration can't be used:\n{problems}")
    if not loaded.snapshot.listeners or not loaded.snapshot.acct_files:
        raise DemoFailed(f"{path}: a listener and an accounting file are needed")
    return loaded.snapshot


def require_free(host: str, port: int) -> None:
    """Raise DemoFailed when somebody listens there already."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise DemoFailed(f"{host}:{port}: {error.strerror}; is another demonstration running?") from error


async def is_answering(host: str, port: int) -> bool:
    """Whether an SMTP server greets us there."""
    try:
        reader, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    try:
        async with asyncio.timeout(2.0):
            return (await reader.readline()).startswith(b"220")
    except (TimeoutError, OSError):
        return False
    finally:
        writer.close()


def shown(path: Path) -> Path:
    """A path as people like to read it."""
    with contextlib.suppress(ValueError):
        return path.resolve().relative_to(Path.cwd())
    return path


def leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    """What went wrong, however deep in task groups."""
    for one in group.exceptions:
        if isinstance(one, BaseExceptionGroup):
            yield from leaves(one)
        else:
            yield one


def main() -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="mta.sink.demo", description="Show the whole server at work.")
    parser.add_argument("--stay", action="store_true", help="keep everything running until Ctrl-C")
    parser.add_argument("--messages", type=int, default=MESSAGES, help="how many (default %(default)s)")
    parser.add_argument("--config", type=Path, default=CONFIG, help=argparse.SUPPRESS)
    options = parser.parse_args()
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=110)
    code = 1
    try:
        demo = Demo(config=options.config, count=options.messages, stay=options.stay, console=console)
        code = run(demo.run())
    except* DemoFailed as failures:
        # Twenty sessions may fail of the same thing.
        for reason in dict.fromkeys(str(failure) for failure in leaves(failures)):
            console.print(f"[red]The demonstration failed:[/red] {reason}")
    return code


if __name__ == "__main__":
    sys.exit(main())
