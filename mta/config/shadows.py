"""Lines that are never reached: an earlier one takes all that they would match, or nothing leads there.

These are entries of pattern lists, roll-ups behind others, and settings of queues that no mail enters.
Whether one regex covers another can't be decided in general at a reasonable price. What is found here is what
happens: the same regex twice, a catch-all with lines behind it, and a plain text that is part of a later one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from mta.config.kinds import Scope
from mta.config.patterns import BouncePattern, ReplyPattern
from mta.config.problems import Origin, Problem, Severity
from mta.config.rollups import Rollup
from mta.config.snapshot import Snapshot

__all__ = [
    "hidden_patterns",
    "hidden_rollups",
    "queues_without_entrance",
    "rollups_without_way",
    "unreachable",
]

#: What may stand in a regex that is nothing but a text; escaped characters were replaced before.
_PLAIN = re.compile(r"[^\\.^$*+?{}\[\]|()]*")
_ESCAPED = re.compile(r"\\([^A-Za-z0-9])")
#: Names that nobody's mail has by itself.
QUEUE_ENDINGS = (".rollup", ".queue")
_CATCH_ALL = frozenset({"", ".*", ".", "^", "^.*$", ".+"})


def unreachable(snapshot: Snapshot) -> Iterator[Problem]:
    """All of them."""
    for check in (hidden_patterns, hidden_rollups, rollups_without_way, queues_without_entrance):
        yield from check(snapshot)


def hidden_patterns(snapshot: Snapshot) -> Iterator[Problem]:
    """Entries of reply lists, bounce categories and pattern lists that an earlier entry hides."""
    for entries in snapshot.reply_lists.values():
        for stage in ("reply", "connect"):
            yield from hidden([(e.regex.source, e.origin) for e in entries if is_of(e, stage)])
    yield from hidden([source_of(entry) for entry in snapshot.categories])
    for choices in snapshot.address_lists.values():
        kinds: dict[tuple[str, str], list[tuple[str, Origin]]] = {}
        for choice in choices:
            # The first that matches chooses the virtual MTA; priorities and other lists are looked for apart.
            if choice.vmta and choice.priority is None:
                kind = kinds.setdefault((choice.kind, choice.header), [])
                kind.append((choice.regex.source, choice.origin))
        for entries_of_kind in kinds.values():
            yield from hidden(entries_of_kind)


def hidden_rollups(snapshot: Snapshot) -> Iterator[Problem]:
    """Roll-ups whose domains all belong to another one that is asked first."""
    for place, rollup in enumerate(snapshot.rollups):
        first = next((other for other in snapshot.rollups[:place] if takes_all_of(other, rollup)), None)
        if first is not None:
            where = f"{first.name} in line {first.origin.line} of {first.origin.file.name}"
            yield warning(rollup.origin, f"{rollup.name} is never reached: {where} matches first", "")


def takes_all_of(first: Rollup, second: Rollup) -> bool:
    """Whether every domain of the second roll-up is one of the first as well."""
    if bool(first.hosts) != bool(second.hosts):
        return False
    if first.hosts:
        return set(first.hosts) <= set(second.hosts)
    return all(any(wide.covers(narrow) for wide in first.patterns) for narrow in second.patterns)


def queues_without_entrance(snapshot: Snapshot) -> Iterator[Problem]:
    """`<domain x.rollup>` without an `mx` line that leads there, `<domain x.queue>` without a `queue-to`."""
    entered = {rollup.name for rollup in snapshot.rollups}
    entered.update(
        line.value.strip('"').lower() for line in snapshot.written if line.directive.name == "queue-to"
    )
    told: set[str] = set()
    for line in snapshot.written:
        name = line.origin.block.rpartition("domain ")[2].strip('"').lower()
        if line.scope is Scope.DOMAIN and name.endswith(QUEUE_ENDINGS) and name not in entered | told:
            told.add(name)
            what = "mx line" if name.endswith(".rollup") else "queue-to"
            yield warning(line.origin, f"<domain {name}>: no {what} leads mail there", "")


def rollups_without_way(snapshot: Snapshot) -> Iterator[Problem]:
    """Roll-ups by pattern whose queue would not know where to deliver: they roll nothing up."""
    for rollup in snapshot.rollups:
        if not rollup.hosts and not rollup.is_by_ip and not has_hosts(snapshot, rollup):
            yield warning(
                rollup.origin,
                f"{rollup.name} has no hosts: nothing is rolled up",
                f"write smtp-hosts in <domain {rollup.name}>, or rollup-by-ip",
            )


def hidden(entries: list[tuple[str, Origin]]) -> Iterator[Problem]:
    """The entries that an earlier one of the list hides."""
    seen: dict[str, Origin] = {}
    plain: list[tuple[str, Origin]] = []
    catch_all: Origin | None = None
    for source, origin in entries:
        low = source.lower()
        text = plain_text(low)
        by = catch_all or seen.get(low)
        if by is None and text is not None:
            by = next((other for part, other in plain if part in text), None)
        if by is not None:
            yield warning(
                origin, f"/{source}/ is never reached: line {by.line} of {by.file.name} matches first", ""
            )
            continue
        seen[low] = origin
        if low in _CATCH_ALL:
            catch_all = origin
        elif text:
            plain.append((text, origin))


def plain_text(source: str) -> str | None:
    """The text that a regex stands for when it is nothing but that."""
    text = _ESCAPED.sub("\0", source)
    if not _PLAIN.fullmatch(text):
        return None
    return _ESCAPED.sub(r"\1", source)


def is_of(entry: ReplyPattern, stage: str) -> bool:
    return entry.stage == stage


def source_of(entry: BouncePattern) -> tuple[str, Origin]:
    return entry.regex, entry.origin


def has_hosts(snapshot: Snapshot, rollup: Rollup) -> bool:
    """Whether any virtual MTA has smtp-hosts for the roll-up's queue."""
    names = ("{default}", *snapshot.vmtas)
    return any(snapshot.effective(rollup.name, name).text("smtp-hosts") for name in names)


def warning(origin: Origin, text: str, hint: str) -> Problem:
    return Problem(origin.file, origin.line, Severity.WARNING, text, hint)
