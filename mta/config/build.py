"""The tree to a snapshot: walks blocks, files every line, and reports everything that is wrong at once.

This module knows what stands where; `assign` knows single lines, `assemble` puts the results together, and
`references` checks that names which refer to each other exist.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mta.config.assemble import assemble
from mta.config.assign import Assigner, place_name
from mta.config.blocks import Argument, BlockForm, find_block, suggest_block
from mta.config.domainpattern import DomainPattern
from mta.config.draft import Draft, OwnerDraft
from mta.config.kinds import Scope, Status
from mta.config.macros import Macros
from mta.config.networks import parse_network
from mta.config.patterns import (
    FOREIGN_ACTIONS,
    AddressPattern,
    DomainKey,
    read_address_pattern,
    read_bounce_pattern,
    read_bounce_rule,
    read_domain_key,
    read_reply_pattern,
)
from mta.config.problems import Origin, Problems
from mta.config.quoting import split_list, unquote
from mta.config.references import check_references
from mta.config.settings import Layer
from mta.config.snapshot import Snapshot
from mta.config.syntax import Block, Line, Node

__all__ = ["build"]


def build(
    nodes: list[Node], *, files: tuple[Path, ...], directory: Path, epoch: int, problems: Problems
) -> Snapshot:
    """The snapshot of a tree: complete even when problems were found; whoever loads decides on its use."""
    macros = Macros()
    for line in _macro_lines(nodes):
        macros.define(line.value, Origin(line.file, line.number), problems)
    macros.check(problems)
    draft = Draft()
    walk = _Walk(draft, Assigner(draft, macros, problems, directory), problems)
    walk.top(nodes)
    snapshot = assemble(draft, files=files, epoch=epoch, problems=problems)
    check_references(snapshot, draft, problems)
    return snapshot


def _macro_lines(nodes: list[Node]) -> Iterator[Line]:
    for node in nodes:
        if isinstance(node, Block):
            yield from _macro_lines(node.children)
        elif node.name.lower() == "domain-macro":
            yield node


class _Walk:
    """Goes through the blocks; `within` is the text of the blocks around, for origins."""

    def __init__(self, draft: Draft, assigner: Assigner, problems: Problems) -> None:
        self._draft = draft
        self._assign = assigner
        self._problems = problems

    def top(self, nodes: list[Node]) -> None:
        owner = self._draft.top
        for node in nodes:
            if isinstance(node, Block):
                self._block(Scope.GLOBAL, node, "", owner)
            else:
                self._owner_line(Scope.GLOBAL, node, "", owner)

    def _block(self, parent: Scope, block: Block, within: str, owner: OwnerDraft) -> None:
        origin = Origin(block.file, block.number, within)
        form = find_block(block.name)
        if form is None:
            close = suggest_block(block.name)
            hint = f"did you mean <{close}>?" if close else ""
            self._problems.error(origin, f"unknown tag <{block.name}>", hint)
            return
        if parent not in form.parents:
            self._problems.error(
                origin,
                f"<{block.name}> doesn't belong inside {place_name(parent)}"
                if parent is not Scope.GLOBAL
                else f"<{block.name}> doesn't belong at the top level",
                f"it belongs in {' or '.join(sorted(place_name(scope) for scope in form.parents))}",
            )
            return
        argument = self._argument(form, block, origin)
        if argument is None:
            return
        if form.status is Status.NO_EFFECT and parent is Scope.GLOBAL:
            self._problems.warning(origin, f"<{form.name}> has no effect yet")
        label = f"{form.name} {argument}".strip()
        inside = f"{within} / {label}" if within else label
        self._dispatch(form, block, argument, origin, inside, owner)

    def _argument(self, form: BlockForm, block: Block, origin: Origin) -> str | None:
        try:
            argument = unquote(block.argument)
        except ValueError as error:
            self._problems.error(origin, f"<{block.name}>: {error}")
            return None
        if not argument and form.argument is Argument.REQUIRED:
            example = f", e.g. <{form.name} {form.example}>" if form.example else ""
            self._problems.error(origin, f"<{block.name}> needs an argument{example}")
            return None
        if argument and form.argument is Argument.NONE:
            self._problems.warning(origin, f"<{block.name}> takes no argument: {argument!r} is ignored")
            return ""
        return argument

    def _dispatch(
        self, form: BlockForm, block: Block, argument: str, origin: Origin, inside: str, owner: OwnerDraft
    ) -> None:
        match form.scope:
            case Scope.DOMAIN:
                self._domain(block, argument, origin, inside, owner)
            case Scope.VIRTUAL_MTA | Scope.POOL:
                self._owner(form.scope, block, argument, origin, inside)
            case Scope.SOURCE:
                self._source(block, argument, origin, inside)
            case Scope.SMTP_PATTERN_LIST:
                self._reply_list(block, argument, inside)
            case Scope.PATTERN_LIST:
                entries = self._draft.address_lists.setdefault(argument, [])
                entries += self._address_entries(block, inside)
            case Scope.BOUNCE_CATEGORY_PATTERNS:
                self._categories(block, inside)
            case Scope.BOUNCE_RULE:
                for line in self._lines_only(block, inside):
                    self._bounce_rule(line, self._at(line, inside))
            case Scope.DOMAIN_KEY_LIST:
                keys = self._draft.key_lists.setdefault(argument, [])
                for line in self._lines_only(block, inside):
                    self._key_line(form.scope, line, self._at(line, inside), keys)
            case Scope.ACCT_FILE | Scope.REJECT_FILE | Scope.SPOOL:
                self._plain(form.scope, block, self._assign.absolute(argument), origin, inside, owner)
            case _:
                self._plain(form.scope, block, argument, origin, inside, owner)

    def _plain(
        self, scope: Scope, block: Block, argument: str, origin: Origin, inside: str, owner: OwnerDraft
    ) -> None:
        draft = self._draft.block(scope, argument, origin)
        for node in block.children:
            if isinstance(node, Block):
                self._block(scope, node, inside, owner)
            else:
                self._assign.take(scope, node, self._at(node, inside), draft.layer)

    def _owner(self, scope: Scope, block: Block, name: str, origin: Origin, inside: str) -> None:
        kind = self._draft.vmtas if scope is Scope.VIRTUAL_MTA else self._draft.pools
        owner = kind.setdefault(name, OwnerDraft(name, origin))
        for node in block.children:
            if isinstance(node, Block):
                self._block(scope, node, inside, owner)
            else:
                self._owner_line(scope, node, inside, owner)

    def _owner_line(self, scope: Scope, line: Line, inside: str, owner: OwnerDraft) -> None:
        origin = self._at(line, inside)
        name = line.name.lower()
        if name == "domain-macro" and scope is Scope.GLOBAL:
            return
        if name == "domain-key":
            self._key_line(scope, line, origin, owner.keys)
        elif name == "regex" and scope is Scope.GLOBAL:
            self._bounce_rule(line, origin)
        elif name == "virtual-mta" and scope is Scope.POOL:
            if self._assign.take(scope, line, origin, owner.layer) is not None:
                owner.members.append((unquote(line.value), origin))
        elif self._assign.belongs_in_domain(scope, line.name):
            self._problems.warning(
                origin,
                f"{line.name} belongs in <domain>; it is read as if it stood in <domain *>",
                "put it between <domain *> and </domain>",
            )
            layer = owner.domain(DomainPattern.parse("*"), from_macro=False)
            self._assign.take(Scope.DOMAIN, line, origin, layer)
        else:
            self._assign.take(scope, line, origin, owner.layer)

    def _domain(self, block: Block, argument: str, origin: Origin, inside: str, owner: OwnerDraft) -> None:
        layers: list[Layer] = []
        try:
            for entry in split_list(argument):
                names = self._assign.expand(entry)
                from_macro = names != (entry,)
                for name in names:
                    layers.append(owner.domain(DomainPattern.parse(name), from_macro=from_macro))
        except ValueError as error:
            self._problems.error(origin, f"<domain {argument}>: {error}")
            layers = []
        layer: Layer = {}
        for line in self._lines_only(block, inside):
            # Reported once, then filed for every name that the argument stands for.
            if self._assign.take(Scope.DOMAIN, line, self._at(line, inside), layer) is not None:
                for each in layers:
                    self._assign.repeat(Scope.DOMAIN, line, self._at(line, inside), each)

    def _source(self, block: Block, argument: str, origin: Origin, inside: str) -> None:
        layers: list[Layer] = []
        try:
            for text in self._assign.expand(argument):
                if text == "*":
                    self._problems.warning(origin, "<source *> is read as <source 0/0>", "write <source 0/0>")
                if _looks_like_network(text):
                    layers.append(self._draft.networks.setdefault(parse_network(text), {}))
                else:
                    layers.append(self._draft.named_sources.setdefault(text, {}))
        except ValueError as error:
            self._problems.error(origin, f"<source {argument}>: {error}")
        layer: Layer = {}
        for line in self._lines_only(block, inside):
            if self._assign.take(Scope.SOURCE, line, self._at(line, inside), layer) is not None:
                for each in layers:
                    self._assign.repeat(Scope.SOURCE, line, self._at(line, inside), each)

    def _reply_list(self, block: Block, name: str, inside: str) -> None:
        entries = self._draft.reply_lists.setdefault(name, [])
        for line in self._lines_only(block, inside):
            origin = self._at(line, inside)
            stage = line.name.lower()
            if stage not in ("reply", "connect"):
                self._assign.take(Scope.SMTP_PATTERN_LIST, line, origin, {})
                continue
            self._assign.note(Scope.SMTP_PATTERN_LIST, line, origin)
            try:
                entry = read_reply_pattern(stage, line.value, origin)
            except ValueError as error:
                self._problems.error(origin, str(error))
                continue
            entries.append(entry)
            for action in entry.actions:
                if action.name in FOREIGN_ACTIONS:
                    self._problems.warning(
                        origin,
                        f"{action.name} is not a PowerMTA action and is not obeyed",
                        "write defer-queue",
                    )

    def _address_entries(self, block: Block, inside: str) -> tuple[AddressPattern, ...]:
        entries: list[AddressPattern] = []
        for node in block.children:
            if isinstance(node, Block):
                self._problems.error(
                    Origin(node.file, node.number, inside),
                    f"<{node.name}> must be opened at the end of an entry's line",
                )
                continue
            origin = self._at(node, inside)
            kind = node.name.lower()
            if kind not in ("header", "mail-from", "rcpt-to", "*"):
                self._assign.take(Scope.PATTERN_LIST, node, origin, {})
                continue
            self._assign.note(Scope.PATTERN_LIST, node, origin)
            nested = self._address_entries(node.nested, inside) if node.nested is not None else ()
            try:
                entries.append(read_address_pattern(kind, node.value, origin, nested))
            except ValueError as error:
                self._problems.error(origin, str(error))
        return tuple(entries)

    def _categories(self, block: Block, inside: str) -> None:
        for line in self._lines_only(block, inside):
            origin = self._at(line, inside)
            try:
                self._draft.categories.append(read_bounce_pattern(line.text, origin))
            except ValueError as error:
                self._problems.error(origin, str(error), "a line is: /regex/ category")

    def _bounce_rule(self, line: Line, origin: Origin) -> None:
        if line.name.lower() != "regex":
            self._assign.take(Scope.BOUNCE_RULE, line, origin, {})
            return
        self._assign.note(Scope.BOUNCE_RULE, line, origin)
        try:
            self._draft.bounce_rules.append(read_bounce_rule(line.value, origin))
        except ValueError as error:
            self._problems.error(origin, str(error))

    def _key_line(self, scope: Scope, line: Line, origin: Origin, keys: list[DomainKey]) -> None:
        if line.name.lower() != "domain-key":
            self._assign.take(scope, line, origin, {})
            return
        self._assign.note(scope, line, origin)
        try:
            for value in self._assign.expand(line.value):
                key = read_domain_key(value, origin)
                keys.append(DomainKey(key.selector, key.domain, self._assign.absolute(key.path), origin))
        except ValueError as error:
            self._problems.error(origin, str(error))

    def _lines_only(self, block: Block, inside: str) -> Iterator[Line]:
        """The lines of a block that can't hold other blocks."""
        for node in block.children:
            if isinstance(node, Line):
                yield node
            else:
                origin = Origin(node.file, node.number, inside)
                known = find_block(node.name)
                hint = "" if known else f"unknown tag <{node.name}>"
                self._problems.error(origin, f"<{node.name}> doesn't belong inside <{block.name}>", hint)

    def _at(self, line: Line, inside: str) -> Origin:
        return Origin(line.file, line.number, inside)


def _looks_like_network(text: str) -> bool:
    """Whether a source's argument is meant as addresses: a mistyped network must not become a name."""
    if text == "*":
        return True
    has_digits = any(char.isdigit() for char in text)
    return (
        has_digits
        and all(char in "0123456789abcdefABCDEF.:/[]" for char in text)
        and any(char in ".:/" for char in text)
    )
