"""A bar on a terminal, a line every tenth otherwise."""

from __future__ import annotations

import sys
from typing import TextIO

__all__ = ["Progress"]

_WIDTH = 30


class Progress:
    """How far an engine is; `step` after each round."""

    def __init__(self, stream: TextIO = sys.stderr) -> None:
        self._stream = stream
        self._is_terminal = stream.isatty()
        self._title, self._total, self._done, self._said = "", 0, 0, -1

    def begin(self, title: str, total: int) -> None:
        """A new bar of `total` steps."""
        self._title, self._total, self._done, self._said = title, total, 0, -1
        self.step(0)

    def step(self, count: int = 1, text: str = "") -> None:
        """`count` more are done; `text` says what is going on."""
        self._done += count
        share = self._done / self._total if self._total else 1.0
        line = f"{self._title:12} {self._done:6}/{self._total:<6} {text}"
        if self._is_terminal:
            bar = "█" * int(share * _WIDTH)
            self._stream.write(f"\r\x1b[K{bar:{_WIDTH}} {line}")
            if self._done >= self._total:
                self._stream.write("\n")
        elif int(share * 10) > self._said:
            self._said = int(share * 10)
            self._stream.write(line.rstrip() + "\n")
        self._stream.flush()
