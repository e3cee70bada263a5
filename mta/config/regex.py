"""Regexes that operators write, searched in replies that strangers write.

google-re2 runs in linear time whatever the reply is; what it can't express (look-around, back references)
goes to the standard library's engine, guarded: nested unbounded repeats are refused and only the first
`SUBJECT_LIMIT` characters are searched. Patterns ignore case; `(?-i)` at the start switches that off.
"""

from __future__ import annotations

import re
from typing import Any, Protocol

import re2

__all__ = ["SUBJECT_LIMIT", "Pattern", "compile_pattern"]

#: What the guarded engine looks at; SMTP replies of more than this carry nothing new.
SUBJECT_LIMIT = 2048


class _Engine(Protocol):
    def search(self, text: str, /) -> Any: ...


class Pattern:
    """A compiled regex; `source` is as written, `is_linear` whether re2 runs it."""

    __slots__ = ("_engine", "is_linear", "source")

    def __init__(self, source: str, engine: _Engine | None, *, is_linear: bool) -> None:
        self.source = source
        self.is_linear = is_linear
        self._engine = engine

    def search(self, text: str) -> bool:
        """Whether the regex matches anywhere in `text`."""
        if self._engine is None:
            return True
        return self._engine.search(text if self.is_linear else text[:SUBJECT_LIMIT]) is not None

    def groups(self, text: str) -> dict[str, str]:
        """The named groups of the first match; empty when there is none."""
        if self._engine is None:
            return {}
        match = self._engine.search(text if self.is_linear else text[:SUBJECT_LIMIT])
        return {} if match is None else {name: value or "" for name, value in match.groupdict().items()}

    def __repr__(self) -> str:
        return f"<Pattern /{self.source}/{'' if self.is_linear else ' guarded'}>"


def compile_pattern(source: str) -> Pattern:
    """The pattern of `source` (without the slashes); ValueError when neither engine takes it."""
    if not source:
        return Pattern(source, None, is_linear=True)
    options = re2.Options()
    options.case_sensitive = False
    options.log_errors = False
    try:
        return Pattern(source, re2.compile(source, options), is_linear=True)
    except re2.error as error:
        refused = str(error.args[0].decode("utf-8", "replace") if error.args else error)
    return Pattern(source, _guarded(source, refused), is_linear=False)


def _guarded(source: str, refused: str) -> _Engine:
    flags = re.IGNORECASE
    body = source
    if body.startswith("(?-i)"):
        body, flags = body[5:], re.RegexFlag(0)
    try:
        tree = re._parser.parse(body, flags)  # type: ignore[attr-defined]
        compiled = re.compile(body, flags)
    except (re.error, OverflowError, RecursionError):
        raise ValueError(f"the regular expression /{source}/ is not valid: {refused}") from None
    if _has_nested_repeat(tree, inside=False):
        raise ValueError(
            f"the regular expression /{source}/ nests one unlimited repeat in another, "
            "which can take for ever on a long reply"
        )
    return compiled


def _has_nested_repeat(tree: Any, *, inside: bool) -> bool:
    for operator, argument in tree:
        name = str(operator)
        repeats = name in ("MAX_REPEAT", "MIN_REPEAT") and argument[1] > SUBJECT_LIMIT
        if repeats and inside:
            return True
        if any(_has_nested_repeat(child, inside=inside or repeats) for child in _subpatterns(argument)):
            return True
    return False


def _subpatterns(argument: Any) -> list[Any]:
    """The parse trees inside one node's argument, however deep its tuples hold them."""
    if isinstance(argument, re._parser.SubPattern):  # type: ignore[attr-defined]
        return [argument]
    if isinstance(argument, list | tuple):
        return [tree for part in argument for tree in _subpatterns(part)]
    return []
