"""Which bounce category a reply belongs to.

The text that patterns are searched in is `X.Y.Z;reply`, the first pattern that matches decides, and there is
nothing else to it. All patterns run at once in one automaton (google-re2's Set): 2 us whatever their number,
against 60 us one by one for the default list. That is less than a memory of past replies would save, as most
replies have an id in them. What re2 can't express, and a reply on which the automaton runs out of memory,
goes one by one through the guarded engine of `config/regex`.

Pure. Deciding what to do about a category is not done here.
"""

from __future__ import annotations

from collections.abc import Iterable

import re2

from mta.config.patterns import BouncePattern
from mta.config.regex import SUBJECT_LIMIT, Pattern, compile_pattern

__all__ = ["OTHER", "Classifier"]

#: The category of what no pattern matches.
OTHER = "other"

#: What the automaton may use, in bytes; re2's default of 8 MB fails silently on 1,000 patterns with gaps.
MEMORY = 64 * 1024 * 1024


class Classifier:
    """The bounce categories of one snapshot; immutable."""

    def __init__(self, patterns: Iterable[BouncePattern]) -> None:
        """Raises ValueError when a regex does not compile in either engine."""
        kept = tuple(patterns)
        self._categories = [pattern.category for pattern in kept]
        self._one_by_one = [compile_pattern(pattern.regex) for pattern in kept]
        #: Place of each pattern of the automaton among all patterns.
        self._places: list[int] = []
        self._guarded: list[tuple[int, Pattern]] = []
        options = re2.Options()
        options.case_sensitive = False
        options.log_errors = False
        options.max_mem = MEMORY
        self._set = re2.Set.SearchSet(options)
        for place, pattern in enumerate(self._one_by_one):
            if pattern.is_linear:
                self._set.Add(pattern.source)
                self._places.append(place)
            else:
                self._guarded.append((place, pattern))
        # Matches everything: an answer without it means that the automaton has run out of memory.
        self._set.Add("")
        self._places.append(len(kept))
        self._set.Compile()

    def category(self, status: str, diag: str) -> str:
        """The category for an enhanced status ("5.1.1") and a reply, with or without "smtp;" in front."""
        text = f"{status};{diag.removeprefix('smtp;')}"[:SUBJECT_LIMIT]
        place = self._first(text)
        return self._categories[place] if place < len(self._categories) else OTHER

    def _first(self, text: str) -> int:
        """The place of the first pattern that matches; their number when none does."""
        try:
            matches = self._set.Match(text)
        except UnicodeEncodeError:  # a lone surrogate: re2 works on UTF-8
            text = text.encode("utf-8", "replace").decode()
            matches = self._set.Match(text)
        if not matches:
            return self._search(text)
        first: int = self._places[min(matches)]
        for place, pattern in self._guarded:
            if place > first:
                break
            if pattern.search(text):
                return place
        return first

    def _search(self, text: str) -> int:
        for place, pattern in enumerate(self._one_by_one):
            if pattern.search(text):
                return place
        return len(self._one_by_one)

    def __repr__(self) -> str:
        return f"<Classifier patterns={len(self._categories)} guarded={len(self._guarded)}>"
