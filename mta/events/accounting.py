"""Accounting records: an event becomes one CSV line in PowerMTA's columns (docs/accounting.md).

Pure. A `Format` belongs to one file: it knows the union of the columns of all its record types, and for each
type a ready-made row of functions, one a column. Formatting is the events process's hot path.

    d b t   delivered, bounced, deferred      tq   a whole queue deferred
    r       received (in a reject log: c refused connection, r refused recipient or message)

A record is always one line: control characters in hostile replies become blanks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from operator import attrgetter, itemgetter

from mta.message.event import Event
from mta.smtp.status import describe

__all__ = [
    "ACCOUNTING_COLUMNS",
    "OPTIONAL_COLUMNS",
    "REJECT_COLUMNS",
    "Format",
    "FormatOptions",
    "HeaderMapping",
    "column_names",
    "iso_time",
    "record_type",
]


def names(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


_DELIVERY = names(
    "timeLogged,timeQueued,orig,rcpt,orcpt,dsnAction,dsnStatus,dsnDiag,dsnMta,bounceCat,srcType,srcMta,dlvType,"
    "dlvSourceIp,dlvDestinationIp,dlvEsmtpAvailable,dlvSize,vmta,jobId,envId,queue,vmtaPool"
)

#: Default columns behind `type`, by record type.
ACCOUNTING_COLUMNS = {
    "d": _DELIVERY,
    "b": _DELIVERY,
    "t": _DELIVERY,
    "tq": names("timeLogged,dsnStatus,dsnDiag,dsnMta,dlvType,dlvSourceIp,dlvDestinationIp,vmta,queue"),
    "r": names(
        "timeLogged,orig,rcpt,orcpt,srcType,srcMta,rcvSourceIp,rcvDestinationIp,vmta,jobId,envId,vmtaPool"
    ),
}
#: The same for a reject log, whose types are spelt `c` and `r` in the file.
REJECT_COLUMNS = {
    "C": names("timeLogged,rcvSourceIp,rcvDestinationIp,dsnStatus,dsnDiag,reason"),
    "R": names(
        "timeLogged,rcvSourceIp,rcvDestinationIp,srcMta,rcvSmtpUser,orig,rcpt,dsnStatus,dsnDiag,reason"
    ),
}
#: Known, but only there when they are asked for by name. `timeImprinted` is accepted and stays empty.
OPTIONAL_COLUMNS = (
    "totalSecondsQueued",
    "timeFirstAttempt",
    "timeImprinted",
    "userString",
    "dlvTlsProtocol",
    "dlvTlsCipher",
    "rcvSmtpUser",
    "queueId",
    "recordId",
)

_LONG_NAMES = {
    "delivery": "d",
    "bounce": "b",
    "transient": "t",
    "transient-queue": "tq",
    "receipt": "r",
    "received": "r",
    "remote-bounce": "rb",
    "remote-status": "rs",
    "feedback-loop": "f",
}

Cell = Callable[[Event], str]


@dataclass(frozen=True, slots=True)
class HeaderMapping:
    """`map-header-to-field`: a header (lower case) that replaces a column where the message has it."""

    type: str
    header: str
    column: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FormatOptions:
    """What an `<acct-file>` or `<rejectlog-file>` block says about its lines.

    `types` are event types in the order written (C and R for a reject log). `fields` holds the value of
    `record-fields` by type; types without one have their default columns.
    """

    types: tuple[str, ...] = ("d", "b")
    fields: Mapping[str, Sequence[str]] = field(default_factory=dict)
    mappings: tuple[HeaderMapping, ...] = ()
    iso_times: bool = True
    user_string: str = ""
    line_end: str = "\n"


def record_type(name: str) -> str:
    """The type for a short or long name of a record; "" when there is none such."""
    lowered = name.strip().lower()
    found = _LONG_NAMES.get(lowered, lowered)
    return found if found in ACCOUNTING_COLUMNS or found in ("rb", "rs", "f") else ""


def column_names(default: Sequence[str], entries: Iterable[str]) -> tuple[str, ...]:
    """What `record-fields` chooses: `*` all of the default, `!x` without x, anything else by name.

    The order is that written; a name that is there twice counts where it comes first.
    """
    chosen: dict[str, None] = {}
    without: set[str] = set()
    for entry in (entry.strip() for entry in entries):
        if entry == "*":
            chosen.update(dict.fromkeys(default))
        elif entry.startswith("!"):
            without.add(entry[1:].strip().lower())
        elif entry:
            chosen.setdefault(spelling(entry))
    return tuple(name for name in chosen if name.lower() not in without)


def spelling(name: str) -> str:
    """A column's name as we spell it, whatever case it was asked for in; headers keep theirs."""
    return _SPELLINGS.get(name.lower(), name)


class Format:
    """The lines of one file."""

    def __init__(self, options: FormatOptions) -> None:
        self.options = options
        self.unknown: list[str] = []  # columns that nobody can fill; they stay empty
        columns = {kind: self._columns(kind) for kind in options.types}
        union = dict.fromkeys(name for names in columns.values() for name in names)
        self.columns = ("type", *union)
        self.header = (",".join(map(quoted, self.columns)) + options.line_end).encode()
        self._rows = {
            kind: Row(self._row(kind, set(names)), options.line_end) for kind, names in columns.items()
        }

    def __repr__(self) -> str:
        return f"<Format {','.join(self.options.types)} columns={len(self.columns)}>"

    @property
    def types(self) -> frozenset[str]:
        """Event types that have lines here."""
        return frozenset(self._rows)

    def line(self, event: Event) -> str:
        """The event's line with its line end; "" when its type is not for this file. Hot path."""
        row = self._rows.get(event.type)
        return "" if row is None else row.line(event)

    def _columns(self, kind: str) -> tuple[str, ...]:
        default = ACCOUNTING_COLUMNS.get(kind) or REJECT_COLUMNS.get(kind) or ()
        entries = self.options.fields.get(kind)
        return default if entries is None else column_names(default, entries)

    def _row(self, kind: str, names: set[str]) -> tuple[Cell, ...]:
        cells: list[Cell] = [constant(kind.lower())]
        for name in self.columns[1:]:
            cell = self._cell(kind, name) if name in names else constant("")
            cells.append(cell)
        return tuple(cells)

    def _cell(self, kind: str, name: str) -> Cell:
        cell = self._plain_cell(kind, name)
        headers = [
            mapping.header
            for mapping in self.options.mappings
            if mapping.type == kind and mapping.column == name and kind != "tq"
        ]
        return mapped(headers, cell) if headers else cell

    def _plain_cell(self, kind: str, name: str) -> Cell:
        if name in _TIMES:
            return time_cell(_TIMES[name], iso=self.options.iso_times)
        if name.lower().startswith("header_"):
            return header_cell(name[7:].lower())
        if name == "userString":
            return constant(quoted(self.options.user_string))
        if kind == "b" and name == "dlvSize":
            return constant("")
        cell = _CELLS.get(name)
        if cell is None:
            if name not in self.unknown:
                self.unknown.append(name)
            return constant("")
        return cell


class Row:
    """How the line of one record type is made of an event.

    Nearly all cells are texts that stand there as they are. They are fetched together and looked at together:
    when none has anything that needs quotes or cleaning, only the other cells are asked one by one.
    """

    __slots__ = ("_cells", "_end", "_order", "_others", "_texts")

    def __init__(self, cells: Sequence[Cell], line_end: str) -> None:
        self._cells = cells
        self._end = line_end
        texts = [cell.attribute for cell in cells if isinstance(cell, TextCell)]
        self._others = [cell for cell in cells if not isinstance(cell, TextCell)]
        self._texts = attrgetter(*texts) if len(texts) > 1 else None
        text, other = 0, len(texts)
        places = []
        for cell in cells:
            if isinstance(cell, TextCell):
                places.append(text)
                text += 1
            else:
                places.append(other)
                other += 1
        self._order = itemgetter(*places) if len(places) > 1 else tuple

    def line(self, event: Event) -> str:
        """The line with its end. Hot path."""
        if self._texts is not None:
            texts: tuple[str, ...] = self._texts(event)
            together = "".join(texts)
            # Whatever `quoted` would change is one of these or can't be printed.
            if together.isprintable() and "," not in together and '"' not in together:
                return (
                    ",".join(self._order(texts + tuple([cell(event) for cell in self._others]))) + self._end
                )
        return ",".join([cell(event) for cell in self._cells]) + self._end


# --- cells

#: What makes a value need quotes, or cleaning first.
_awkward = re.compile('[",\x00-\x1f\x7f\x80-\x9f\u2028\u2029]').search
_control = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def quoted(value: str) -> str:
    """A value as RFC 4180 wants it, on one line."""
    if not _awkward(value):
        return value
    cleaned = _control.sub(" ", value)
    if '"' in cleaned or "," in cleaned:
        return '"' + cleaned.replace('"', '""') + '"'
    return cleaned


#: The same for values of which there are few, and which often need it.
quoted_again = lru_cache(maxsize=4096)(quoted)
described = lru_cache(maxsize=1024)(lambda code: quoted(describe(code)))


@lru_cache(maxsize=4096)
def iso_time(seconds: int) -> str:
    """Epoch seconds as local time with its offset from UTC: `2019-02-08 21:54:05+0000`."""
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S%z")


def constant(value: str) -> Cell:
    return lambda event: value


def time_cell(attribute: str, *, iso: bool) -> Cell:
    """A time; empty when it is not known."""
    get = attrgetter(attribute)
    shown: Callable[[int], str] = iso_time if iso else str

    def cell(event: Event) -> str:
        seconds = get(event)
        return shown(int(seconds)) if seconds else ""

    return cell


class TextCell:
    """A text, quoted where that is needed."""

    __slots__ = ("_get", "attribute")

    def __init__(self, attribute: str) -> None:
        self.attribute = attribute
        self._get = attrgetter(attribute)

    def __call__(self, event: Event) -> str:
        value: str = self._get(event)
        return quoted(value) if _awkward(value) else value


def repeated_cell(attribute: str) -> Cell:
    get = attrgetter(attribute)
    return lambda event: quoted_again(get(event))


def header_cell(name: str) -> Cell:
    return lambda event: quoted(event.captured.get(name, ""))


def mapped(headers: Sequence[str], otherwise: Cell) -> Cell:
    """The first of the headers that the message has, else what the column holds anyway."""

    def cell(event: Event) -> str:
        for name in headers:
            value = event.captured.get(name)
            if value:
                return quoted(value)
        return otherwise(event)

    return cell


def seconds_queued(event: Event) -> str:
    return str(max(0, int(event.time_logged - event.time_queued))) if event.time_queued else ""


_TIMES = {"timeLogged": "time_logged", "timeQueued": "time_queued", "timeFirstAttempt": "time_first_attempt"}

_CELLS: Mapping[str, Cell] = {
    "orig": TextCell("originator"),
    "rcpt": TextCell("recipient"),
    "orcpt": TextCell("orcpt"),
    "dsnAction": TextCell("dsn_action"),
    "dsnStatus": lambda event: described(event.dsn_status),
    "dsnDiag": TextCell("dsn_diag"),
    "dsnMta": TextCell("dsn_mta"),
    "bounceCat": TextCell("bounce_category"),
    "srcType": TextCell("source_type"),
    "srcMta": TextCell("source_mta"),
    "dlvType": TextCell("delivery_type"),
    "dlvSourceIp": TextCell("delivery_source_ip"),
    "dlvDestinationIp": TextCell("delivery_destination_ip"),
    "dlvEsmtpAvailable": repeated_cell("esmtp"),
    "dlvSize": lambda event: str(event.size) if event.size else "",
    "vmta": TextCell("vmta"),
    "jobId": TextCell("job_id"),
    "envId": TextCell("envelope_id"),
    "queue": TextCell("queue"),
    "vmtaPool": TextCell("vmta_pool"),
    "rcvSourceIp": TextCell("received_source_ip"),
    "rcvDestinationIp": TextCell("received_destination_ip"),
    "rcvSmtpUser": TextCell("source_user"),
    "dlvTlsProtocol": TextCell("tls_protocol"),
    "dlvTlsCipher": TextCell("tls_cipher"),
    "totalSecondsQueued": seconds_queued,
    "timeImprinted": constant(""),
    "queueId": TextCell("queue_id"),
    "recordId": TextCell("event_id"),
    "reason": TextCell("text"),
}

_SPELLINGS = {
    name.lower(): name
    for columns in (*ACCOUNTING_COLUMNS.values(), *REJECT_COLUMNS.values(), OPTIONAL_COLUMNS)
    for name in columns
}
