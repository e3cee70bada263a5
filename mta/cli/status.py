"""The screen of `mta show status`."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from typing import Any

import click

from mta.cli.output import Column, Output, ago, bytes_in_words, counted, moment
from mta.cli.trees import Machine

__all__ = ["HELD", "print_status", "this_machine"]

#: What is in no queue because the worker that owns it does not take it.
HELD = "{} wait for the workers that own their queues"

_TRAFFIC = (
    ("total", "Total"),
    ("lastHr", "Last Hour"),
    ("topPerHr", "Top/Hour"),
    ("lastMin", "Last Min."),
    ("topPerMin", "Top/Min."),
)


def print_status(output: Output, data: Mapping[str, Any]) -> None:
    """Traffic, connections, queues, spool, and how long the server is up; missing parts are left out."""
    for alarm in data.get("alarms", ()):
        click.echo(f"ALARM: {alarm}")
    _traffic(output, data.get("traffic", {}))
    _connections(output, data.get("conn", {}))
    _queues(output, data)
    _server(output, data)


def _traffic(output: Output, traffic: Mapping[str, Any]) -> None:
    columns = (
        Column("Traffic"),
        *(
            Column(f"{way} {unit}", is_number=True)
            for way in ("in", "out")
            for unit in ("rcpts", "msgs", "kbytes")
        ),
    )
    rows = [
        (
            title,
            *(
                traffic.get(name, {}).get(way, {}).get(unit, 0)
                for way in ("in", "out")
                for unit in ("rcp", "msg", "kb")
            ),
        )
        for name, title in _TRAFFIC
    ]
    output.table(columns, rows)
    click.echo()


def _connections(output: Output, connections: Mapping[str, Any]) -> None:
    columns = (
        Column("Connections"),
        Column("active", is_number=True),
        Column("top", is_number=True),
        Column("maximum", is_number=True),
    )
    rows = []
    for name, title in (("smtpIn", "Inbound"), ("smtpOut", "Outbound")):
        row = connections.get(name, {})
        rows.append((title, row.get("cur", 0), row.get("top", 0), row.get("max") or "unlimited"))
    output.table(columns, rows)
    click.echo()


def _queues(output: Output, data: Mapping[str, Any]) -> None:
    resolver, queues, spool = data.get("resolver", {}), data.get("queue", {}), data.get("spool", {})
    pairs = [
        (
            f"Queue {name}",
            f"{row.get('rcp', 0)} recipients, {row.get('dom', 0)} domains, {row.get('kb', 0)} kbytes",
        )
        for name, row in queues.items()
    ]
    if settled := data.get("settled", {}):
        texts = [f"{settled.get(name, 0)} {name}" for name in ("delivered", "failed", "expired")]
        pairs.append(("Recipients", ", ".join(texts)))
        if settled.get("uncertain"):
            words = "the receiver's last word never came: perhaps delivered twice"
            pairs.append(("Uncertain", f"{settled['uncertain']} ({words})"))
    cached, pending = resolver.get("namesCached", 0), resolver.get("queriesPending", 0)
    pairs.append(("DNS names", f"{cached} cached, {pending} pending"))
    for directory in spool.get("dirs", ()):
        pairs.append((f"Spool {directory.get('path', '')}", _spool(directory)))
    if spool.get("parkedRcp"):
        pairs.append(("Parked", f"{counted(spool['parkedRcp'], 'recipient')} on disk alone"))
    if spool.get("heldRcp"):
        pairs.append(("Held", HELD.format(counted(spool["heldRcp"], "recipient"))))
    output.pairs(pairs)
    click.echo()


def _spool(directory: Mapping[str, Any]) -> str:
    if directory.get("broken"):
        return f"BROKEN: {directory['broken']}"
    texts = [
        counted(directory.get("totalRcp", 0), "recipient"),
        counted(directory.get("segments", 0), "segment"),
    ]
    if "free" in directory:
        texts.append(f"{bytes_in_words(int(directory['free']))} free")
    return ", ".join(texts)


def _server(output: Output, data: Mapping[str, Any]) -> None:
    started, now = data.get("startupTime", 0), data.get("timeNow", 0)
    output.pairs(
        (
            ("Status", f"{data.get('status', 'unknown')} (pid {data.get('pid', '-')})"),
            ("Host name", data.get("hostName", "")),
            ("Version", data.get("version", "")),
            ("Configuration", f"{data.get('configFile', '')} (epoch {data.get('epoch', '-')})"),
            ("Started", moment(started)),
            ("Uptime", ago(now - started) if started else "-"),
        )
    )


def this_machine() -> Machine:
    """The machine we run on, which is the server's: its control socket is a file here."""
    ram = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // (1 << 20)
    return Machine(
        os_name=platform.system(),
        os_version=platform.release(),
        os_build=platform.version(),
        cpu=platform.machine(),
        cpus=os.cpu_count() or 1,
        ram=ram,
        bits=64 if platform.architecture()[0] == "64bit" else 32,
    )
