"""Regexes that operators write, searched in replies that strangers write.

google-re2 runs in linear time whatever the reply is; what it can't express (look-around, back references)
goes to the standard library's engine, guarded: only so much of the text is searched as the pattern can be
trusted with (`backtracking`), and one that can't be trusted with a hundred characters is refused. Patterns
ignore case; `(?-i)` at the start switches that off.
"""

from __future__ import annotations

import re
import warnings
from typing import Any, Protocol

import re2

from mta.config.backtracking import LONGEST, longest_text

__all__ = ["SUBJECT_LIMIT", "Pattern", "compile_pattern"]

#: What any pattern needs to see of a reply.
SUBJECT_LIMIT = LONGEST


class _Engine(Protocol):
    def search(self, text: str, /) -> Any: ...


class Pattern:
    """A compiled regex; `source` is as written, `is_linear` whether re2 runs it.

    `longest` is how many characters of a text are searched, None without a limit.
    """

    __slots__ = ("_engine", "longest", "source")

    def __init__(self, source: str, engine: _Engine | None, *, longest: int | None = None) -> None:
        self.source = source
        self.longest = longest
        self._engine = engine

    @property
    def is_linear(self) -> bool:
        return self.longest is None

    def search(self, text: str) -> bool:
        """Whether the regex matches anywhere in `text`."""
        if self._engine is None:
            return True
        return self._engine.search(text[: self.longest]) is not None

    def groups(self, text: str) -> dict[str, str]:
        """The named groups of the first match; empty when there is none."""
        if self._engine is None:
            return {}
        match = self._engine.search(text[: self.longest])
        return {} if match is None else {name: value or "" for name, value in match.groupdict().items()}

    def __repr__(self) -> str:
        return f"<Pattern /{self.source}/{'' if self.longest is None else f' up to {self.longest}'}>"


def compile_pattern(source: str) -> Pattern:
    """The pattern of `source` (without the slashes); ValueError when neither engine takes it."""
    if not source:
        return Pattern(source, None)
    options = re2.Options()
    options.case_sensitive = False
    options.log_errors = False
    try:
        return Pattern(source, re2.compile(source, options))
    except re2.error as error:
        refused = str(error.args[0].decode("utf-8", "replace") if error.args else error)
    engine, longest = _guarded(source, refused)
    return Pattern(source, engine, longest=longest)


def _guarded(source: str, refused: str) -> tuple[_Engine, int]:
    """The standard library's engine, and the longest text that it may be given."""
    flags = re.IGNORECASE
    body = source
    if body.startswith("(?-i)"):
        body, flags = body[5:], re.RegexFlag(0)
    try:
        longest = longest_text(body, flags)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            compiled = re.compile(body, flags)
    except (re.error, OverflowError, RecursionError):
        raise ValueError(f"the regular expression /{source}/ is not valid: {refused}") from None
    if not longest:
        raise ValueError(
            f"the regular expression /{source}/ nests one unlimited repeat in another or has too many of "
            "them in a row, which can take for ever on a long reply"
        )
    return compiled, longest
