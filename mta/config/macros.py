"""`domain-macro`: names for lists, and the texts that come from using them.

    domain-macro tld com, net
    domain-macro yahoo yahoo.$tld, ymail.com
    <domain $yahoo>            →  yahoo.com, yahoo.net, ymail.com

Several macros in one text give every combination. `${name}` is not a macro: it belongs to templates.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from mta.config.problems import Origin, Problems
from mta.config.quoting import split_list

__all__ = ["Macros"]

_USE = re.compile(r"\$([A-Za-z0-9_]+)")
_NAME = re.compile(r"[A-Za-z0-9_]+")

#: More combinations, or macros within macros, than this come from a mistake, not from a wish.
MAX_RESULTS = 100_000
MAX_DEPTH = 50


class Macros:
    """All macros of one configuration. Definitions may come in any order, as they are read before any use."""

    def __init__(self) -> None:
        self._lists: dict[str, tuple[str, ...]] = {}
        self._origins: dict[str, Origin] = {}
        self._expanded: dict[str, tuple[str, ...]] = {}

    def define(self, value: str, origin: Origin, problems: Problems) -> None:
        """Take the value of one `domain-macro NAME a,b,c` line; a later definition replaces the earlier."""
        words = value.split(None, 1)
        if len(words) < 2 or _NAME.fullmatch(words[0]) is None:
            problems.error(
                origin,
                "domain-macro needs a name (letters, digits, underscore) and a list",
                "domain-macro big_ones gmail.com,yahoo.com",
            )
            return
        name = words[0]
        try:
            entries = split_list(words[1])
        except ValueError as error:
            problems.error(origin, f"domain-macro {name}: {error}")
            return
        if name in self._lists:
            problems.warning(
                origin, f"domain-macro {name} is defined again; the first one is in {self._origins[name]}"
            )
        self._expanded.clear()
        self._lists[name] = entries
        self._origins[name] = origin

    def check(self, problems: Problems) -> None:
        """Report definitions that use unknown macros or themselves."""
        for name, entries in self._lists.items():
            for entry in entries:
                try:
                    self.expand(entry, _within=(name,))
                except ValueError as error:
                    problems.error(self._origins[name], f"domain-macro {name}: {error}")
                    break

    def expand(self, text: str, *, _within: tuple[str, ...] = ()) -> tuple[str, ...]:
        """Every text that `text` stands for (itself when it uses no macro); ValueError for unknown names."""
        results = [""]
        end = 0
        for use in _USE.finditer(text):
            literal = text[end : use.start()]
            choices = self._entries(use[1], _within)
            if len(results) * len(choices) > MAX_RESULTS:
                raise ValueError(f"{text!r} stands for more than {MAX_RESULTS} names")
            results = [f"{left}{literal}{choice}" for left in results for choice in choices]
            end = use.end()
        return tuple(dict.fromkeys(left + text[end:] for left in results))

    def is_used_in(self, text: str) -> bool:
        """Whether `text` uses a macro, known or not."""
        return _USE.search(text) is not None

    def names(self) -> Iterable[str]:
        return self._lists.keys()

    def _entries(self, name: str, within: tuple[str, ...]) -> tuple[str, ...]:
        """What `$name` stands for, each text once; kept, since chains of macros would multiply the work."""
        if name in self._expanded:
            return self._expanded[name]
        if name in within or len(within) >= MAX_DEPTH:
            raise ValueError(f"${name} is defined by itself: {' → '.join((*within[-5:], name))}")
        entries = self._lists.get(name)
        if entries is None:
            close = difflib.get_close_matches(name, self._lists, n=1)
            raise ValueError(f"${name} is not defined" + (f", did you mean ${close[0]}?" if close else ""))
        found: dict[str, None] = {}
        for entry in entries:
            found.update(dict.fromkeys(self.expand(entry, _within=(*within, name))))
            if len(found) > MAX_RESULTS:
                raise ValueError(f"${name} stands for more than {MAX_RESULTS} names")
        self._expanded[name] = tuple(found)
        return self._expanded[name]
