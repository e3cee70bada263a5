"""Commands about the ways of mail: resolve, and source addresses to use or not."""

from __future__ import annotations

import click

from mta.cli.invocation import DRY_RUN, Exit, common_options, invocation
from mta.cli.main import ShortenedGroup
from mta.cli.output import counted, print_dialogue

__all__ = ["disable", "enable", "resolve"]


@click.command()
@common_options
@click.option("--connect", is_flag=True, help="Greet every host and show what was said.")
@click.option("--vmta", help="The virtual MTA whose settings hold.")
@click.option("--source", metavar="[NAME,]IP", default="", help="Connect from this address, by this name.")
@click.option("--server", metavar="IP[:PORT]", help="Ask this name server, not the configured ones.")
@click.option("--tcp", is_flag=True, help="Ask over TCP.")
@click.option("--edns", is_flag=True, help="Accepted; questions are always asked with EDNS first.")
@click.option("--dumppackets", is_flag=True, help="Show every question and answer.")
@click.argument("queue", metavar="DOMAIN[/VMTA]")
@click.pass_context
def resolve(
    context: click.Context,
    queue: str,
    connect: bool,
    vmta: str | None,
    source: str,
    server: str | None,
    tcp: bool,
    edns: bool,
    dumppackets: bool,
) -> int:
    """Show where mail for DOMAIN goes, as the server's own resolver sees it.

    Leaves with 69 when it can go nowhere, or when a host is not ready for mail.
    """
    call = invocation(context)
    host_name, _, source_ip = source.rpartition(",")
    data = call.ask(
        "resolve",
        domain=queue,
        connect=connect or None,
        vmta=vmta,
        sourceIp=source_ip or None,
        hostName=host_name or None,
        server=server,
        tcp=tcp or None,
        dumpPackets=dumppackets or None,
    )
    found = bool(data["route"]) and all(row["result"] == "ready for mail" for row in data.get("connect", ()))
    if call.as_json:
        call.output.json(data)
        return 0 if found else Exit.UNAVAILABLE
    for packet in data.get("packet", ()):
        click.echo(f"{packet}\n")
    domain = queue.partition("/")[0]
    click.echo(f"MX of {domain}: {data['status']}")
    for host in data["host"]:
        click.echo(f"  {host['pref']:>5}  {host['name']}  {', '.join(host['ip']) or '(no address)'}")
    leads_to = data.get("queue", "").partition("/")[0]
    if leads_to and leads_to != domain.lower().rstrip("."):
        click.echo(f"Its mail waits in {data['queue']} (queue-to)")
    if data["routeError"]:
        click.echo(f"No mail can be sent: {data['routeError']}")
    elif data["route"]:
        click.echo("Mail goes to:")
        for target in data["route"]:
            click.echo(f"  {target['host']} ({target['ip']}) port {target['port']}")
    for row in data.get("connect", ()):
        click.echo(f"\n{row['host']} ({row['ip']}) port {row['port']}: {row['result']}")
        print_dialogue(row["lines"])
    return 0 if found else Exit.UNAVAILABLE


@click.group(cls=ShortenedGroup)
def disable() -> None:
    """Take something out of use."""


@disable.command("source")
@common_options
@DRY_RUN
@click.option("--reenable-after", help="Use it again after this time, as 1h30m (default: by hand).")
@click.argument("ip")
@click.argument("queue", default="*/*")
@click.pass_context
def disable_source(
    context: click.Context, ip: str, queue: str, reenable_after: str | None, dry_run: bool
) -> None:
    """Don't send from the local address IP, in the queues that match QUEUE (domain/vmta; default: all)."""
    call = invocation(context)
    data = call.ask(
        "source.disable",
        ip=ip,
        pattern=_pattern(queue),
        reenableAfter=reenable_after,
        dryRun=dry_run or None,
    )
    done = "would be disabled" if dry_run else "disabled"
    call.answer(data, f"Source {ip} {done} for {counted(data['queues'], 'queue')} and those to come.")


@click.group(cls=ShortenedGroup)
def enable() -> None:
    """Use something again."""


@enable.command("source")
@common_options
@DRY_RUN
@click.argument("ip")
@click.argument("queue", default="*/*")
@click.pass_context
def enable_source(context: click.Context, ip: str, queue: str, dry_run: bool) -> None:
    """Send from the local address IP again, whoever disabled it."""
    call = invocation(context)
    data = call.ask("source.enable", ip=ip, pattern=_pattern(queue), dryRun=dry_run or None)
    done = "would be enabled" if dry_run else "enabled"
    call.answer(data, f"Source {ip} {done} for {counted(data['queues'], 'queue')}.")


def _pattern(queue: str) -> str:
    """A domain alone means its queues of all virtual MTAs: an address belongs to one anyway."""
    return queue if "/" in queue else f"{queue}/*"
