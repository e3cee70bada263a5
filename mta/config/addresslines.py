"""Lines that change or refuse addresses (`alias`, `<rewrite-list>`, `<address-list>`) to their values."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TypeVar

from mta.config.addressing import AddressBook, Alias, DomainRewrite, RewriteList, SenderRewrite
from mta.config.domainpattern import DomainPattern
from mta.config.draft import Draft
from mta.config.kinds import Scope
from mta.config.problems import Problems
from mta.config.quoting import read_regex, split_list, split_words, unquote
from mta.config.regex import compile_pattern
from mta.config.settings import Layer, WrittenLine

__all__ = ["address_books", "aliases", "rewrite_lists"]

T = TypeVar("T")

_ADDRESS = re.compile(r"[^\s@<>,;]{1,256}@[^\s@<>,;]{1,255}")
_SOURCE = re.compile(r"(?:\*|[^\s@<>,;*]{1,256})(?:@[^\s@<>,;*]{1,255})?")


def aliases(draft: Draft, problems: Problems) -> tuple[Alias, ...]:
    """All `alias` lines in order, those of `<aliases>` behind those at the top level."""
    found = []
    blocks = (block.layer for block in draft.of(Scope.ALIASES))
    for layer in (draft.top.layer, *blocks):
        for line in _lines(layer, "alias"):
            words = line.text.split(None, 1)
            targets = tuple(unquote(word) for word in split_list(words[1])) if len(words) == 2 else ()
            source = unquote(words[0]).lower() if words else ""
            if not targets or not _SOURCE.fullmatch(source) or source == "*":
                problems.error(line.origin, f"alias {line.text}: not FROM TO[,TO...]", "alias root ann@x.org")
                continue
            wrong = [target for target in targets if not _ADDRESS.fullmatch(target)]
            if wrong:
                problems.error(line.origin, f"alias {source}: {wrong[0]!r} is not an e-mail address")
                continue
            found.append(Alias(source, targets))
    return tuple(found)


def rewrite_lists(draft: Draft, problems: Problems) -> Mapping[str, RewriteList]:
    """Every `<rewrite-list>` by name."""
    found = {}
    for block in draft.of(Scope.REWRITE_LIST):
        senders = _read(_lines(block.layer, "mail-from"), _sender_rewrite, problems)
        domains = _read(_lines(block.layer, "from-domain"), _domain_rewrite, problems)
        found[block.argument] = RewriteList(tuple(senders), tuple(domains))
    return MappingProxyType(found)


def address_books(draft: Draft, problems: Problems) -> Mapping[str, AddressBook]:
    """Every named `<address-list>`."""
    found = {}
    for block in draft.of(Scope.ADDRESS_LIST):
        if not block.argument:
            continue
        addresses, regexes = set(), []
        for line in _lines(block.layer, "address"):
            if not line.text.startswith("/"):
                addresses.add(unquote(line.text).lower())
                continue
            try:
                regexes.append(compile_pattern(read_regex(line.text)[0]))
            except ValueError as error:
                problems.error(line.origin, f"address: {error}")
        domains = {unquote(line.text).lower().rstrip(".") for line in _lines(block.layer, "domain")}
        files = tuple(str(line.value[0]) for line in _lines(block.layer, "address-file") if line.value)
        found[block.argument] = AddressBook(frozenset(addresses), frozenset(domains), tuple(regexes), files)
    return MappingProxyType(found)


def _lines(layer: Layer, name: str) -> tuple[WrittenLine, ...]:
    setting = layer.get(name)
    return setting.lines if setting is not None else ()


def _read(lines: Iterable[WrittenLine], read: Callable[[str], T], problems: Problems) -> list[T]:
    found = []
    for line in lines:
        try:
            found.append(read(line.text))
        except ValueError as error:
            problems.error(line.origin, str(error))
    return found


def _sender_rewrite(text: str) -> SenderRewrite:
    words = split_words(text)
    if len(words) != 2:
        raise ValueError(
            "mail-from needs what to replace and what with, e.g. mail-from *@a.example *@b.example"
        )
    source, target = (word.removeprefix("<").removesuffix(">") for word in words)
    if target and not _ADDRESS.fullmatch(target):
        raise ValueError(f"{target!r} is not an e-mail address")
    if target.count("*") > source.count("*"):
        raise ValueError(f"{target!r} has more * than {source!r}")
    parts = [re.escape(part) for part in source.split("*")]
    return SenderRewrite(re.compile("([^@]*)".join(parts), re.IGNORECASE), target)


def _domain_rewrite(text: str) -> DomainRewrite:
    words = split_words(text)
    if len(words) != 2:
        raise ValueError("from-domain needs a pattern and a domain, e.g. from-domain *.a.example b.example")
    new = DomainPattern.parse(words[1])
    if not new.name or new.text != words[1].strip() or "*" in words[1]:
        raise ValueError(f"{words[1]!r} is not a domain")
    return DomainRewrite(DomainPattern.parse(words[0]), words[1])
