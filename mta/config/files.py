"""The only module of this package that touches files: the main file, its includes, and what they refer to.

An `include` is replaced by the tree of its files, where it stands: at top level or inside a block. Relative
names are looked up beside the file that includes them, globs in sorted order.

What was read can be kept (`Reading`) and read again, by a process that is started later: it then has the same
configuration, whatever somebody has typed into the files meanwhile.
"""

from __future__ import annotations

import errno
import glob
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from mta.config.problems import Origin, Problems
from mta.config.quoting import unquote
from mta.config.syntax import Block, Line, Node, parse

__all__ = ["Reading", "Tree", "read_tree", "tree_of", "why_unreadable"]

#: A chain of includes longer than this is a mistake even without a loop.
MAX_DEPTH = 32


class Reading:
    """The files of one configuration as they were found; one that was kept never looks at the disk."""

    def __init__(self) -> None:
        self.is_kept = False
        self._contents: dict[str, bytes] = {}
        self._listings: dict[str, list[str]] = {}

    def read(self, path: Path) -> bytes:
        """The content of a file. Raises OSError."""
        name = str(path)
        if self.is_kept:
            if name not in self._contents:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
            return self._contents[name]
        content = self._contents[name] = path.read_bytes()
        return content

    def matching(self, pattern: str) -> list[str]:
        """The files that match a glob, sorted. Raises OSError and ValueError."""
        if not self.is_kept:
            names = sorted(glob.glob(pattern))
            self._listings[pattern] = [name for name in names if not os.path.isdir(name)]
        return self._listings.get(pattern, [])

    def encode(self) -> bytes:
        """For another process."""
        return msgspec.msgpack.encode((self._contents, self._listings))

    @classmethod
    def decode(cls, encoded: bytes) -> Reading:
        """What `encode` gave. Raises ValueError for anything else."""
        reading = cls()
        reading.is_kept = True
        shape = tuple[dict[str, bytes], dict[str, list[str]]]
        reading._contents, reading._listings = msgspec.msgpack.decode(encoded, type=shape)
        return reading


@dataclass(frozen=True, slots=True)
class Tree:
    """What all files say together, and which files those were (the main file first)."""

    nodes: list[Node]
    files: tuple[Path, ...]


def read_tree(
    path: Path, problems: Problems, *, is_directive: Callable[[str], bool], reading: Reading | None = None
) -> Tree:
    """Read the main file and all it includes; unreadable files become problems."""
    reader = _Reader(problems, is_directive, reading or Reading())
    nodes = reader.file(path, Origin(path, 0), ())
    return Tree(nodes, tuple(reader.files))


def tree_of(
    text: str, directory: Path, problems: Problems, *, is_directive: Callable[[str], bool], name: str
) -> Tree:
    """The tree of a text that is in no file; its includes are looked up in `directory`."""
    reader = _Reader(problems, is_directive, Reading())
    file = directory / name
    return Tree(reader.text(text, file, (file,)), (file, *reader.files))


def why_unreadable(path: Path) -> str:
    """Why this process can't read the file `path`: 'no such file', 'permission denied', ...; '' if it can."""
    try:
        with open(path, "rb"):
            return ""
    except OSError as error:
        return _reason(error)


class _Reader:
    def __init__(self, problems: Problems, is_directive: Callable[[str], bool], reading: Reading) -> None:
        self._problems = problems
        self._is_directive = is_directive
        self._reading = reading
        self.files: list[Path] = []

    def file(self, path: Path, origin: Origin, within: tuple[Path, ...]) -> list[Node]:
        if path not in self.files:
            self.files.append(path)
        try:
            content = self._reading.read(path)
        except OSError as error:
            self._problems.error(origin, f"cannot read {path}: {_reason(error)}")
            return []
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            self._problems.warning(
                Origin(path, line), "the file is not UTF-8; it is read as Latin-1 instead", "save it as UTF-8"
            )
            text = content.decode("latin-1")
        return self.text(text, path, (*within, path))

    def text(self, text: str, path: Path, within: tuple[Path, ...]) -> list[Node]:
        nodes = parse(text, path, self._problems, is_directive=self._is_directive)
        return self._expanded(nodes, within)

    def _expanded(self, nodes: list[Node], within: tuple[Path, ...]) -> list[Node]:
        found: list[Node] = []
        for node in nodes:
            if isinstance(node, Block):
                found.append(replace(node, children=self._expanded(node.children, within)))
            elif node.name.lower() == "include":
                found += self._include(node, within)
            elif node.nested is not None:
                nested = replace(node.nested, children=self._expanded(node.nested.children, within))
                found.append(replace(node, nested=nested))
            else:
                found.append(node)
        return found

    def _include(self, line: Line, within: tuple[Path, ...]) -> list[Node]:
        origin = Origin(line.file, line.number)
        try:
            name = unquote(line.value)
        except ValueError as error:
            self._problems.error(origin, str(error))
            return []
        if not name:
            self._problems.error(origin, "include needs the name of a file")
            return []
        if name.startswith(("http://", "https://")):
            self._problems.error(origin, "configuration can't be included from a URL", "copy it to a file")
            return []
        paths = self._matching(line.file.parent / name, origin)
        nodes: list[Node] = []
        for path in paths:
            if path.resolve() in [earlier.resolve() for earlier in within]:
                chain = " → ".join(str(file) for file in (*within, path))
                self._problems.error(origin, f"{path} includes itself: {chain}")
            elif len(within) >= MAX_DEPTH:
                self._problems.error(origin, f"includes are nested more than {MAX_DEPTH} deep")
            else:
                nodes += self.file(path, origin, within)
        return nodes

    def _matching(self, path: Path, origin: Origin) -> list[Path]:
        if not glob.has_magic(str(path)):
            return [path]
        try:
            files = [Path(name) for name in self._reading.matching(str(path))]
        except (OSError, ValueError) as error:
            self._problems.error(origin, f"cannot list {path}: {error}")
            return []
        if not files:
            self._problems.warning(origin, f"no file matches {path}")
        return files


def _reason(error: OSError) -> str:
    if error.errno == errno.ENOENT:
        return "no such file"
    return (error.strerror or str(error)).lower()
