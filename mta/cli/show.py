"""`mta show ...`: what the running server says about itself. `show settings` needs no server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from mta.cli.invocation import common_options, invocation
from mta.cli.main import ShortenedGroup
from mta.cli.output import Column, ago, bytes_in_words, counted, in_future, moment
from mta.cli.status import HELD, print_status, this_machine
from mta.cli.trees import ABOUT_RECIPIENTS, domains_tree, jobs_tree, queues_tree, status_tree, vmtas_tree
from mta.cli.unneeded import show_license, show_registration
from mta.clock import SystemClock

__all__ = ["show"]

Command = TypeVar("Command", bound=Callable[..., Any])

_MAXITEMS = click.option(
    "--maxitems", type=click.IntRange(min=1), default=20, show_default=True, help="At most so many."
)
_CONNECTED = click.option("--connected", type=click.BOOL, help="Only those with (or without) connections.")
_ERRORS = click.option("--errors", is_flag=True, help="Only those with errors, and print their last ones.")
_SORT = click.option("--sort", type=click.Choice(["name", "rcpt", "size"]), help="Order of the rows.")
_PAUSED = click.option("--paused", type=click.BOOL, help="Only paused ones (or only others).")
_MODE = click.option("--mode", type=click.Choice(["normal", "backoff"]), help="Only those in this mode.")
_NO_REPLIES = click.option("--no-rcpt-events", is_flag=True, help="Leave what was said to recipients out.")
_MODE_EVENTS = click.option("--mode-events", is_flag=True, help="Accepted; changes of mode are always there.")
_VMTA = click.option("--vmta", help="Only what this virtual MTA sends; * stands for anything.")


class _ShowGroup(ShortenedGroup):
    """What reads the configuration is loaded when it is wanted: that takes longer than to ask a server."""

    def list_commands(self, context: click.Context) -> list[str]:
        return sorted([*super().list_commands(context), "settings"])

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        return settings_command() if name == "settings" else super().get_command(context, name)


def settings_command() -> click.Command:
    from mta.cli.settings import show_settings

    return show_settings


@click.group(cls=_ShowGroup)
def show() -> None:
    """Show status, queues, virtual MTAs, settings, ..."""


show.add_command(show_license)
show.add_command(show_registration)


@show.command("vmta-settings")
@common_options
@click.argument("vmta")
@click.pass_context
def show_vmta_settings(context: click.Context, vmta: str) -> int:
    """Settings of a virtual MTA or pool itself, with its addresses and DKIM keys."""
    code: int = context.invoke(settings_command(), queue=None, vmta=vmta, source=None, with_all=False)
    return code


@show.command("status")
@common_options
@click.pass_context
def show_status(context: click.Context) -> None:
    """Traffic, connections, queues and spool."""
    call = invocation(context)
    data = call.ask("show.status")
    if call.as_json:
        call.output.json(status_tree(data, this_machine()))
    else:
        print_status(call.output, data)


def _together(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Several options as one decorator; help shows them in this order."""

    def add(function: Command) -> Command:
        for option in reversed(options):
            function = option(function)
        return function

    return add


_OF_QUEUES = _together(
    _MAXITEMS,
    _CONNECTED,
    _ERRORS,
    _PAUSED,
    _MODE,
    _NO_REPLIES,
    _MODE_EVENTS,
    click.argument("queue", required=False),
)
_OF_DOMAINS = _together(_MAXITEMS, _CONNECTED, _ERRORS, _VMTA, click.argument("domain", required=False))


@show.command("queues")
@common_options
@_OF_QUEUES
@_SORT
@click.pass_context
def show_queues(context: click.Context, /, queue: str | None, **chosen: Any) -> None:
    """Queues by name; QUEUE is DOMAIN[/VMTA], * stands for anything."""
    # By name, as PowerMTA does: the workers' own order is by size.
    _queues(context, "show.queues", queue, {**chosen, "sort": chosen["sort"] or "name"}, "Queues")


@show.command("topqueues")
@common_options
@_OF_QUEUES
@click.pass_context
def show_topqueues(context: click.Context, /, queue: str | None, **chosen: Any) -> None:
    """Queues with the most recipients."""
    _queues(context, "show.topqueues", queue, chosen, "Top queues")


def _queues(
    context: click.Context, command: str, queue: str | None, chosen: dict[str, Any], title: str
) -> None:
    call = invocation(context)
    with_replies = not chosen.pop("no_rcpt_events")
    del chosen["mode_events"]
    domain, _, vmta = (queue or "").partition("/")
    data = call.ask(command, domain=domain or None, vmta=vmta or None, **_given(chosen))
    now = SystemClock().wall()
    columns = (
        Column("queue"),
        Column("#rcpt", is_number=True),
        Column("kbytes", is_number=True),
        Column("conn", is_number=True),
        Column("st"),
        Column("retry"),
        Column("last error"),
    )
    rows = (
        (
            row["name"],
            row["rcp"],
            row["kb"],
            row["conn"],
            _state(row),
            in_future(row.get("retryTime", 0), now),
            _last_error(row),
        )
        for row in data["queue"]
    )
    shown = len(data["queue"])
    footer = f"{shown} of {data.get('totalQueues', shown)} queues shown,"
    footer += f" {data.get('totalRcp', 0)} recipients in all."
    if data.get("heldRcp"):
        footer += f" {HELD.format(counted(data['heldRcp'], 'recipient'))} (mta list)."
    call.output.rows(queues_tree(data, title, with_replies=with_replies), columns, rows, footer=footer)
    if not call.as_json and (chosen.get("errors") or queue):
        for row in data["queue"]:
            _print_events(row, with_replies=with_replies)


def _state(row: dict[str, Any]) -> str:
    """PowerMTA's letters: P paused, B backoff, R retry; - for none of them."""
    letters = ("P" if row.get("paused") else "") + ("B" if row.get("mode") == "backoff" else "")
    return letters + ("R" if row.get("state") == "retry" else "") or "-"


def _last_error(row: dict[str, Any]) -> str:
    events = [event for event in row.get("event") or () if event["type"] != "rcpt"]
    return str(events[0]["text"]) if events else str(row.get("reason", ""))


def _print_events(row: dict[str, Any], *, with_replies: bool) -> None:
    click.echo(f"\n{row['name']}: {row.get('reason') or 'sending'}")
    for event in row.get("event") or ():
        if with_replies or event["type"] not in ABOUT_RECIPIENTS:
            click.echo(f"  {moment(event['time'])}  {event['type']}  {event['text']}")


@show.command("domains")
@common_options
@_OF_DOMAINS
@_SORT
@click.pass_context
def show_domains(context: click.Context, /, domain: str | None, **chosen: Any) -> None:
    """Recipient domains by name; DOMAIN may contain *."""
    _domains(context, domain, {**chosen, "sort": chosen["sort"] or "name"}, "Domains")


@show.command("topdomains")
@common_options
@_OF_DOMAINS
@click.pass_context
def show_topdomains(context: click.Context, /, domain: str | None, **chosen: Any) -> None:
    """Recipient domains with the most recipients."""
    _domains(context, domain, chosen, "Top domains")


def _domains(context: click.Context, domain: str | None, chosen: dict[str, Any], title: str) -> None:
    call = invocation(context)
    data = call.ask("show.domains", domain=domain, **_given(chosen))
    columns = (
        Column("domain"),
        Column("#rcpt", is_number=True),
        Column("kbytes", is_number=True),
        Column("conn", is_number=True),
        Column("last error"),
    )
    rows = (
        (row["name"], row["rcp"], row["kb"], row["conn"], row.get("lastError", "")) for row in data["domain"]
    )
    shown = len(data["domain"])
    footer = f"{shown} of {data.get('totalDomains', shown)} domains shown."
    call.output.rows(domains_tree(data, title), columns, rows, footer=footer)


@show.command("jobs")
@common_options
@_MAXITEMS
@_SORT
@click.pass_context
def show_jobs(context: click.Context, /, **chosen: Any) -> None:
    """Jobs with queued recipients, and paused ones."""
    call = invocation(context)
    data = call.ask("show.jobs", **_given(chosen))
    columns = (
        Column("job-id"),
        Column("#rcpt", is_number=True),
        Column("kbytes", is_number=True),
        Column("st"),
        Column("delivered", is_number=True),
        Column("failed", is_number=True),
    )
    rows = (
        (
            row["id"],
            row["rcp"],
            row["kb"],
            "P" if row.get("paused") else "-",
            row.get("delivered", 0),
            row.get("failed", 0),
        )
        for row in data["job"]
    )
    shown = len(data["job"])
    footer = f"{shown} of {data.get('totalJobs', shown)} jobs shown."
    call.output.rows(jobs_tree(data, "Jobs"), columns, rows, footer=footer)


@show.group("disabled", cls=ShortenedGroup)
def show_disabled() -> None:
    """What was taken out of use."""


@show_disabled.command("sources")
@common_options
@click.argument("queue", required=False)
@click.pass_context
def show_disabled_sources(context: click.Context, queue: str | None) -> None:
    """Source addresses that queues may not use; QUEUE is DOMAIN[/VMTA]."""
    call = invocation(context)
    data = call.ask("show.disabledsources", queue=queue)
    now = SystemClock().wall()
    columns = (Column("source"), Column("queue"), Column("enabled again"))
    rows = (
        (row["ip"], row["queue"], in_future(row["until"], now) if row["until"] else "by hand")
        for row in data["source"]
    )
    call.output.rows(data, columns, rows, footer=f"{counted(len(data['source']), 'disabled source')}.")


@show.command("precache")
@common_options
@click.pass_context
def show_precache(context: click.Context) -> None:
    """Domains whose DNS answers are kept fresh."""
    call = invocation(context)
    data = call.ask("show.precache")
    columns = (
        Column("domain"),
        Column("hosts", is_number=True),
        Column("addresses", is_number=True),
        Column("asked at"),
        Column("result"),
    )
    rows = (
        (row["name"], row["hosts"], row["ips"], moment(row["time"]), row["status"]) for row in data["domain"]
    )
    call.output.rows(data, columns, rows, footer=f"{counted(len(data['domain']), 'precached domain')}.")


@show.command("vmtas")
@common_options
@click.option("--maxitems", type=click.IntRange(min=1), help="At most so many.")
@_SORT
@click.pass_context
def show_vmtas(context: click.Context, maxitems: int | None, sort: str | None) -> None:
    """Virtual MTAs and what waits for them."""
    call = invocation(context)
    data = call.ask("show.vmtas", maxitems=maxitems, sort=sort)
    total = data.get("totalRcp", 0)
    # Monitors take the name from the first column and the recipients from the third.
    columns = (
        Column("vmta"),
        Column("domains", is_number=True),
        Column("#rcpt", is_number=True),
        Column("% total", is_number=True),
        Column("kbytes", is_number=True),
        Column("conn", is_number=True),
        Column("sources"),
    )
    rows = (
        (
            row["name"],
            row["dom"],
            row["rcp"],
            f"{100 * row['rcp'] / total if total else 0:.1f}",
            row["kb"],
            row["conn"],
            ", ".join(row.get("sources", ())),
        )
        for row in data["vmta"]
    )
    footer = f"{counted(len(data['vmta']), 'virtual MTA')}, {counted(total, 'recipient')}."
    call.output.rows(vmtas_tree(data, "Virtual MTAs"), columns, rows, footer=footer)


@show.command("version")
@common_options
@click.pass_context
def show_version(context: click.Context) -> None:
    """The version of the running server."""
    call = invocation(context)
    data = call.ask("show.version")
    details = ", ".join(f"{name} {data[name]}" for name in ("python", "revision") if data.get(name))
    call.answer(data, f"{data['name']} {data['version']}" + (f" ({details})" if details else ""))


@show.command("workers")
@common_options
@click.pass_context
def show_workers(context: click.Context) -> None:
    """The processes of the server."""
    call = invocation(context)
    data = call.ask("show.workers")
    now = data.get("timeNow") or SystemClock().wall()
    columns = (
        Column("worker"),
        Column("pid", is_number=True),
        Column("state"),
        Column("uptime", is_number=True),
        Column("restarts", is_number=True),
        Column("cpus"),
        Column("cpu%", is_number=True),
        Column("rss", is_number=True),
        Column("lag ms (p50/p99)", is_number=True),
        Column("queues", is_number=True),
        Column("#rcpt", is_number=True),
        Column("in", is_number=True),
        Column("out", is_number=True),
        Column("domains"),
    )
    rows = (
        (
            row["id"],
            row.get("pid", ""),
            row.get("state", ""),
            ago(now - row["startupTime"]) if row.get("startupTime") else "-",
            row.get("restarts", 0),
            ",".join(map(str, row.get("cpus", ()))),
            round(100 * row["cpuShare"]) if "cpuShare" in row else "-",
            bytes_in_words(row["rss"]) if row.get("rss") else "-",
            f"{1000 * row['lag']:.1f}/{1000 * row['lagP99']:.1f}" if "lagP99" in row else "-",
            row.get("queues", "-"),
            row.get("rcp", "-"),
            row.get("connIn", "-"),
            row.get("connOut", "-"),
            " ".join(row.get("domains", ())),
        )
        for row in data["worker"]
    )
    call.output.rows(data, columns, rows, footer=f"{len(data['worker'])} running.")


def _given(chosen: dict[str, Any]) -> dict[str, Any]:
    """Options that were given: `--errors` says nothing when it is off, `--paused=no` does."""
    return {
        name: value
        for name, value in chosen.items()
        if value is not None and (name, value) != ("errors", False)
    }
