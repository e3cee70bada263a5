"""What a working configuration may still do to its operator: lines without effect, and dangerous settings.

Nearly everything here is a warning; errors are found while the configuration is built. `lint` looks at a
finished snapshot and at the machine it is to run on; each check is a function that yields problems, in the
order of `CHECKS`. Lines that mean nothing yet are reported where they stand: nobody shall believe in a limit
that is not there. (The builder itself warns about names that it reads as something else.)
"""

from __future__ import annotations

import os
import pwd
import resource
import shutil
import socket
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from mta.config.blocks import BLOCKS
from mta.config.directives import TABLE
from mta.config.exposed import open_secrets
from mta.config.kinds import Kind, Scope, Status
from mta.config.networks import parse_address, parse_network
from mta.config.problems import Origin, Problem, Severity
from mta.config.recording import missing_programs, silent_records
from mta.config.shadows import unreachable
from mta.config.snapshot import DEFAULT_VMTA, Snapshot, Written
from mta.config.units import FALSE_WORDS, TRUE_WORDS, parse_interval, parse_intervals

__all__ = ["Machine", "lint", "silent_lines"]

#: A domain that no `<domain>` block names (reserved by RFC 2606), so that only `<domain *>` applies to it.
UNLISTED = "unlisted.invalid"

#: Addresses that stand for "anybody on the Internet" (RFC 5737, RFC 3849).
ANYBODY = ("203.0.113.113", "2001:db8::113")

#: What one connection needs besides its share of the code: socket buffers, TLS state, the message in hand.
BYTES_PER_CONNECTION = 256 * 1024

#: Files that are open whatever the traffic: spool segments, logs, pipes, DNS sockets.
SPARE_FILES = 200

#: Receivers answer 4xx to make us wait; coming back within a minute looks like an attack.
SHORTEST_FIRST_RETRY = 60.0

#: Blocks that the builder reports as a whole.
_SILENT_SCOPES = frozenset(form.scope for form in BLOCKS if form.status is Status.NO_EFFECT)

#: Whom a server started by root becomes when nobody is named.
DEFAULT_USER = "mta"

#: What a `type` other than smtp can't do without.
_OTHER_HALF = MappingProxyType(
    {"file": "file-destination", "pipe": "command", "http-delivery": "http-delivery-url"}
)

#: Endings that the world can't resolve, so that a receiver would take the name for a lie.
PRIVATE_SUFFIXES = (".local", ".localdomain", ".localhost", ".lan", ".internal", ".home", ".corp", ".arpa")


@dataclass(frozen=True, slots=True)
class Machine:
    """What the configuration is checked against; `file_limit` and `memory` (bytes) are 0 when not known."""

    file_limit: int = 0
    memory: int = 0
    is_root: bool = False
    has_address: Callable[[str], bool] = lambda _ip: True
    has_user: Callable[[str], bool] = lambda _name: True
    is_open_to_all: Callable[[Path], bool] = lambda _file: False
    has_program: Callable[[str], bool] = lambda _name: True

    @classmethod
    def here(cls) -> Machine:
        """This machine, as this process may use it."""
        _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        pages = os.sysconf("SC_PHYS_PAGES") if "SC_PHYS_PAGES" in os.sysconf_names else 0
        page = os.sysconf("SC_PAGE_SIZE") if "SC_PAGE_SIZE" in os.sysconf_names else 0
        return cls(
            file_limit=0 if hard == resource.RLIM_INFINITY else hard,
            memory=pages * page,
            is_root=os.geteuid() == 0,
            has_address=_is_local,
            has_user=_is_user,
            is_open_to_all=_is_world_readable,
            has_program=lambda name: shutil.which(name) is not None,
        )


def lint(snapshot: Snapshot, machine: Machine) -> tuple[Problem, ...]:
    """Every warning, in file order; never raises."""
    found = dict.fromkeys(problem for check in CHECKS for problem in check(snapshot, machine))
    rank = {file: index for index, file in enumerate(snapshot.files)}
    return tuple(sorted(found, key=lambda problem: (rank.get(problem.file, len(rank)), problem.line)))


def without_effect(snapshot: Snapshot, _machine: Machine) -> Iterator[Problem]:
    """Lines that nothing reads, and those that only this server understands."""
    for line in snapshot.written:
        row = line.directive
        if line.scope in _SILENT_SCOPES:
            continue  # the tag around it was reported
        if row.status is Status.NO_EFFECT or _target_has_no_effect(line):
            yield _at(line.origin, f"{line.name} has no effect yet", row.hint)
        elif row.status is Status.OBSOLETE and not _is_no(line):
            yield _at(line.origin, f"{line.name} is obsolete and not obeyed: {row.doc.rstrip('.')}", row.hint)
        elif row.status is Status.EXTENSION and row.hint and not row.alias_of:
            yield _at(line.origin, f"{line.name} is an extension of this server", row.hint)


def silent_lines(snapshot: Snapshot) -> int:
    """How many lines nothing reads yet; `mta check` names them."""
    return sum(
        1
        for line in snapshot.written
        if line.directive.status is Status.NO_EFFECT and line.scope not in _SILENT_SCOPES
    )


def no_domain_for_all(snapshot: Snapshot, _machine: Machine) -> Iterator[Problem]:
    """Without `<domain *>` every domain that is not listed runs on defaults that nobody chose."""
    covered = snapshot.rules.domains.matching(UNLISTED)
    for name, vmta in snapshot.vmtas.items():
        rules = [snapshot.vmta_rules[name]] if name in snapshot.vmta_rules else []
        rules += [snapshot.pool_rules[vmta.pool]] if vmta.pool else []
        if name != DEFAULT_VMTA and any(rule.domains.matching(UNLISTED) for rule in rules):
            covered = [*covered, {}]
    if not covered:
        yield _whole(
            snapshot,
            "there is no <domain *>: domains without a block of their own get built-in limits",
            "write a <domain *> with max-smtp-out, max-msg-per-connection and retry-after",
        )


def endless_connections(snapshot: Snapshot, _machine: Machine) -> Iterator[Problem]:
    """A connection that is never closed pins a queue to one host and trips the receivers' own limits."""
    hint = "20 to 100 suits most receivers"
    settings = snapshot.effective(UNLISTED, DEFAULT_VMTA)
    if not settings.integer("max-msg-per-connection") and not settings.is_set("max-msg-per-connection"):
        text = "max-msg-per-connection is 0 by default: a connection is used for any number of messages"
        yield _at(_place_of_default(snapshot), text, hint)
    for line in _lines(snapshot, "max-msg-per-connection"):
        if _number(line) == 0:
            yield _at(line.origin, "max-msg-per-connection 0: a connection is used without end", hint)


def too_many_connections(snapshot: Snapshot, machine: Machine) -> Iterator[Problem]:
    """More connections than the machine has files or memory for fail at the worst moment."""
    total = snapshot.top.integer("total-max-smtp-out")
    place = snapshot.top.origin("total-max-smtp-out") or _place_of_default(snapshot)
    if total == 0:
        yield _at(place, "total-max-smtp-out is unlimited", "a number below 7500 is wise")
    inbound = snapshot.top.integer("total-max-smtp-in")
    if snapshot.top.boolean("smtp-await-slot"):
        inbound *= 2  # as many may wait as may be in
    needed = total + inbound + SPARE_FILES
    if machine.file_limit and needed > machine.file_limit:
        yield _at(
            place,
            f"total-max-smtp-out and total-max-smtp-in need about {needed} open files, "
            f"and this machine allows {machine.file_limit}",
            "raise LimitNOFILE (ulimit -n) or lower the limits",
        )
    memory = needed * BYTES_PER_CONNECTION
    if machine.memory and memory > machine.memory // 2:
        yield _at(
            place,
            f"{needed} connections may need {memory >> 20} MB, and this machine has {machine.memory >> 20}",
            "lower total-max-smtp-out",
        )
    for line in _lines(snapshot, "max-smtp-out"):
        wanted = _number(line)
        if total and wanted is not None and wanted > total:
            yield _at(
                line.origin,
                f"max-smtp-out {wanted} is more than total-max-smtp-out {total} allows for the whole server",
            )


def hasty_retries(snapshot: Snapshot, _machine: Machine) -> Iterator[Problem]:
    """A first retry within a minute."""
    for name in ("retry-after", "retry-recipients-after", "backoff-retry-after", "initial-pts"):
        for line in _lines(snapshot, name):
            first = _first_wait(line)
            if first is not None and first < SHORTEST_FIRST_RETRY:
                yield _at(
                    line.origin,
                    f"{line.name} {line.value}: the first retry comes after {first:g} s",
                    "receivers take less than 60s for an attack; 10m is usual",
                )


def root_without_user(snapshot: Snapshot, machine: Machine) -> Iterator[Problem]:
    """Root is needed for low ports only; staying root turns every bug into the whole machine's."""
    top = snapshot.top
    hint = "write process-user NAME"
    if top.boolean("run-as-root") and not top.text("process-user"):
        place = top.origin("run-as-root") or _place_of_default(snapshot)
        yield _at(place, "run-as-root yes: a server started by root would stay root", hint)
    elif machine.is_root:
        user = top.text("process-user") or DEFAULT_USER
        if not machine.has_user(user):
            place = top.origin("process-user") or _place_of_default(snapshot)
            text = f"this machine has no user {user} that a server started by root could become"
            yield _at(place, text, f"useradd --system {user}, or {hint}")


def open_relay(snapshot: Snapshot, _machine: Machine) -> Iterator[Problem]:
    """Anybody on the Internet may send anywhere."""
    named = {listener.source_name for listener in snapshot.listeners} | {""}
    for ip in ANYBODY:
        for name in sorted(named):
            settings = snapshot.source(ip, name)
            if settings.boolean("always-allow-relaying") and not settings.boolean("require-auth"):
                yield _at(
                    settings.origin("always-allow-relaying") or _place_of_default(snapshot),
                    "always-allow-relaying is in force for every address on the Internet: an open relay",
                    "name your own networks in <source>, or add require-auth yes",
                )


def open_monitor(snapshot: Snapshot, _machine: Machine) -> Iterator[Problem]:
    """The monitor's pages, open to everybody."""
    for line in snapshot.written:
        if line.scope is not Scope.GLOBAL or line.directive.name not in ("http-access", "http-mgmt-source"):
            continue
        words = line.value.replace(",", " ").split()
        right = words[1].lower() if len(words) > 1 else "admin"
        if words and right != "none" and _is_everybody(words[0]):
            yield _at(
                line.origin,
                f"{line.name} {line.value}: anybody who reaches the monitor has the right {right}",
                "name the networks of your operators",
            )


def unsigned_mail(snapshot: Snapshot, _machine: Machine) -> Iterator[Problem]:
    """Large receivers refuse bulk mail without DKIM."""
    names = [name for name in snapshot.vmtas if name != DEFAULT_VMTA] or [DEFAULT_VMTA]
    keyless = [name for name in names if not snapshot.domain_keys(name)]
    if len(keyless) == len(names):
        text = "there is no domain-key: mail goes out without a DKIM signature"
        yield _whole(snapshot, text, "make a key with: mta dkim keygen")
        return
    for name in keyless:
        yield _at(
            _origin_of_block(snapshot, f"virtual-mta {name}"),
            f"virtual MTA {name} has no domain-key: its mail goes out without a DKIM signature",
            "write a domain-key outside the blocks, or in this one",
        )


def idle_keys(snapshot: Snapshot, _machine: Machine) -> Iterator[Problem]:
    """Keys that sign nothing, because signing is off by default, as in PowerMTA."""
    names = [name for name in snapshot.vmtas if snapshot.domain_keys(name)]
    if names and not any(_may_sign(snapshot, name) for name in names):
        place = snapshot.domain_keys(names[0])[0].origin
        yield _at(place, "there is a domain-key, but nothing is signed", "write dkim-sign yes in <domain *>")


def nobody_may_send(snapshot: Snapshot, _machine: Machine) -> Iterator[Problem]:
    """A server that refuses every recipient, or asks for logins that don't exist."""
    lines = [line for line in snapshot.written if line.scope is Scope.SOURCE]
    relaying = [
        line for line in lines if "always-allow-relaying" in (line.directive.name, line.directive.alias_of)
    ]
    if not any(_is_yes(line) for line in relaying) and not _relays_for_somebody(snapshot):
        text = "no <source> has always-allow-relaying yes: every recipient elsewhere is refused"
        yield _whole(snapshot, text, "name the networks of your applications: <source 127/8>")
    if not any(user.settings.text("password") for user in snapshot.smtp_users.values()):
        for line in lines:
            if line.directive.name == "require-auth" and _is_yes(line):
                yield _at(line.origin, "require-auth yes, but there is no <smtp-user> with a password")


def lives_too_short(snapshot: Snapshot, _machine: Machine) -> Iterator[Problem]:
    """Mail that expires before it is tried a second time."""
    for line in _lines(snapshot, "bounce-after"):
        age = _first_wait(line)
        if age is None:
            continue
        domain = line.origin.block.rpartition("domain ")[2].removeprefix("[*.]").removeprefix("*.")
        waits = snapshot.effective(domain if domain not in ("", "*") else UNLISTED, DEFAULT_VMTA)
        first = waits.intervals("retry-after")[:1]
        if first and age <= first[0]:
            text = f"bounce-after {line.value}: mail expires before its first retry after {first[0]:g} s"
            yield _at(line.origin, text, "a few days are usual")


def nothing_kept(snapshot: Snapshot, _machine: Machine) -> Iterator[Problem]:
    """No place for mail (the server would not start), or none for what became of it."""
    if not snapshot.spools:
        origin = _place_of_default(snapshot)
        text = "there is no <spool>: the server has nowhere to keep mail"
        yield Problem(origin.file, origin.line, Severity.ERROR, text, "add <spool /var/spool/mta>")
    if not snapshot.acct_files:
        text = "there is no <acct-file>: nobody will know what became of the mail"
        yield _whole(snapshot, text, "add <acct-file /var/log/mta/acct.csv>")


def readable_secrets(snapshot: Snapshot, machine: Machine) -> Iterator[Problem]:
    """Passwords and private keys that every user of the machine can read."""
    yield from open_secrets(snapshot, machine.is_open_to_all)


def records_that_stay_away(snapshot: Snapshot, machine: Machine) -> Iterator[Problem]:
    """Accounting that is asked for and will not come."""
    yield from silent_records(snapshot)
    yield from missing_programs(snapshot, machine.has_program)


def doubtful_names(snapshot: Snapshot, _machine: Machine) -> Iterator[Problem]:
    """EHLO names that a receiver can't look up."""
    hint = "receivers look the name up and compare it with the address"
    for line in snapshot.written:
        name = _spoken_name(line)
        if name and (why := _why_doubtful(name)):
            yield _at(line.origin, f"host name {name}: {why}", hint)
    if not snapshot.host_name():
        text = "there is no host-name: the machine's own name is used"
        yield _whole(snapshot, text, "write host-name with a name that resolves to this machine")


def missing_addresses(snapshot: Snapshot, machine: Machine) -> Iterator[Problem]:
    """Source addresses that this machine does not have: every connection from them would fail."""
    for line in snapshot.written:
        if line.directive.name not in ("smtp-source-ip", "smtp-source-host"):
            continue
        words = line.value.replace('"', "").split()
        if words and "/" not in words[0] and not machine.has_address(words[0]):
            text = f"{words[0]} is not an address of this machine: nothing can be sent from it"
            yield _at(line.origin, text, "add it with: ip addr add")


def ways_without_end(snapshot: Snapshot, _machine: Machine) -> Iterator[Problem]:
    """A `type` whose other half is written nowhere: its mail waits until it expires."""
    for line in _lines(snapshot, "type"):
        needed = _OTHER_HALF.get(line.value.strip('"').lower())
        if needed is not None and not any(_lines(snapshot, needed)):
            yield _at(line.origin, f"type {line.value} without {needed}: mail waits", f"add {needed}")


def surplus_workers(snapshot: Snapshot, _machine: Machine) -> Iterator[Problem]:
    """A `<worker N>` beyond `workers`: they are counted from 0, so that it is one more than was meant."""
    wanted = snapshot.top.text("workers")
    if not wanted.isdecimal():
        return  # auto depends on the machine
    numbers = f"workers {wanted}: 0" + (f" to {int(wanted) - 1}" if int(wanted) > 1 else "")
    for name in snapshot.workers:
        if name.isdecimal() and int(name) >= int(wanted):
            place = _origin_of_block(snapshot, f"worker {name}")
            place = place if place.line else snapshot.top.origin("workers") or place
            text = f"<worker {name}> makes {int(name) + 1} workers: they are counted from 0 ({numbers})"
            yield _at(place, text, f"write <worker {int(wanted) - 1}>, or workers {int(name) + 1}")


def open_dummy(snapshot: Snapshot, _machine: Machine) -> Iterator[Problem]:
    """A port that takes mail from everybody and drops it, for everybody to reach."""
    for listener in snapshot.listeners:
        if listener.is_dummy and not parse_address(listener.host).is_loopback and listener.origin is not None:
            text = f"dummy-smtp-port {listener.port}: whoever reaches it hands mail in that is dropped"
            yield _at(listener.origin, text, "dummy-smtp-ip 127.0.0.1")


def unreachable_patterns(snapshot: Snapshot, _machine: Machine) -> Iterator[Problem]:
    """Lines of lists that an earlier line hides, roll-ups and queues that nothing leads to or from."""
    return unreachable(snapshot)


CHECKS: tuple[Callable[[Snapshot, Machine], Iterator[Problem]], ...] = (
    without_effect,
    no_domain_for_all,
    endless_connections,
    too_many_connections,
    hasty_retries,
    root_without_user,
    open_relay,
    open_monitor,
    unsigned_mail,
    idle_keys,
    nobody_may_send,
    lives_too_short,
    nothing_kept,
    readable_secrets,
    records_that_stay_away,
    doubtful_names,
    missing_addresses,
    ways_without_end,
    open_dummy,
    surplus_workers,
    unreachable_patterns,
)


def _at(origin: Origin, text: str, hint: str = "") -> Problem:
    return Problem(origin.file, origin.line, Severity.WARNING, text, hint)


def _whole(snapshot: Snapshot, text: str, hint: str) -> Problem:
    return _at(_place_of_default(snapshot), text, hint)


def _place_of_default(snapshot: Snapshot) -> Origin:
    """Where something that nobody wrote is reported: the main file, without a line."""
    return Origin(snapshot.files[0] if snapshot.files else Path(), 0)


def _origin_of_block(snapshot: Snapshot, block: str) -> Origin:
    for line in snapshot.written:
        if line.origin.block == block:
            return line.origin
    return _place_of_default(snapshot)


def _lines(snapshot: Snapshot, name: str) -> Iterator[Written]:
    """The lines that set `name`, in whatever words, where it has a meaning for sending."""
    for line in snapshot.written:
        if line.scope is not Scope.SOURCE and name in (line.directive.name, line.directive.alias_of):
            yield line


def _may_sign(snapshot: Snapshot, vmta: str) -> bool:
    """Whether some queue of the virtual MTA signs: by default, or because some line says so."""
    if snapshot.effective(UNLISTED, vmta).text("dkim-sign") != "no":
        return True
    return not all(_is_no(line) for line in _lines(snapshot, "dkim-sign"))


def _relays_for_somebody(snapshot: Snapshot) -> bool:
    return any(line.directive.name in ("relay-domain", "relay-address") for line in snapshot.written)


def _is_yes(line: Written) -> bool:
    return line.value.strip('"').lower() in TRUE_WORDS


def _is_no(line: Written) -> bool:
    return line.value.strip('"').lower() in FALSE_WORDS


def _number(line: Written) -> int | None:
    word = line.value.strip('"')
    return int(word) if word.isascii() and word.isdigit() else None


def _first_wait(line: Written) -> float | None:
    word = line.value.strip('"')
    try:
        if line.directive.kind is Kind.INTEGER:
            return float(word)
        if line.directive.kind is Kind.INTERVALS:
            return parse_intervals(word)[0]
        return parse_interval(word)
    except (ValueError, IndexError):
        return None  # reported as an error by the builder


def _target_has_no_effect(line: Written) -> bool:
    target = TABLE.find(line.scope, line.directive.alias_of) if line.directive.alias_of else None
    return target is not None and target.status is Status.NO_EFFECT


def _is_everybody(text: str) -> bool:
    try:
        return any(network.prefixlen == 0 for network in parse_network(text))
    except ValueError:
        return False


def _spoken_name(line: Written) -> str:
    """The EHLO name that a line gives, or ''."""
    words = line.value.replace('"', "").split()
    if line.directive.name == "host-name" and words:
        return words[0]
    return words[1] if line.directive.name == "smtp-source-host" and len(words) > 1 else ""


def _why_doubtful(name: str) -> str:
    low = name.lower().rstrip(".")
    if low.replace(".", "").isdigit() or ":" in low:
        return "an address is not a name"
    if "." not in low:
        return "not a fully qualified name"
    if low.endswith(PRIVATE_SUFFIXES) or low.endswith((".example", ".invalid", ".test")):
        return "nobody outside can resolve it"
    return ""


def _is_local(ip: str) -> bool:
    """Whether a socket can be bound to `ip`."""
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((ip, 0))
    except OSError:
        return False
    return True


def _is_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _is_world_readable(file: Path) -> bool:
    try:
        return bool(file.stat().st_mode & stat.S_IROTH)
    except OSError:
        return False
