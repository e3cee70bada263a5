"""Lines of pattern lists that are never reached: an earlier line takes everything that they would match.

Whether one regex covers another can't be decided in general at a reasonable price. What is found here is what
happens: the same regex twice, a catch-all with lines behind it, and a plain text that is part of a later one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from mta.config.patterns import BouncePattern, ReplyPattern
from mta.config.problems import Origin, Problem, Severity
from mta.config.rollups import Rollup
from mta.config.snapshot import Snapshot

__all__ = ["hidden_patterns", "rollups_without_way"]

#: What may stand in a regex that is nothing but a text; escaped characters were replaced before.
_PLAIN = re.compile(r"[^\\.^$*+?{}\[\]|()]*")
_ESCAPED = re.compile(r"\\([^A-Za-z0-9])")
_CATCH_ALL = frozenset({"", ".*", ".", "^", "^.*$", ".+"})


def hidden_patterns(snapshot: Snapshot) -> Iterator[Problem]:
    """Entries of reply lists and bounce categories that an earlier entry hides."""
    for entries in snapshot.reply_lists.values():
        for stage in ("reply", "connect"):
            yield from hidden([(e.regex.source, e.origin) for e in entries if is_of(e, stage)])
    yield from hidden([source_of(entry) for entry in snapshot.categories])


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
