"""One loaded configuration: immutable, shared by everybody, replaced as a whole by a reload.

`effective` and `source` answer from memory after the first question. Their answers are shared: a million
domains that no block names get one and the same `Settings`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from mta.config.addressing import AddressBook, Alias, RewriteList
from mta.config.domainpattern import DomainTable, normal_domain
from mta.config.kinds import Directive, Scope
from mta.config.networks import NetworkTable, parse_address
from mta.config.patterns import AddressPattern, BouncePattern, DomainKey, ReplyPattern
from mta.config.problems import Origin
from mta.config.proxy import Proxy
from mta.config.regex import Pattern
from mta.config.rollups import Rollup
from mta.config.settings import Layer, Settings, merge

__all__ = [
    "DEFAULT_VMTA",
    "AcctFile",
    "EgressSource",
    "Listener",
    "Pool",
    "Rules",
    "SmtpUser",
    "Snapshot",
    "SpoolBlock",
    "VirtualMta",
    "Written",
]

#: The virtual MTA of mail that chose none.
DEFAULT_VMTA = "{default}"

#: Answers kept per kind of look-up; above it the memory starts anew. About 250 bytes each.
MEMO_LIMIT = 50_000


@dataclass(frozen=True, slots=True)
class EgressSource:
    """A local address and its EHLO name; '' = the address that the system takes, the main host name.

    With `proxies` it is an address at the first of them; the others are for when that one is down.
    """

    ip: str
    host_name: str
    proxies: tuple[Proxy, ...] = ()


@dataclass(frozen=True, slots=True)
class VirtualMta:
    """A sending identity; `sources` are used in turn and never empty."""

    name: str
    settings: Settings
    sources: tuple[EgressSource, ...]
    pool: str = ""  #: the pool whose settings it inherits


@dataclass(frozen=True, slots=True)
class Pool:
    """Virtual MTAs that take turns."""

    name: str
    members: tuple[str, ...]
    settings: Settings


@dataclass(frozen=True, slots=True)
class Listener:
    """Where to accept SMTP; `source_name` is the `<source>` laid over what the client's address says."""

    host: str
    port: int
    source_name: str
    settings: Settings
    origin: Origin | None = None
    is_dummy: bool = False  #: what comes in here is dropped (dummy-smtp-port)


@dataclass(frozen=True, slots=True)
class SpoolBlock:
    path: Path
    settings: Settings


@dataclass(frozen=True, slots=True)
class AcctFile:
    """`target` is an absolute path, or `|` and a command."""

    target: str
    settings: Settings
    origin: Origin


@dataclass(frozen=True, slots=True)
class SmtpUser:
    name: str
    settings: Settings


@dataclass(frozen=True, slots=True)
class Written:
    """One line that the builder understood; for checks that look at what was written, not at results."""

    name: str  #: as written
    directive: Directive
    scope: Scope
    value: str = field(repr=False)  # it may be a password
    origin: Origin


@dataclass(frozen=True, slots=True)
class Rules:
    """The layers that one scope adds to a queue: lines of the block itself, then its `<domain>` blocks."""

    own: Layer
    domains: DomainTable[Layer]
    keys: tuple[DomainKey, ...] = ()


@dataclass(frozen=True)
class Snapshot:
    """Everything the operator wrote, resolved. Built by `mta.config.build` only."""

    epoch: int
    files: tuple[Path, ...]
    top: Settings
    vmtas: Mapping[str, VirtualMta]
    pools: Mapping[str, Pool]
    listeners: tuple[Listener, ...]
    spools: tuple[SpoolBlock, ...]
    acct_files: tuple[AcctFile, ...]
    reject_files: tuple[AcctFile, ...]
    smtp_users: Mapping[str, SmtpUser]
    bounce_rules: tuple[ReplyPattern, ...]  #: `regex "..." action ...`, for all queues, in file order
    workers: Mapping[str, Settings]  #: <worker NAME> blocks
    dns: Settings  #: <dns>
    source_groups: Mapping[str, Settings]  #: <source-group NAME> blocks
    written: tuple[Written, ...]

    rules: Rules
    vmta_rules: Mapping[str, Rules]
    pool_rules: Mapping[str, Rules]
    source_networks: NetworkTable[Layer]
    source_base: Layer
    named_sources: Mapping[str, Layer]
    categories: tuple[BouncePattern, ...]
    rollups: tuple[Rollup, ...]
    reply_lists: Mapping[str, tuple[ReplyPattern, ...]]
    address_lists: Mapping[str, tuple[AddressPattern, ...]]
    key_lists: Mapping[str, tuple[DomainKey, ...]]
    relay_domains: DomainTable[bool]
    relay_addresses: frozenset[str]
    relay_regexes: tuple[Pattern, ...]
    aliases: tuple[Alias, ...] = ()
    rewrite_lists: Mapping[str, RewriteList] = field(default_factory=dict)
    address_books: Mapping[str, AddressBook] = field(default_factory=dict)  #: <address-list NAME>

    _effective: dict[tuple[str, str], Settings] = field(default_factory=dict, repr=False)
    _sources: dict[tuple[str, str], Settings] = field(default_factory=dict, repr=False)
    _shared: dict[tuple[object, ...], Settings] = field(default_factory=dict, repr=False)

    def effective(self, domain: str, vmta: str) -> Settings:
        """What holds for the queue `domain/vmta`.

        Lowest to highest: defaults, top level, global `<domain>` blocks, the pool and its `<domain>` blocks,
        the virtual MTA and its `<domain>` blocks; within each, general patterns before specific ones. The
        scope decides before the pattern: `<domain *>` in a virtual MTA beats a global `<domain gmail.com>`.
        """
        found = self._effective.get((domain, vmta))
        return found if found is not None else self._resolve(domain, vmta)

    def _resolve(self, domain: str, vmta: str) -> Settings:
        layers = [layer for _label, layer in self.layers(domain, vmta)]
        settings = self._merged(Scope.DOMAIN, layers)
        if len(self._effective) >= MEMO_LIMIT:
            self._effective.clear()
        self._effective[domain, vmta] = settings
        return settings

    def layers(self, domain: str, vmta: str) -> list[tuple[str, Layer]]:
        """The layers behind `effective`, lowest first, each with the scope it comes from."""
        name = normal_domain(domain)
        member = self.vmtas.get(vmta)
        scopes = [("top level", self.rules)]
        if member is not None and member.pool:
            scopes.append((f"virtual-mta-pool {member.pool}", self.pool_rules[member.pool]))
        if vmta in self.vmta_rules:
            scopes.append((f"virtual-mta {vmta}", self.vmta_rules[vmta]))
        found: list[tuple[str, Layer]] = []
        for label, rules in scopes:
            if rules.own:
                found.append((label, rules.own))
            found += [(label, layer) for layer in rules.domains.matching(name)]
        return found

    def source(self, ip: str, name: str = "") -> Settings:
        """What holds for a client at `ip` ('' = none, e.g. pickup), with the source `name` laid over it.

        Raises ValueError when `ip` is no address.
        """
        found = self._sources.get((ip, name))
        if found is not None:
            return found
        layers = [self.source_base] if self.source_base else []
        if ip:
            layers += self.source_networks.matching(parse_address(ip))
        if name in self.named_sources:
            layers.append(self.named_sources[name])
        settings = self._merged(Scope.SOURCE, layers)
        if len(self._sources) >= MEMO_LIMIT:
            self._sources.clear()
        self._sources[ip, name] = settings
        return settings

    def _merged(self, scope: Scope, layers: list[Layer]) -> Settings:
        # Layers live as long as the snapshot, so their ids name them.
        key = (scope, *map(id, layers))
        settings = self._shared.get(key)
        if settings is None:
            settings = self._shared[key] = Settings(scope, MappingProxyType(merge(layers)))
        return settings

    def domain_keys(self, vmta: str) -> tuple[DomainKey, ...]:
        """DKIM keys in search order: those of the virtual MTA, then of its pool, then the global ones."""
        keys: tuple[DomainKey, ...] = ()
        if vmta in self.vmta_rules:
            keys += self.vmta_rules[vmta].keys
        member = self.vmtas.get(vmta)
        if member is not None and member.pool:
            keys += self.pool_rules[member.pool].keys
        return keys + self.rules.keys

    def key_list(self, name: str) -> tuple[DomainKey, ...]:
        """The keys of `<domain-key-list NAME>`; KeyError when there is none."""
        return self.key_lists[name]

    def bounce_categories(self) -> tuple[BouncePattern, ...]:
        """The operator's own patterns in file order; empty = use the default list."""
        return self.categories

    def reply_patterns(self, name: str) -> tuple[ReplyPattern, ...]:
        """The entries of `<smtp-pattern-list NAME>`; empty for '' and unknown names (reported at load)."""
        return self.reply_lists.get(name, ())

    def address_patterns(self, name: str) -> tuple[AddressPattern, ...]:
        """The entries of `<pattern-list NAME>`; empty for '' and unknown names (reported at load)."""
        return self.address_lists.get(name, ())

    def is_relay_domain(self, domain: str) -> bool:
        """Whether mail for `domain` is accepted from anybody: relay-domain lines and our own host names."""
        return bool(self.relay_domains.matching(normal_domain(domain)))

    def is_relay_address(self, address: str) -> bool:
        """Whether a relay-address line accepts mail for `address` from anybody."""
        low = address.lower()
        return low in self.relay_addresses or any(regex.search(low) for regex in self.relay_regexes)

    def host_name(self) -> str:
        """The main host name; '' when the operator gave none (the system's name then holds)."""
        names = self.top.texts("host-name")
        return names[0] if names else ""

    def __repr__(self) -> str:
        return (
            f"<Snapshot epoch={self.epoch} files={len(self.files)} vmtas={len(self.vmtas)} "
            f"pools={len(self.pools)} listeners={len(self.listeners)}>"
        )
