"""Text of a configuration file to a tree of lines and blocks; knows shapes, not meanings.

    source 0/0                     Line("source", "0/0", file, 1)
    <domain example.com>           Block("domain", "example.com", file, 2, children=[
        max-smtp-out 20                Line("max-smtp-out", "20", file, 3)])
    </domain>

It never raises: what it can't make sense of becomes a problem with file and line, and reading goes on with
the next line. Quotes stay in values, because only their reader knows whether they enclose words or all of it.

A `#` starts a comment wherever it stands, as in PowerMTA. A line that ends in a comma, and a `domain-macro`
that has only a name, go on in the next line, unless that line is a tag or starts with another directive.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mta.config.problems import Origin, Problems

__all__ = ["Block", "Line", "Node", "parse"]

_TAG = re.compile(r"<\s*(/?)\s*([A-Za-z][A-Za-z0-9_.-]*)")
_BREAKS = re.compile(r"\r\n|\n|\r")

#: No block of the language goes deeper than four; this bounds the recursion of whoever walks the tree.
MAX_DEPTH = 32

#: Tags that may be opened at the end of an entry's line, inside their own kind.
_TRAILING = re.compile(r"\s<\s*(pattern-list)\s*([^<>]*)>$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Line:
    """One directive or list entry: `name` is its first word, `value` the rest, `text` both as written."""

    name: str
    value: str
    file: Path
    number: int
    text: str = ""
    nested: Block | None = None  #: a block opened at the end of the line


@dataclass(frozen=True, slots=True)
class Block:
    """A tag and what it encloses; `argument` may still be quoted."""

    name: str
    argument: str
    file: Path
    number: int
    children: list[Node] = field(default_factory=list)


Node = Line | Block


def parse(text: str, file: Path, problems: Problems, *, is_directive: Callable[[str], bool]) -> list[Node]:
    """The tree of one file. `is_directive` tells known names, to end lists that only look continued."""
    return _Parser(file, problems, is_directive).tree(text)


@dataclass(frozen=True, slots=True)
class _Raw:
    number: int
    text: str


class _Parser:
    def __init__(self, file: Path, problems: Problems, is_directive: Callable[[str], bool]) -> None:
        self._file = file
        self._problems = problems
        self._is_directive = is_directive
        self._top: list[Node] = []
        self._open: list[Block] = []

    def tree(self, text: str) -> list[Node]:
        pending = self._join(self._raw_lines(text))
        for raw in pending:
            if raw.text.endswith("{") and not raw.text.startswith("<"):
                self._skip_braces(raw, pending)
            else:
                self._take(raw)
        for block in reversed(self._open):
            origin = Origin(self._file, block.number)
            self._problems.error(
                origin, f"<{block.name}> is never closed", f"add </{block.name}> where the block ends"
            )
        return self._top

    def _raw_lines(self, text: str) -> Iterator[_Raw]:
        """Non-empty lines without comments and outer blanks."""
        for number, line in enumerate(_BREAKS.split(text.removeprefix("\ufeff")), start=1):
            value, hash_sign, _comment = line.partition("#")
            if "\0" in value:
                self._problems.error(Origin(self._file, number), "the line contains a NUL byte")
                continue
            if hash_sign and value.strip() and not value[-1].isspace() and not value.rstrip().endswith(">"):
                self._problems.warning(
                    Origin(self._file, number),
                    "the value ends at the #, which starts a comment",
                    "put a blank before the comment; in a regular expression write \\x23",
                )
            if stripped := value.strip():
                yield _Raw(number, stripped)

    def _join(self, lines: Iterator[_Raw]) -> Iterator[_Raw]:
        """Put continued lines together; the number is that of the first."""
        held: _Raw | None = None
        for raw in lines:
            if held is not None:
                if raw.text.startswith("<") or self._starts_directive(raw.text):
                    self._problems.warning(Origin(self._file, held.number), "the list ends in a comma")
                    yield _Raw(held.number, held.text.rstrip(", \t"))
                    held = None
                else:
                    raw = _Raw(held.number, f"{held.text} {raw.text}")
            if _goes_on(raw.text):
                held = raw
            else:
                held = None
                yield raw
        if held is not None:
            yield _Raw(held.number, held.text.rstrip(", \t"))

    def _starts_directive(self, text: str) -> bool:
        words = text.split(None, 1)
        return len(words) > 1 and not words[1].startswith(",") and self._is_directive(words[0])

    def _take(self, raw: _Raw) -> None:
        """File one logical line, which may hold a tag and more behind it."""
        rest = raw.text
        while rest:
            tag = _TAG.match(rest)
            if tag is None:
                rest = self._take_directive(raw.number, rest)
                continue
            end = _tag_end(rest, tag.end())
            if end < 0:
                origin = Origin(self._file, raw.number)
                self._problems.error(origin, f"the tag <{tag[1]}{tag[2]} has no closing >")
                return
            argument = rest[tag.end() : end].strip()
            rest = rest[end + 1 :].strip()
            if tag[1]:
                self._close(tag[2], raw.number)
            else:
                self._open_block(Block(tag[2].lower(), argument, self._file, raw.number))

    def _take_directive(self, number: int, text: str) -> str:
        """File a directive; what follows it (the closing tag of a one-line block) is returned."""
        rest = ""
        if self._open:
            closing = re.search(rf"<\s*/\s*{re.escape(self._open[-1].name)}\s*>$", text, re.IGNORECASE)
            if closing is not None:
                text, rest = text[: closing.start()].strip(), closing[0]
        if not text:
            return rest
        trailing = _TRAILING.search(text)
        nested = None
        if trailing is not None:
            nested = Block(trailing[1].lower(), trailing[2].strip(), self._file, number)
            text = text[: trailing.start()].rstrip()
        words = text.split(None, 1)
        line = Line(words[0], words[1] if len(words) > 1 else "", self._file, number, text, nested)
        self._children().append(line)
        if nested is not None:
            self._enter(nested)
        return rest

    def _open_block(self, block: Block) -> None:
        self._children().append(block)
        self._enter(block)

    def _enter(self, block: Block) -> None:
        if len(self._open) >= MAX_DEPTH:
            origin = Origin(self._file, block.number)
            self._problems.error(origin, f"<{block.name}> is inside more than {MAX_DEPTH} other blocks")
            return
        self._open.append(block)

    def _close(self, name: str, number: int) -> None:
        origin = Origin(self._file, number)
        names = [block.name for block in self._open]
        if name.lower() not in names:
            inside = f" (inside <{names[-1]}>)" if names else ""
            self._problems.error(origin, f"</{name}> closes nothing{inside}")
            return
        while self._open:
            block = self._open.pop()
            if block.name == name.lower():
                return
            self._problems.error(
                Origin(self._file, block.number),
                f"<{block.name}> is not closed before </{name}> in line {number}",
                f"add </{block.name}>",
            )

    def _children(self) -> list[Node]:
        return self._open[-1].children if self._open else self._top

    def _skip_braces(self, first: _Raw, pending: Iterator[_Raw]) -> None:
        name = first.text.split()[0]
        self._problems.warning(
            Origin(self._file, first.number),
            "blocks in braces don't exist in this language: it is ignored, up to the closing brace",
            f"write <{name} ...> and </{name}>",
        )
        for raw in pending:
            if raw.text == "}":
                return


def _goes_on(text: str) -> bool:
    if text.startswith("<"):
        return False
    words = text.split()
    return text.endswith(",") or (words[0].lower() == "domain-macro" and len(words) == 2)


def _tag_end(text: str, start: int) -> int:
    """Index of the > that ends the tag whose name ends at `start`; -1 when there is none."""
    if text[start:].lstrip().startswith("|"):
        return text.rfind(">")  # a command may redirect its output
    is_quoted = False
    for index in range(start, len(text)):
        char = text[index]
        if char == '"':
            is_quoted = not is_quoted
        elif char == ">" and not is_quoted:
            return index
    return -1
