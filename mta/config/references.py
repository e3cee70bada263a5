"""Names that refer to something must refer to something: virtual MTAs, pools, lists, sources."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from mta.config.draft import Draft
from mta.config.patterns import AddressPattern
from mta.config.problems import Origin, Problems
from mta.config.settings import Layer
from mta.config.snapshot import DEFAULT_VMTA, Snapshot

__all__ = ["check_references"]

#: Directives whose value is the name of a virtual MTA or a pool.
_TO_VMTA = (
    "default-virtual-mta",
    "invalid-virtual-mta-fallback",
    "backoff-reroute-to-virtual-mta",
    "reroute-to-virtual-mta",
    "cold-virtual-mta",
)

#: A word instead of a name: the virtual MTA that owns the address the client connected to.
BY_SOURCE_IP = "by-smtp-source-ip"


def check_references(snapshot: Snapshot, draft: Draft, problems: Problems) -> None:
    """Report every name that nothing has, with the nearest one that something has."""
    vmtas: set[str] = {*snapshot.vmtas, *snapshot.pools, DEFAULT_VMTA, BY_SOURCE_IP}
    _check_members(snapshot, draft, problems)
    for layer in _layers(draft):
        for name in _TO_VMTA:
            _check(layer, name, vmtas, "virtual MTA or pool", problems)
        _check(layer, "smtp-pattern-list", snapshot.reply_lists, "<smtp-pattern-list>", problems)
        _check(layer, "pattern-list", snapshot.address_lists, "<pattern-list>", problems)
        _check(layer, "rewrite-list", snapshot.rewrite_lists, "<rewrite-list>", problems)
        _check_each(layer, "suppression-lists", snapshot.address_books, "<address-list>", problems)
        _check_group(layer, snapshot.source_groups, problems)
    for entries in snapshot.address_lists.values():
        _check_entries(entries, vmtas, snapshot.address_lists, problems)
    _check_sources(snapshot, problems)


def _layers(draft: Draft) -> Iterator[Layer]:
    for owner in (draft.top, *draft.vmtas.values(), *draft.pools.values()):
        yield owner.layer
        yield from owner.domains.values()
    yield from draft.networks.values()
    yield from draft.named_sources.values()


def _check(layer: Layer, name: str, known: Collection[str], kind: str, problems: Problems) -> None:
    setting = layer.get(name)
    for line in setting.lines if setting is not None else ():
        if line.value:
            _require(line.value, known, f"{name}: ", kind, line.origin, problems)


def _check_each(layer: Layer, name: str, known: Collection[str], kind: str, problems: Problems) -> None:
    setting = layer.get(name)
    for line in setting.lines if setting is not None else ():
        for wanted in line.value:
            _require(wanted, known, f"{name}: ", kind, line.origin, problems)


def _require(
    wanted: Any, known: Collection[str], prefix: str, kind: str, origin: Origin, problems: Problems
) -> None:
    if wanted not in known:
        problems.error(origin, f"{prefix}there is no {kind} {wanted}", _nearest(str(wanted), known))


def _nearest(wanted: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(wanted, list(known), n=1)
    return f"did you mean {close[0]}?" if close else ""


def _check_group(layer: Layer, known: Collection[str], problems: Problems) -> None:
    """A group that nobody wrote limits nothing: legal, but hardly meant."""
    setting = layer.get("source-group")
    for line in setting.lines if setting is not None else ():
        if line.value and line.value not in known:
            text = f"there is no <source-group {line.value}>, so nothing is limited"
            problems.warning(line.origin, text, _nearest(str(line.value), known))


def _check_members(snapshot: Snapshot, draft: Draft, problems: Problems) -> None:
    for pool in draft.pools.values():
        for member, origin in pool.members:
            _require(member, snapshot.vmtas.keys(), f"pool {pool.name}: ", "virtual-mta", origin, problems)
        if not pool.members and pool.origin is not None:
            problems.error(
                pool.origin, f"virtual-mta-pool {pool.name} has no members", "add virtual-mta NAME"
            )


def _check_entries(
    entries: Iterable[AddressPattern], vmtas: Collection[str], lists: Collection[str], problems: Problems
) -> None:
    for entry in entries:
        if entry.vmta:
            _require(entry.vmta, vmtas, "", "virtual MTA or pool", entry.origin, problems)
        if entry.call_to:
            _require(entry.call_to, lists, "", "<pattern-list>", entry.origin, problems)
        _check_entries(entry.nested, vmtas, lists, problems)


def _check_sources(snapshot: Snapshot, problems: Problems) -> None:
    """A listener's or login's source that nobody wrote is legal (it overlays nothing), but hardly meant."""
    for listener in snapshot.listeners:
        if listener.source_name and listener.source_name not in snapshot.named_sources and listener.origin:
            problems.warning(
                listener.origin,
                f"there is no <source {listener.source_name}>, so it changes nothing",
                _nearest(listener.source_name, snapshot.named_sources),
            )
    for user in snapshot.smtp_users.values():
        name, origin = user.settings.text("source"), user.settings.origin("source")
        if origin is not None and name not in snapshot.named_sources:
            problems.warning(origin, f"there is no <source {name}>", _nearest(name, snapshot.named_sources))
