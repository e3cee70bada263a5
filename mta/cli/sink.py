"""`mta sink`: the mock receiver on the command line."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import signal
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TextIO

import click
import uvloop
from rich.console import Console
from rich.table import Table

from mta.errors import ConfigError
from mta.sink.answers import Answers, DomainAnswers
from mta.sink.receiver import Receiver, ReceiverOptions, Tls
from mta.sink.record import Recorder
from mta.sink.script import Script, parse_delay, parse_rule

__all__ = ["sink"]

TOP = 10


class Delay(click.ParamType[float]):
    """`100ms`, `2s`, or milliseconds."""

    name = "delay"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        try:
            return parse_delay(value)
        except ConfigError as error:
            self.fail(str(error), param, ctx)


class Address(click.ParamType[tuple[str, int]]):
    """`HOST:PORT`, `[v6]:PORT`, or a port alone on 127.0.0.1."""

    name = "host:port"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        if isinstance(value, tuple):
            return value
        host, _, port = value.rpartition(":")
        if not port.isdigit() or int(port) > 65535:
            self.fail(f"{value!r} is no HOST:PORT", param, ctx)
        return host.strip("[]") or "127.0.0.1", int(port)


class DomainRule(click.ParamType[tuple[str, dict[str, Any]]]):
    """`example.com:defer=30,refuse=5,latency=100ms,at=dot,defer-reply=451 4.7.1 later`."""

    name = "domain:key=value,..."

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, dict[str, Any]]:
        if isinstance(value, tuple):
            return value
        domain, _, settings = value.partition(":")
        chosen: dict[str, Any] = {}
        for setting in filter(None, settings.split(",")):
            key, _, text = (part.strip() for part in setting.partition("="))
            try:
                chosen.update(read_setting(key, text))
            except (ValueError, ConfigError) as error:
                self.fail(f"{setting!r}: {error}", param, ctx)
        return domain, chosen


def read_setting(key: str, text: str) -> dict[str, Any]:
    """One `key=value` of a domain rule as a field of `DomainAnswers`."""
    match key:
        case "defer" | "refuse":
            return {key: float(text) / 100}
        case "latency":
            return {key: parse_delay(text)}
        case "greylist":
            if text not in ("yes", "no"):
                raise ValueError("greylist is yes or no")
            return {key: text == "yes"}
        case "at":
            if text not in ("rcpt", "dot"):
                raise ValueError("at is rcpt or dot")
            return {"at_dot": text == "dot"}
        case "defer-reply" | "refuse-reply":
            if not text[:3].isdigit():
                raise ValueError("a reply begins with its code")
            return {key.replace("-", "_"): text.encode()}
    raise ValueError("known are defer, refuse, greylist, latency, at, defer-reply and refuse-reply")


PERCENT = click.FloatRange(0, 100)
COUNT = click.IntRange(0)
EXISTING = click.Path(path_type=Path, dir_okay=False, exists=True)
WRITABLE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.option(
    "listen",
    "--listen",
    "-l",
    type=Address(),
    multiple=True,
    default=["127.0.0.1:2526"],
    show_default=True,
    help="Where to listen; repeatable.",
)
@click.option(
    "host_name", "--name", default="sink.example", show_default=True, help="Name in greeting and EHLO."
)
@click.option("defer", "--defer", type=PERCENT, default=0.0, help="Percent of recipients deferred.")
@click.option("refuse", "--refuse", type=PERCENT, default=0.0, help="Percent of recipients refused.")
@click.option(
    "domains",
    "--domain",
    type=DomainRule(),
    multiple=True,
    help="Answers of one domain (or *.parent), as in example.com:defer=30,refuse=5,latency=100ms,at=dot.",
)
@click.option("latency", "--latency", type=Delay(), default="0ms", help="Delay before a reply, as 100ms.")
@click.option(
    "latency_at",
    "--latency-at",
    type=click.Choice(["dot", "each"]),
    default="dot",
    show_default=True,
    help="Before the reply to the final dot, or before every reply.",
)
@click.option("max_connections", "--max-connections", type=COUNT, default=0, help="At a time; then 421.")
@click.option("max_per_ip", "--max-connections-per-ip", type=COUNT, default=0, help="The same per client.")
@click.option("max_messages", "--max-messages", type=COUNT, default=0, help="Per connection; then 421.")
@click.option("max_recipients", "--max-recipients", type=COUNT, default=0, help="Per message; then 452.")
@click.option("max_size", "--max-size", type=COUNT, default=0, help="Octets of a message; then 552.")
@click.option(
    "tls",
    "--tls",
    type=click.Choice([mode.value for mode in Tls]),
    default="off",
    show_default=True,
    help="Encryption, with a certificate made on the fly.",
)
@click.option("pipelining", "--pipelining/--no-pipelining", default=True, help="Whether EHLO offers it.")
@click.option(
    "replies", "--reply", multiple=True, help="A scripted reply, as in 'RCPT /^bad/ 550 5.1.1 unknown'."
)
@click.option("script", "--script", type=EXISTING, help="A file of them, one a line.")
@click.option("record", "--record", type=WRITABLE, help="Write a CSV line per accepted recipient.")
@click.option("until", "--until", type=COUNT, default=0, help="Stop after this many messages.")
@click.option(
    "count_output", "--count-output", is_flag=True, help="Print the counters to stdout as they grow."
)
@click.option("refresh", "--refresh", type=Delay(), default="500ms", help="How often counters are shown.")
@click.option("as_json", "--json", is_flag=True, help="Counters and summary as JSON.")
@click.option("quiet", "--quiet", "-q", is_flag=True, help="No progress line.")
def sink(**given: Any) -> None:
    """A mock receiver: takes mail, counts it, and accepts, defers or refuses it as told.

    Stops on Ctrl-C (or SIGTERM) and prints a summary.
    """
    try:
        options = build_options(given)
    except (ConfigError, ValueError) as error:
        raise click.UsageError(str(error)) from error
    recorder = Recorder(given["record"]) if given["record"] else None
    if recorder is not None:
        options.delivered = recorder.write
    display = Display(
        as_json=given["as_json"],
        counts=given["count_output"],
        live=not given["quiet"] and not given["as_json"] and sys.stderr.isatty(),
    )
    try:
        uvloop.run(
            serve(
                options,
                list(given["listen"]),
                display,
                recorder=recorder,
                until=given["until"],
                refresh=given["refresh"],
            )
        )
    except OSError as error:
        raise click.ClickException(f"can't listen: {error}") from error
    finally:
        if recorder is not None:
            recorder.close()


def build_options(given: Mapping[str, Any]) -> ReceiverOptions:
    """What the command line asks for. Raises ConfigError or ValueError."""
    default = DomainAnswers(defer=given["defer"] / 100, refuse=given["refuse"] / 100)
    named = {domain: replace(default, **chosen) for domain, chosen in given["domains"]}
    rules = [parse_rule(line) for line in given["replies"]]
    if given["script"]:
        text = given["script"].read_text(encoding="utf-8")
        rules += [
            parse_rule(line)
            for line in text.splitlines()
            if line.strip() and not line.lstrip().startswith("#")
        ]
    return ReceiverOptions(
        host_name=given["host_name"],
        pipelining=given["pipelining"],
        tls=Tls(given["tls"]),
        max_size=given["max_size"],
        latency=given["latency"],
        every_reply=given["latency_at"] == "each",
        max_connections=given["max_connections"],
        max_connections_per_ip=given["max_per_ip"],
        max_messages_per_connection=given["max_messages"],
        max_recipients=given["max_recipients"],
        answers=Answers(default, named),
        script=Script(rules),
    )


@dataclass(slots=True)
class Display:
    """What is shown while it runs and at the end."""

    as_json: bool = False
    counts: bool = False
    live: bool = False
    out: TextIO = sys.stdout
    error: TextIO = sys.stderr

    def listening(self, receiver: Receiver) -> None:
        where = ", ".join(f"{host}:{port}" for host, port in receiver.addresses)
        print(f"listening on {where}", file=self.error, flush=True)

    def progress(self, receiver: Receiver, seconds: float, rate: float) -> None:
        totals = receiver.totals
        if self.live:
            line = f"{totals.messages:,} messages  {rate:,.0f}/s  {totals.open} connections"
            answers = f"{totals.deferred:,} deferred  {totals.refused:,} refused"
            print(f"\r{line}  {answers}\033[K", end="", file=self.error, flush=True)
        if self.counts:
            if self.as_json:
                line = json.dumps({"seconds": round(seconds, 2), **asdict(totals)})
            else:
                line = " ".join(f"{name}={value}" for name, value in asdict(totals).items())
            print(line, file=self.out, flush=True)

    def summary(self, receiver: Receiver) -> None:
        """Everything counted; the rate is that between the first and the last message."""
        if self.live:
            print("\r\033[K", end="", file=self.error, flush=True)
        totals = receiver.totals
        busy = totals.last_at - totals.first_at
        rate = totals.messages / busy if busy > 0 else 0.0
        if self.as_json:
            shown = {**summarise(receiver), "seconds": round(busy, 3), "rate": round(rate, 1)}
            print(json.dumps(shown), file=self.out, flush=True)
            return
        console = Console(file=self.out, highlight=False)
        console.print(
            f"{totals.messages:,} messages, {totals.bytes:,} bytes in {busy:.2f} s ({rate:,.0f}/s); "
            f"recipients: {totals.accepted:,} accepted, {totals.deferred:,} deferred, "
            f"{totals.refused:,} refused"
        )
        console.print(
            f"{totals.connections:,} connections, at most {totals.peak:,} at a time, "
            f"{totals.refused_connections:,} turned away, {totals.tls:,} encrypted, "
            f"{totals.lost:,} broken in a message"
        )
        clients = Table("client", "connections", "at most", "turned away", "messages", box=None)
        for address, client in top(receiver.clients, key=lambda one: one.messages):
            clients.add_row(
                address, *thousands(client.connections, client.peak, client.refused, client.messages)
            )
        domains = Table("domain", "messages", "accepted", "deferred", "refused", box=None)
        for name, domain in top(receiver.options.answers.totals(), key=lambda one: one.accepted):
            domains.add_row(
                name, *thousands(domain.messages, domain.accepted, domain.deferred, domain.refused)
            )
        for table in (clients, domains):
            if table.row_count:
                console.print(table)


def thousands(*numbers: int) -> list[str]:
    return [f"{number:,}" for number in numbers]


def top(named: Mapping[str, Any], *, key: Any) -> list[tuple[str, Any]]:
    """The busiest few."""
    return sorted(named.items(), key=lambda item: (-key(item[1]), item[0]))[:TOP]


def summarise(receiver: Receiver) -> dict[str, Any]:
    """Every counter, for programs."""
    return {
        **asdict(receiver.totals),
        "clients": {name: asdict(client) for name, client in receiver.clients.items()},
        "greetings": receiver.greetings,
        "domains": {name: asdict(domain) for name, domain in receiver.options.answers.totals().items()},
    }


async def serve(
    options: ReceiverOptions,
    listen: list[tuple[str, int]],
    display: Display,
    *,
    recorder: Recorder | None = None,
    until: int = 0,
    refresh: float = 0.5,
) -> None:
    """Run until a signal (or the number of messages) ends it; then show the summary. OSError: no address."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    receiver = Receiver(options)
    try:
        for host, port in listen:
            await receiver.start(host, port)
        display.listening(receiver)
        # Nothing that exists now is ever garbage: the collector need not look at it again.
        gc.freeze()
        begun = last = loop.time()
        seen = 0
        while not stop.is_set() and not (until and receiver.totals.messages >= until):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(refresh):
                    await stop.wait()
            now = loop.time()
            messages = receiver.totals.messages
            display.progress(receiver, now - begun, (messages - seen) / (now - last))
            seen, last = messages, now
            if recorder is not None:
                recorder.flush()
    finally:
        receiver.close()
    display.summary(receiver)
