"""What the builder collects while it walks the tree, before names are resolved and layers are merged."""

from __future__ import annotations

from dataclasses import dataclass, field

from mta.config.domainpattern import DomainPattern
from mta.config.kinds import Scope
from mta.config.networks import Network
from mta.config.patterns import AddressPattern, BouncePattern, DomainKey, ReplyPattern
from mta.config.problems import Origin
from mta.config.settings import Layer
from mta.config.snapshot import Written

__all__ = ["BlockDraft", "Draft", "OwnerDraft"]


@dataclass(slots=True)
class OwnerDraft:
    """Whoever may have `<domain>` blocks and DKIM keys: the top level, a virtual MTA, a pool."""

    name: str = ""
    origin: Origin | None = None
    layer: Layer = field(default_factory=dict)
    domains: dict[tuple[DomainPattern, bool], Layer] = field(default_factory=dict)
    keys: list[DomainKey] = field(default_factory=list)
    members: list[tuple[str, Origin]] = field(default_factory=list)

    def domain(self, pattern: DomainPattern, *, from_macro: bool) -> Layer:
        """The layer of one `<domain>` block; a repeated block goes on where the first ended."""
        return self.domains.setdefault((pattern, from_macro), {})


@dataclass(slots=True)
class BlockDraft:
    """A block without a structure of its own."""

    argument: str
    origin: Origin
    layer: Layer = field(default_factory=dict)


@dataclass(slots=True)
class Draft:
    """Everything, in file order."""

    top: OwnerDraft = field(default_factory=OwnerDraft)
    vmtas: dict[str, OwnerDraft] = field(default_factory=dict)
    pools: dict[str, OwnerDraft] = field(default_factory=dict)
    networks: dict[tuple[Network, ...], Layer] = field(default_factory=dict)
    named_sources: dict[str, Layer] = field(default_factory=dict)
    blocks: dict[Scope, dict[str, BlockDraft]] = field(default_factory=dict)
    reply_lists: dict[str, list[ReplyPattern]] = field(default_factory=dict)
    address_lists: dict[str, list[AddressPattern]] = field(default_factory=dict)
    key_lists: dict[str, list[DomainKey]] = field(default_factory=dict)
    categories: list[BouncePattern] = field(default_factory=list)
    bounce_rules: list[ReplyPattern] = field(default_factory=list)
    written: list[Written] = field(default_factory=list)

    def block(self, scope: Scope, argument: str, origin: Origin) -> BlockDraft:
        """The draft of one plain block; a repeated block goes on where the first ended."""
        return self.blocks.setdefault(scope, {}).setdefault(argument, BlockDraft(argument, origin))

    def of(self, scope: Scope) -> tuple[BlockDraft, ...]:
        """All plain blocks of one kind."""
        return tuple(self.blocks.get(scope, {}).values())
