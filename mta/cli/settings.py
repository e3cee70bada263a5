"""`mta show settings [DOMAIN[/VMTA]]`: every directive in force, and where each value comes from.

It reads the configuration files, not the server: what it prints holds after the next reload.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import click

from mta.cli.check import as_data
from mta.cli.invocation import Exit, Invocation, common_options, invocation
from mta.cli.output import Column
from mta.config.directives import TABLE, Directive
from mta.config.domainpattern import normal_domain
from mta.config.kinds import Kind, Status
from mta.config.settings import InForce, Settings
from mta.config.snapshot import DEFAULT_VMTA, Snapshot
from mta.errors import ConfigError

__all__ = ["show_settings"]


@click.command("settings")
@common_options
@click.option("--all", "with_all", is_flag=True, help="Also defaults, and directives without effect.")
@click.option("--vmta", help="Settings of this virtual MTA or pool itself.")
@click.option("--source", help="Settings for clients at this address (ADDRESS, NAME or ADDRESS/NAME).")
@click.argument("queue", required=False)
@click.pass_context
def show_settings(
    context: click.Context, queue: str | None, vmta: str | None, source: str | None, with_all: bool
) -> int:
    """Show what holds for QUEUE (DOMAIN[/VMTA]), a virtual MTA, a client, or at top level.

    Each value stands beside the file and line it comes from, and the blocks around that line.
    """
    call = invocation(context)
    if sum(given is not None for given in (queue, vmta, source)) > 1:
        raise click.UsageError("give one of QUEUE, --vmta and --source", context)
    snapshot = _snapshot(call)
    if snapshot is None:
        return Exit.CONFIG
    title, settings = _chosen(snapshot, queue, vmta, source)
    rows = [*_shown(settings, with_all=with_all), *_attached(snapshot, queue, vmta, source)]
    if call.as_json:
        call.output.json({"of": title, "settings": [_as_data(row) for row in rows]})
    else:
        columns = (Column("directive"), Column("value"), Column("from"))
        table = [(row.name, row.text, _origin(row)) for row in rows]
        call.output.table(columns, table, footer=f"{len(table)} settings of {title}.")
    return 0


def _snapshot(call: Invocation) -> Snapshot | None:
    """The configuration, or None after its errors were printed."""
    loaded = call.load()
    if loaded.snapshot is None:
        if call.as_json:
            data = {"problems": [as_data(problem) for problem in loaded.problems]}
            call.output.json(data, message="The configuration has errors.", is_success=False)
        else:
            for problem in loaded.errors:
                click.echo(str(problem), err=True)
    return loaded.snapshot


def _chosen(
    snapshot: Snapshot, queue: str | None, vmta: str | None, source: str | None
) -> tuple[str, Settings]:
    if queue is not None:
        domain, _, member = queue.partition("/")
        member = member or DEFAULT_VMTA
        if member not in snapshot.vmtas:
            raise ConfigError(f"there is no virtual-mta {member}{_pool_hint(snapshot, member)}")
        return f"{normal_domain(domain)}/{member}", snapshot.effective(domain, member)
    if vmta is not None:
        if vmta in snapshot.vmtas:
            return f"virtual-mta {vmta}", snapshot.vmtas[vmta].settings
        if vmta in snapshot.pools:
            return f"virtual-mta-pool {vmta}", snapshot.pools[vmta].settings
        raise ConfigError(f"there is no virtual-mta or virtual-mta-pool {vmta}")
    if source is not None:
        return f"source {source}", _client(snapshot, source)
    return "the top level", snapshot.top


def _client(snapshot: Snapshot, source: str) -> Settings:
    if source in snapshot.named_sources:
        return snapshot.source("", source)
    address, _, name = source.partition("/")
    if name and name not in snapshot.named_sources:
        raise ConfigError(f"there is no <source {name}>")
    try:
        return snapshot.source(address, name)
    except ValueError:
        raise ConfigError(f"{address!r} is neither an IP address nor the name of a <source>") from None


def _pool_hint(snapshot: Snapshot, name: str) -> str:
    if name not in snapshot.pools:
        return ""
    return f"; it is a pool, whose members are {', '.join(snapshot.pools[name].members)}"


def _shown(settings: Settings, *, with_all: bool) -> Iterator[InForce]:
    for row in settings.in_force():
        directive = TABLE.find(settings.scope, row.name)
        if row.name == "include":
            continue
        if row.origin is None and _is_kept_elsewhere(directive):
            continue
        has_effect = directive is None or directive.status is not Status.NO_EFFECT
        if with_all or row.origin is not None or has_effect:
            yield row


def _is_kept_elsewhere(directive: Directive | None) -> bool:
    """Keys, macros, spools and the like are lists of their own; an empty row would deny them."""
    return directive is not None and (directive.kind is Kind.ENTRY or directive.name == "spool")


def _attached(
    snapshot: Snapshot, queue: str | None, vmta: str | None, source: str | None
) -> Iterable[InForce]:
    """DKIM keys, in the order in which they are searched: they belong to virtual MTAs, not to settings."""
    if source is not None:
        return ()
    member = (queue or "").partition("/")[2] or vmta or DEFAULT_VMTA
    if member not in snapshot.vmtas:
        return ()
    return [
        InForce("domain-key", f"{key.selector},{key.domain},{key.path}", key.origin)
        for key in snapshot.domain_keys(member)
    ]


def _origin(row: InForce) -> str:
    if row.origin is None:
        return "default"
    return f"{row.origin} ({row.origin.block})" if row.origin.block else str(row.origin)


def _as_data(row: InForce) -> dict[str, Any]:
    origin = row.origin
    return {
        "name": row.name,
        "value": row.text,
        "file": str(origin.file) if origin else "",
        "line": origin.line if origin else 0,
        "block": origin.block if origin else "",
        "isDefault": origin is None,
    }
