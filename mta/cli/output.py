"""How commands speak: tables on a terminal, plain columns in a pipe, PowerMTA's envelopes for programs.

Plain tables have two header lines (names and a rule) and two footer lines (a rule and a sentence), because
monitors of PowerMTA skip exactly those.
"""

from __future__ import annotations

import datetime
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click

from mta.cli.machine import render

__all__ = ["Column", "Output", "ago", "bytes_in_words", "counted", "in_future", "moment", "print_dialogue"]


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its heading, and whether it holds numbers (which line up at the right)."""

    heading: str
    is_number: bool = False


class Output:
    """Where a command's results go; `as_json` suppresses everything but one answer for programs.

    `form` is that answer's: json, xml or dom (`machine.py`).
    """

    def __init__(self, *, as_json: bool = False, form: str = "json") -> None:
        self.as_json = as_json
        self.form = form

    def json(self, data: Any, *, message: str = "", is_success: bool = True) -> None:
        """The whole answer: {"data": ..., "status": "success", "message": ""}, or the same in XML or DOM."""
        indent = 2 if sys.stdout.isatty() else None
        click.echo(render(self.form, data, message=message, is_success=is_success, indent=indent))

    def table(self, columns: Sequence[Column], rows: Iterable[Sequence[object]], *, footer: str = "") -> None:
        """Rows below headings; the last column may be as wide as it likes."""
        cells = [[str(cell) for cell in row] for row in rows]
        if sys.stdout.isatty():
            self._rich(columns, cells, footer)
        else:
            self._plain(columns, cells, footer)

    def rows(
        self, data: Any, columns: Sequence[Column], rows: Iterable[Sequence[object]], *, footer: str = ""
    ) -> None:
        """`data` for a program, a table of `rows` for people; `rows` are only looked at then."""
        if self.as_json:
            self.json(data)
        else:
            self.table(columns, rows, footer=footer)

    def pairs(self, pairs: Mapping[str, object] | Iterable[tuple[str, object]]) -> None:
        """`name  value` lines."""
        items = list(pairs.items() if isinstance(pairs, Mapping) else pairs)
        width = max((len(name) for name, _value in items), default=0)
        for name, value in items:
            click.echo(f"{name:<{width}}  {value}".rstrip())

    def say(self, text: str) -> None:
        """A sentence for people; nothing with `--json`."""
        if not self.as_json:
            click.echo(text)

    def _plain(self, columns: Sequence[Column], cells: list[list[str]], footer: str) -> None:
        headings = [column.heading for column in columns]
        widths = [max(map(len, column)) for column in zip(headings, *cells, strict=True)]

        def line(texts: Sequence[str]) -> str:
            aligned = (
                text.rjust(width) if column.is_number else text.ljust(width)
                for text, width, column in zip(texts, widths, columns, strict=True)
            )
            return "  ".join(aligned).rstrip()

        rule = "  ".join("-" * width for width in widths)
        click.echo("\n".join([line(headings), rule, *map(line, cells)]))
        if footer:
            click.echo(f"{rule}\n{footer}")

    def _rich(self, columns: Sequence[Column], cells: list[list[str]], footer: str) -> None:
        # Imported here: it takes longer to load than most commands take to run.
        from rich.box import SIMPLE_HEAD
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        for column in columns:
            table.add_column(
                column.heading, justify="right" if column.is_number else "left", no_wrap=column.is_number
            )
        for row in cells:
            table.add_row(*(Text(cell) for cell in row))
        console = Console(highlight=False)
        console.print(table)
        if footer:
            console.print(Text(footer, style="dim"))


def counted(number: int, word: str) -> str:
    """`1 queue`, `2 queues`."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def bytes_in_words(size: int) -> str:
    """About how many bytes: `512`, `79.4G`."""
    amount, unit = float(size), ""
    for larger in ("K", "M", "G", "T"):
        if amount < 1024:
            break
        amount, unit = amount / 1024, larger
    return f"{amount:.1f}{unit}" if unit else str(size)


def moment(epoch: float) -> str:
    """Local date and time of `epoch`; '-' for 0."""
    if not epoch:
        return "-"
    return datetime.datetime.fromtimestamp(epoch).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def print_dialogue(lines: Iterable[Mapping[str, Any]]) -> None:
    """What was said on a connection, each line with its time."""
    for line in lines:
        click.echo(f"{moment(line['time'])[11:]}  {line['text']}")


def ago(seconds: float) -> str:
    """A length of time as `show status` prints it: `3 04:05:06` (days, hours, minutes, seconds)."""
    minutes, second = divmod(max(0, int(seconds)), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    return f"{days} {hour:02}:{minute:02}:{second:02}"


def in_future(epoch: float, now: float) -> str:
    """How long until `epoch`: `in 4m12s`, `now`; '-' for 0."""
    if not epoch:
        return "-"
    rest = int(epoch - now)
    if rest <= 0:
        return "now"
    parts = []
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, length)
        if count:
            parts.append(f"{count}{unit}")
    return "in " + "".join(parts[:2])
