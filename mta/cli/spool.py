"""`mta spool`: what is in a spool, seen from its files alone.

Reads only; the server may be running, or the spool may be a copy from another machine. DIRECTORY is a spool
or one partition of it; without it the spools of the configuration are taken.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import click

from mta.cli.invocation import Exit, Invocation, common_options, invocation
from mta.cli.main import ShortenedGroup
from mta.cli.output import Column, bytes_in_words, counted, in_future, moment
from mta.clock import SystemClock
from mta.errors import ConfigError, SpoolCorrupt
from mta.spool.inspect import Inspection, Listed, Report, as_file, partitions_below

__all__ = ["spool"]

Command = TypeVar("Command", bound=Callable[..., Any])

_directory = click.option(
    "--spool",
    "directory",
    type=click.Path(path_type=Path),
    metavar="DIRECTORY",
    help="Spool or partition (default: the spools of the configuration).",
)


@click.group(cls=ShortenedGroup)
@common_options
def spool() -> None:
    """Look into a spool without the server."""


@spool.command("list")
@common_options
@_directory
@click.option(
    "--queue", default="", help="Only messages with a recipient in this queue (domain/vmta or domain)."
)
@click.option(
    "--maxitems", type=click.IntRange(min=1), default=100, show_default=True, help="At most so many."
)
@click.pass_context
def list_messages(context: click.Context, directory: Path | None, queue: str, maxitems: int) -> None:
    """List the messages that wait, oldest first."""
    call = invocation(context)
    found: list[Listed] = []
    total = 0
    for inspection in _inspections(call, directory):
        for listed in inspection.messages():
            if _waits_in(listed, queue):
                total += 1
                if len(found) < maxitems:
                    found.append(listed)
    if call.as_json:
        call.output.json({"messages": [_as_data(listed) for listed in found], "total": total})
    else:
        _print_list(call, found, total)


@spool.command("show")
@common_options
@_directory
@click.argument("queue_id")
@click.pass_context
def show_message(context: click.Context, directory: Path | None, queue_id: str) -> int:
    """Show the envelope of one message and what has become of its recipients."""
    call = invocation(context)
    for inspection in _inspections(call, directory):
        listed = inspection.find(queue_id)
        if listed is not None:
            if call.as_json:
                call.output.json(_as_data(listed))
            else:
                _print_message(call, listed)
            return 0
    return _missing(call, queue_id)


@spool.command("verify")
@common_options
@_directory
@click.pass_context
def verify(context: click.Context, directory: Path | None) -> int:
    """Check every byte; exit code 65 when something is damaged."""
    call = invocation(context)
    reports = [inspection.verify() for inspection in _inspections(call, directory)]
    is_sound = not any(report.damage for report in reports)
    if call.as_json:
        data = [_report_data(report) for report in reports]
        call.output.json(data, is_success=is_sound, message="" if is_sound else "damage found")
    else:
        for report in reports:
            _print_report(call, report)
    return 0 if is_sound else Exit.DATA


@spool.command("export")
@common_options
@_directory
@click.option(
    "--to",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write QUEUE_ID.eml files into this directory instead of one message to standard output.",
)
@click.option("--all", "everything", is_flag=True, help="All messages that wait; needs --to.")
@click.argument("queue_ids", nargs=-1)
@click.pass_context
def export(
    context: click.Context,
    directory: Path | None,
    to: Path | None,
    everything: bool,
    queue_ids: tuple[str, ...],
) -> int:
    """Write messages as files, with their lines as they were sent."""
    call = invocation(context)
    if not everything and not queue_ids:
        raise click.UsageError("which messages? Name queue ids, or give --all --to DIRECTORY")
    if to is None and (everything or len(queue_ids) > 1):
        raise click.UsageError("several messages need --to DIRECTORY")
    if to is not None:
        to.mkdir(mode=0o700, parents=True, exist_ok=True)
    exported = _export(_inspections(call, directory), set(queue_ids), to, everything=everything)
    problems = [f"{name} is not in the spool" for name in exported.missing]
    if to is not None and call.as_json:
        problems += ["damage found"] if exported.damaged else []
        call.output.json(exported._asdict(), message="; ".join(problems), is_success=not problems)
        return exported.code
    if to is not None:
        call.output.say(f"{counted(len(exported.written), 'message')} written to {to}")
    for name in exported.missing:
        _missing(call, name)
    return exported.code


class Exported(NamedTuple):
    """What has become of the messages that should be written, by queue id."""

    written: list[str]
    damaged: list[str]
    missing: list[str]

    @property
    def code(self) -> int:
        return Exit.NO_INPUT if self.missing else Exit.DATA if self.damaged else 0


def _export(
    inspections: Iterable[Inspection], wanted: set[str], to: Path | None, *, everything: bool
) -> Exported:
    """Write those messages that are `wanted`, by queue id or number, or everything; name the damaged ones."""
    written, damaged = list[str](), list[str]()
    for inspection in inspections:
        for listed in inspection.messages():
            name = listed.envelope.queue_id
            names = {name, str(listed.message)}
            if not everything and not wanted & names:
                continue
            wanted -= names
            try:
                _write(as_file(inspection.body(listed.message)), to, name)
            except SpoolCorrupt as error:
                damaged.append(name)
                click.echo(f"mta: {name}: {error}", err=True)
            else:
                written.append(name)
    return Exported(written, damaged, sorted(wanted))


def _inspections(call: Invocation, directory: Path | None) -> Iterator[Inspection]:
    """An open look at each partition in question, one after the other."""
    if directory is not None:
        places = [directory]
    else:
        places = [block.path for block in call.load().readable.spools]
        if not places:
            raise ConfigError("the configuration names no spool, and no --spool DIRECTORY was given")
    for place in places:
        for partition in partitions_below(place):
            with Inspection(partition) as inspection:
                yield inspection


def _waits_in(listed: Listed, queue: str) -> bool:
    """Whether somebody waits for a message in this queue (or domain); "" is any."""
    return not queue or any(
        queue in (state.queue, state.queue.partition("/")[0])
        for state in listed.recipients
        if not state.is_settled
    )


def _as_data(listed: Listed) -> dict[str, object]:
    envelope = listed.envelope
    return {
        "queueId": envelope.queue_id,
        "message": listed.message,
        "partition": str(listed.partition),
        "received": envelope.received,
        "size": listed.size,
        "orig": envelope.originator,
        "vmta": envelope.vmta,
        "jobId": envelope.job_id,
        "envId": envelope.envelope_id,
        "srcMta": envelope.source_mta,
        "recipients": [
            {
                "rcpt": state.address,
                "queue": state.queue,
                "settled": state.is_settled,
                "attempts": state.attempts,
                "nextTry": state.due,
            }
            for state in listed.recipients
        ],
    }


def _print_list(call: Invocation, found: list[Listed], total: int) -> None:
    now = SystemClock().wall()
    columns = (
        Column("Queue id"),
        Column("Received"),
        Column("Size", is_number=True),
        Column("Waiting", is_number=True),
        Column("Next try"),
        Column("Sender"),
        Column("Recipient"),
    )
    rows = []
    for listed in found:
        envelope = listed.envelope
        waiting = [state for state in listed.recipients if not state.is_settled]
        rows.append(
            (
                envelope.queue_id,
                moment(envelope.received),
                bytes_in_words(listed.size),
                f"{listed.waiting}/{len(listed.recipients)}",
                in_future(min(state.due for state in waiting), now),
                envelope.originator or "<>",
                waiting[0].address + (" ..." if len(waiting) > 1 else ""),
            )
        )
    shown = f" ({len(found)} shown)" if len(found) < total else ""
    call.output.table(columns, rows, footer=counted(total, "message") + shown)


def _print_message(call: Invocation, listed: Listed) -> None:
    envelope, now = listed.envelope, SystemClock().wall()
    pairs = [
        ("Queue id", envelope.queue_id),
        ("Received", moment(envelope.received)),
        ("From", f"{envelope.source_mta} by {envelope.source_type}".strip()),
        ("Sender", envelope.originator or "<>"),
        ("Virtual MTA", envelope.vmta),
        ("Job id", envelope.job_id),
        ("Envelope id", envelope.envelope_id),
        ("Size", str(listed.size)),
        ("Partition", f"{listed.partition} (message {listed.message})"),
    ]
    call.output.pairs([(name, value) for name, value in pairs if value])
    click.echo()
    columns = (
        Column("Recipient"),
        Column("Queue"),
        Column("State"),
        Column("Attempts", is_number=True),
        Column("Next try"),
    )
    rows = [
        (
            state.address,
            state.queue,
            "settled" if state.is_settled else "deferred" if state.attempts else "waiting",
            state.attempts,
            "-" if state.is_settled else in_future(state.due, now),
        )
        for state in listed.recipients
    ]
    call.output.table(columns, rows, footer=f"{listed.waiting} waiting")


def _report_data(report: Report) -> dict[str, object]:
    return {
        "partition": str(report.partition),
        "holder": report.holder,
        "acceptFiles": report.accept_files,
        "settleFiles": report.settle_files,
        "freeFiles": report.free_files,
        "messages": report.messages,
        "recipients": report.recipients,
        "bytes": report.bytes,
        "quarantined": report.quarantined,
        "damage": [
            {"file": str(one.path), "from": one.at, "to": one.end, "why": one.why} for one in report.damage
        ],
    }


def _print_report(call: Invocation, report: Report) -> None:
    files = f"{report.accept_files} accept, {report.settle_files} settle, {report.free_files} free"
    call.output.pairs(
        [
            ("Partition", str(report.partition)),
            ("In use by", f"process {report.holder}" if report.holder else "nobody"),
            ("Files", files),
            ("Messages", f"{report.messages} ({bytes_in_words(report.bytes)})"),
            ("Recipients", str(report.recipients)),
            ("Quarantine", counted(report.quarantined, "record")),
            ("Damage", "none" if not report.damage else counted(len(report.damage), "place")),
        ]
    )
    for one in report.damage:
        click.echo(f"  {one.path}: bytes {one.at} to {one.end}: {one.why}")


def _write(message: bytes, to: Path | None, name: str) -> None:
    if to is None:
        sys.stdout.buffer.write(message)
        sys.stdout.buffer.flush()
        return
    # A queue id is ours and harmless, but a damaged envelope may say anything.
    safe = "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in name) or "message"
    descriptor = os.open(to / f"{safe}.eml", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(message)


def _missing(call: Invocation, queue_id: str) -> int:
    if call.as_json:
        call.output.json({}, message=f"{queue_id} is not in the spool", is_success=False)
    else:
        click.echo(f"mta: {queue_id} is not in the spool", err=True)
    return Exit.NO_INPUT
