"""What a configuration does to a message between the choice of its virtual MTA and the spool.

In PowerMTA's order: a share for cold virtual MTAs, aliases, `reroute-to-virtual-mta`; then copies (bcc), the
rewriting of senders, VERP, and the header lines of `include-headers-from`. Recipients may end up at several
virtual MTAs: the message is then stored once for each of them (`Portion`).

Most mail needs none of it; `Acceptance` comes here only where `is_needed` or the source's policy says so.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import msgspec

from mta.config.addressing import RewriteList
from mta.config.snapshot import Snapshot
from mta.ingress.aliases import AliasTable
from mta.ingress.relaying import SourcePolicy
from mta.ingress.selection import Choice, Selection
from mta.ingress.submission import Submission, Wish
from mta.message.envelope import Notify, Personal, Recipient
from mta.message.fromline import rewrite_from
from mta.message.headers import fields
from mta.message.personal import return_path
from mta.message.schedule import Windows
from mta.smtp.reply import Reply

__all__ = ["ColdShare", "Portion", "Treatment"]

log = logging.getLogger(__name__)

_COLD = ("cold-virtual-mta", "auto-cold-virtual-mta")
#: Lines that concern mail of every source.
_FOR_ALL = frozenset({"alias", *_COLD, "reroute-to-virtual-mta", "include-headers-from", "rewrite-list"})
#: What recipients must share to be stored as one message: virtual MTA, job, schedule.
_Place = tuple[str, str, Windows]
#: Virtual MTAs that may send mail on to one another.
_REROUTES = 8
#: Octets of a file of header lines.
_HEADER_FILE_LIMIT = 64 * 1024


class ColdShare(Protocol):
    """`mta.ingress.cold.ColdQuota`."""

    def choose(self, warm: str, colds: Sequence[str], domain: str, limits: Sequence[int]) -> str: ...


@dataclass(slots=True)
class Portion:
    """The recipients of a message that one virtual MTA serves, under one job and schedule."""

    choice: Choice
    job_id: str
    originator: str
    schedule: Windows = ()
    recipients: list[Recipient] = field(default_factory=list)


class Treatment:
    """The treatment that one configuration gives. Reads files of header lines, once."""

    def __init__(self, snapshot: Snapshot, selection: Selection, cold: ColdShare | None = None) -> None:
        self._snapshot = snapshot
        self._selection = selection
        self._cold = cold
        self._aliases = AliasTable(snapshot.aliases, snapshot.top.texts("host-name"))
        self._colds = {
            name: colds
            for name, vmta in snapshot.vmtas.items()
            if (colds := tuple(vmta.settings.texts("cold-virtual-mta")))
        }
        self.is_needed = any(line.directive.name in _FOR_ALL for line in snapshot.written)
        self._headers: dict[str, bytes] = {}

    def divide(self, submission: Submission, choice: Choice) -> list[Portion] | Reply:
        """The portions of a message; a Reply when a virtual MTA that it names does not exist."""
        policy = submission.source
        named: dict[str, Choice] = {}
        portions: dict[_Place, Portion] = {}
        wishes: Iterable[Wish] = submission.wishes or [Wish()] * len(submission.recipients)
        for (address, notify, orcpt), wish in zip(submission.recipients, wishes, strict=True):
            mine = choice
            if wish.vmta:
                found = named.get(wish.vmta) or self._selection.named(wish.vmta, policy)
                if isinstance(found, Reply):
                    return found
                mine = named[wish.vmta] = found
            if submission.source_type == "smtp":
                mine = self._cooled(mine, address)
            for target in self._aliases.expand(address):
                origin = orcpt if target == address or orcpt else f"rfc822;{address}"
                self._add(submission, portions, mine, wish, target, notify, origin)
        if policy.bcc:
            # Nobody hears of a copy, whatever becomes of it.
            wish = submission.wishes[0] if submission.wishes else Wish()
            self._add(submission, portions, choice, wish, policy.bcc, int(Notify.NEVER), "")
        for address, notify, orcpt, queue in submission.condemned:
            portion = self._portion(submission, portions, choice, Wish())
            portion.recipients.append(Recipient(address, queue, notify, orcpt))
        return list(portions.values())

    def header_lines(self, vmta: str, pool: str) -> bytes:
        """What `include-headers-from` puts behind our Received line."""
        found = self._headers.get(vmta)
        if found is None:
            found = self._headers[vmta] = self._read_headers(vmta, pool)
        return found

    def rewritten(self, block: bytes, policy: SourcePolicy, vmta: str) -> bytes:
        """The header block with the domain of its From line as the rewrite lists want it."""
        for rules in self._lists(policy, vmta):
            if rules.domains:
                block = rewrite_from(block, rules.domains)
        return block

    # ---- inside

    def _cooled(self, choice: Choice, address: str) -> Choice:
        """The cold virtual MTA that gets this one, if one is due."""
        colds = self._colds.get(choice.vmta)
        if colds is None or self._cold is None:
            return choice
        domain = self._selection.queue_domain(address, choice.vmta)
        limits = self._snapshot.effective(domain, choice.vmta).daily("max-cold-virtual-mta-msg")
        name = self._cold.choose(choice.vmta, colds, domain, limits)
        if not name:
            return choice
        found = self._selection.find(name)
        return choice if found is None else found

    def _rerouted(self, choice: Choice, address: str) -> Choice:
        seen = {choice.vmta}
        for _ in range(_REROUTES):
            domain = self._selection.queue_domain(address, choice.vmta)
            name = self._snapshot.effective(domain, choice.vmta).text("reroute-to-virtual-mta")
            found = self._selection.find(name) if name else None
            if found is None or found.vmta in seen:
                return choice
            seen.add(found.vmta)
            choice = found
        return choice

    def _add(
        self,
        submission: Submission,
        portions: dict[_Place, Portion],
        choice: Choice,
        wish: Wish,
        address: str,
        notify: int,
        orcpt: str,
    ) -> None:
        choice = self._rerouted(choice, address)
        portion = self._portion(submission, portions, choice, wish)
        personal = wish.personal
        originator = portion.originator
        if personal is not None and personal.originator is not None:
            originator = self._sender(personal.originator, submission.source, choice.vmta)
        if submission.source.verp_default or submission.wants_verp:
            originator = return_path(originator, address) or originator
        if originator != portion.originator:
            personal = msgspec.structs.replace(personal or Personal(), originator=originator)
        elif personal is not None and personal.originator is not None:
            personal = msgspec.structs.replace(personal, originator=None)
        queue = self._selection.queue_domain(address, choice.vmta)
        portion.recipients.append(Recipient(address, queue, notify, orcpt, personal))

    def _portion(
        self, submission: Submission, portions: dict[_Place, Portion], choice: Choice, wish: Wish
    ) -> Portion:
        place = choice.vmta, wish.job_id, wish.schedule
        found = portions.get(place)
        if found is None:
            originator = self._sender(submission.originator, submission.source, choice.vmta)
            found = portions[place] = Portion(choice, wish.job_id, originator, wish.schedule)
        return found

    def _sender(self, originator: str, policy: SourcePolicy, vmta: str) -> str:
        """The return path as the rewrite lists want it."""
        for rules in self._lists(policy, vmta):
            for rule in rules.senders:
                changed = rule.apply(originator)
                if changed is not None:
                    originator = changed
                    break
        return originator

    def _lists(self, policy: SourcePolicy, vmta: str) -> list[RewriteList]:
        """The source's list, then the virtual MTA's (or its pool's)."""
        member = self._snapshot.vmtas.get(vmta)
        names = [policy.rewrite_list]
        if member is not None:
            pool = self._snapshot.pools.get(member.pool)
            inherited = pool.settings.text("rewrite-list") if pool is not None else ""
            names.append(member.settings.text("rewrite-list") or inherited)
        lists = self._snapshot.rewrite_lists
        return [lists[name] for name in dict.fromkeys(names) if name in lists]

    def _read_headers(self, vmta: str, pool: str) -> bytes:
        snapshot = self._snapshot
        member = snapshot.vmtas.get(vmta)
        layers = [snapshot.top]
        home = snapshot.pools.get((member.pool if member is not None else "") or pool)
        if home is not None:
            layers.append(home.settings)
        if member is not None:
            layers.append(member.settings)
        paths = dict.fromkeys(path for layer in layers if (path := layer.path("include-headers-from")))
        return b"".join([_header_file(path) for path in paths])


def _header_file(path: Path) -> bytes:
    """The lines of a file in wire form; none when they are no header lines (reported)."""
    try:
        with path.open("rb") as file:
            text = file.read(_HEADER_FILE_LIMIT + 1)
    except OSError as error:
        log.error("include-headers-from %s: %s", path, error.strerror)
        return b""
    lines = [line for line in text.replace(b"\r", b"").split(b"\n") if line.strip()]
    block = b"".join([line + b"\r\n" for line in lines])
    if len(text) > _HEADER_FILE_LIMIT or any(not found.name for found in fields(block)):
        log.error("include-headers-from %s: not a list of header lines, left out", path)
        return b""
    return block
