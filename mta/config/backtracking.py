"""How far a backtracking regex engine may be let loose: the longest text that a pattern can't choke on.

Python's engine tries one way of matching after the other. The number of ways is bounded here from the parsed
pattern: every unlimited repeat multiplies it by the length of the text, the place where a match begins does
so once more, and a repeat of something that can itself match in several ways multiplies it without bound.
What is counted is an upper bound: a pattern may be quicker, it can't be slower.

Not a check of whether a pattern makes sense, and not for google-re2, which needs no bound.
"""

from __future__ import annotations

import math
import re
import warnings
from typing import Any, Final, NamedTuple

__all__ = ["LONGEST", "WAYS", "longest_text"]

#: Characters of a text that are ever looked at; SMTP replies of more than this carry nothing new.
LONGEST: Final = 2048
#: Texts shorter than this would make the pattern useless.
_SHORTEST: Final = 100
#: Ways of matching that may be tried: some 20 ns each, so about 50 ms at the very worst.
WAYS: Final = 2.5e6

#: A repeat of more than this counts as unlimited.
_MANY: Final = 100
_PARSER: Any = getattr(re, "_parser")  # noqa: B009 - typeshed does not know it


class _Ways(NamedTuple):
    """`number` ways to match times those that `runs` unlimited repeats one behind the other have."""

    number: float
    runs: int

    def then(self, other: _Ways) -> _Ways:
        return _Ways(self.number * other.number, self.runs + other.runs)

    def in_text(self, length: int) -> float:
        """How many ways there are in a text: so many lengths for each run, whose sum is at most `length`."""
        return self.number * math.comb(length + self.runs, self.runs)


_ONE = _Ways(1, 0)
_RUN = _Ways(1, 1)
_ENDLESS = _Ways(math.inf, 0)


def longest_text(body: str, flags: int = 0) -> int:
    """The longest text that may be searched with this pattern; 0 when there is none that is worth while.

    Raises re.error, OverflowError or RecursionError for what is no pattern.
    """
    with warnings.catch_warnings():
        # What may be read in another way some day (`[[`) is what it is today.
        warnings.simplefilter("ignore", FutureWarning)
        parsed = _PARSER.parse(body, flags)
    is_anchored = bool(parsed.data) and str(parsed.data[0]) in _AT_START
    peaks: list[_Ways] = []
    peaks.append(_sequence(parsed, _ONE if is_anchored else _RUN, peaks))
    size = sum(1 for character in body if character not in "?*+()")
    budget = WAYS * 8 / max(8, size)
    length = LONGEST
    while length >= _SHORTEST:
        if max(peak.in_text(length) for peak in peaks) <= budget:
            return length
        length = length * 7 // 8
    return 0


_AT_START = ("(AT, AT_BEGINNING)", "(AT, AT_BEGINNING_STRING)")


def _sequence(tree: Any, before: _Ways, peaks: list[_Ways]) -> _Ways:
    """The ways through a sequence that `before` leads to; what is tried on the side goes into `peaks`."""
    for operator, argument in tree:
        before = before.then(_node(str(operator), argument, before, peaks))
    return before


def _node(name: str, argument: Any, before: _Ways, peaks: list[_Ways]) -> _Ways:
    if name in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
        least, most, body = argument
        once = _alone(body, before, peaks)
        ways = _repeated(once, int(least), int(most))
        peaks.append(before.then(ways))
        return _ONE if name == "POSSESSIVE_REPEAT" else ways
    if name == "SUBPATTERN":
        return _alone(argument[3], before, peaks)
    if name == "BRANCH":
        branches = [_alone(branch, before, peaks) for branch in argument[1]]
        return _widest(branches, 1 if _begin_differently(argument[1]) else len(branches))
    if name in ("ASSERT", "ASSERT_NOT"):
        peaks.append(_sequence(argument[1], before, peaks))
        return _ONE
    if name == "ATOMIC_GROUP":
        peaks.append(_sequence(argument, before, peaks))
        return _ONE
    if name == "GROUPREF":
        peaks.append(before.then(_RUN))  # comparing takes as long as the group
        return _ONE
    if name == "GROUPREF_EXISTS":
        choices = [_alone(branch, before, peaks) for branch in argument[1:] if branch is not None]
        return _widest(choices, 1)
    return _ONE


def _alone(tree: Any, before: _Ways, peaks: list[_Ways]) -> _Ways:
    """The ways through a part of its own."""
    inner: list[_Ways] = []
    ways = _sequence(tree, _ONE, inner)
    peaks += [before.then(peak) for peak in inner]
    return ways


def _widest(choices: list[_Ways], factor: int) -> _Ways:
    return _Ways(max(way.number for way in choices) * factor, max(way.runs for way in choices))


def _repeated(once: _Ways, least: int, most: int) -> _Ways:
    """The ways of a repeat whose body has these."""
    if once == _ONE:
        return _RUN if most > _MANY else _Ways(most - least + 1, 0)
    if most > 20:
        return _ENDLESS
    return _Ways(sum(once.number**times for times in range(least, most + 1)), once.runs * most)


def _begin_differently(branches: Any) -> bool:
    """Whether the first character tells which branch it is."""
    seen: set[int] = set()
    for branch in branches:
        if not len(branch) or str(branch[0][0]) != "LITERAL":
            return False
        letter = ord(chr(branch[0][1]).lower())
        if letter in seen:
            return False
        seen.add(letter)
    return True
