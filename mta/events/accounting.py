"""Accounting records: an event becomes one CSV line in PowerMTA's columns (docs/accounting.md).

Pure. A `Format` belongs to one file: it knows the union of the columns of all its record types, and for each
type a ready-made list of columns. A batch of events is turned sideways, into the values of each field, and a
column makes its cells from those of one of them: what is decided once a batch (does any of these texts need
quotes?) need not be decided for each event, and no instruction of ours is executed per cell. Formatting is
the events process's hot path.

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
from operator import itemgetter
from typing import Any, TypeVar

from mta.message.event import EVENT_FIELDS, Event, EventValues, values_of
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

T = TypeVar("T")

#: The values that the events of a batch have in each field, in the order of the fields.
Fields = Sequence[Sequence[Any]]
#: The cells of a column for events of one record type, as they stand in the file.
Column = Callable[[Fields], Sequence[str]]


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
        self._rows = {kind: self._row(kind, set(names)) for kind, names in columns.items()}

    def __repr__(self) -> str:
        return f"<Format {','.join(self.options.types)} columns={len(self.columns)}>"

    @property
    def types(self) -> frozenset[str]:
        """Event types that have lines here."""
        return frozenset(self._rows)

    def line(self, event: Event) -> str:
        """The event's line with its line end; "" when its type is not for this file."""
        return self.text(self.lines([values_of(event)]))

    def lines(self, events: Sequence[EventValues]) -> list[str]:
        """A line without its end for each event whose type is for this file, in their order. Hot path."""
        kinds = list(map(_type_of, events))
        present = set(kinds)
        if len(present) == 1:
            return self._lines_of(kinds[0], events)
        by_kind = {
            kind: iter(self._lines_of(kind, [event for event in events if _type_of(event) == kind]))
            for kind in present & self._rows.keys()
        }
        return [next(by_kind[kind]) for kind in kinds if kind in by_kind]

    def text(self, lines: Sequence[str]) -> str:
        """The lines as they stand in the file: each with its end."""
        end = self.options.line_end
        return end.join(lines) + end if lines else ""

    def _lines_of(self, kind: str, events: Sequence[EventValues]) -> list[str]:
        """The lines of events that all have this type."""
        row = self._rows.get(kind)
        if row is None:
            return []
        fields = list(zip(*events, strict=True))
        return list(map(",".join, zip(*[column(fields) for column in row], strict=True)))

    def _columns(self, kind: str) -> tuple[str, ...]:
        default = ACCOUNTING_COLUMNS.get(kind) or REJECT_COLUMNS.get(kind) or ()
        entries = self.options.fields.get(kind)
        return default if entries is None else column_names(default, entries)

    def _row(self, kind: str, names: set[str]) -> tuple[Column, ...]:
        """What makes the cells of each column for events of this type."""
        cells = [self._cells(kind, name) if name in names else constant("") for name in self.columns[1:]]
        return (constant(kind.lower()), *cells)

    def _cells(self, kind: str, name: str) -> Column:
        column = self._plain_cells(kind, name)
        headers = [
            mapping.header
            for mapping in self.options.mappings
            if mapping.type == kind and mapping.column == name and kind != "tq"
        ]
        return mapped(headers, column) if headers else column

    def _plain_cells(self, kind: str, name: str) -> Column:
        if name in _TIMES:
            return times(_TIMES[name], iso=self.options.iso_times)
        if name.lower().startswith("header_"):
            return header(name[7:].lower())
        if name == "userString":
            return constant(quoted(self.options.user_string))
        if kind == "b" and name == "dlvSize":
            return constant("")
        column = _CELLS.get(name)
        if column is None:
            if name not in self.unknown:
                self.unknown.append(name)
            return constant("")
        return column


# --- columns

_type_of = itemgetter(0)
_TIME_LOGGED = EVENT_FIELDS.index("time_logged")
_TIME_QUEUED = EVENT_FIELDS.index("time_queued")
_SIZE = EVENT_FIELDS.index("size")
_CAPTURED = EVENT_FIELDS.index("captured")

#: What makes a value need quotes, or cleaning first.
_awkward = re.compile('[",\x00-\x1f\x7f\x80-\x9f\u2028\u2029]').search
_control = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
#: The ASCII characters that never make a value awkward.
_PLAIN = bytes(set(range(0x20, 0x7F)) - set(b'",'))


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


def constant(value: str) -> Column:
    return lambda fields: [value] * len(fields[0])


def times(name: str, *, iso: bool) -> Column:
    """Times; empty where they are not known."""
    place = EVENT_FIELDS.index(name)
    shown: Callable[[int], str] = iso_time if iso else str

    def column(fields: Fields) -> Sequence[str]:
        seconds: Sequence[float] = fields[place]
        first, last = int(min(seconds)), int(max(seconds))
        if 0 < first == last:
            return [shown(first)] * len(seconds)  # as in most batches
        if all(seconds):
            return once_each(shown, list(map(int, seconds)))
        return [shown(int(second)) if second else "" for second in seconds]

    return column


def texts(name: str) -> Column:
    """Texts, quoted where that is needed; in nearly all batches none needs it, which one look tells."""
    place = EVENT_FIELDS.index(name)

    def column(fields: Fields) -> Sequence[str]:
        values: Sequence[str] = fields[place]
        together = "".join(values)
        if together.isascii() and not together.encode("ascii").translate(None, _PLAIN):
            return values
        return list(map(quoted, values))

    return column


def repeated(name: str, shown: Callable[[str], str]) -> Column:
    """Texts of which there are few, as a function shows them."""
    place = EVENT_FIELDS.index(name)
    return lambda fields: once_each(shown, fields[place])


def once_each(shown: Callable[[T], str], values: Sequence[T]) -> Sequence[str]:
    """What `shown` makes of the values, asked once for those that are equal."""
    found = {value: shown(value) for value in set(values)}
    return list(map(found.__getitem__, values))


def sizes(fields: Fields) -> Sequence[str]:
    """Octets of the message; empty where they are not known."""
    return [str(size) if size else "" for size in fields[_SIZE]]


def header(name: str) -> Column:
    return lambda fields: [quoted(captured.get(name, "")) for captured in fields[_CAPTURED]]


def mapped(headers: Sequence[str], otherwise: Column) -> Column:
    """The first of the headers that the message has, else what the column holds anyway."""

    def column(fields: Fields) -> Sequence[str]:
        return [
            quoted(next(filter(None, map(captured.get, headers)), "")) or cell
            for captured, cell in zip(fields[_CAPTURED], otherwise(fields), strict=True)
        ]

    return column


def seconds_queued(fields: Fields) -> Sequence[str]:
    return [
        str(max(0, int(logged - queued))) if queued else ""
        for logged, queued in zip(fields[_TIME_LOGGED], fields[_TIME_QUEUED], strict=True)
    ]


_TIMES = {"timeLogged": "time_logged", "timeQueued": "time_queued", "timeFirstAttempt": "time_first_attempt"}

_CELLS: Mapping[str, Column] = {
    "orig": texts("originator"),
    "rcpt": texts("recipient"),
    "orcpt": texts("orcpt"),
    "dsnAction": texts("dsn_action"),
    "dsnStatus": repeated("dsn_status", described),
    "dsnDiag": texts("dsn_diag"),
    "dsnMta": texts("dsn_mta"),
    "bounceCat": texts("bounce_category"),
    "srcType": texts("source_type"),
    "srcMta": texts("source_mta"),
    "dlvType": texts("delivery_type"),
    "dlvSourceIp": texts("delivery_source_ip"),
    "dlvDestinationIp": texts("delivery_destination_ip"),
    "dlvEsmtpAvailable": repeated("esmtp", quoted_again),
    "dlvSize": sizes,
    "vmta": texts("vmta"),
    "jobId": texts("job_id"),
    "envId": texts("envelope_id"),
    "queue": texts("queue"),
    "vmtaPool": texts("vmta_pool"),
    "rcvSourceIp": texts("received_source_ip"),
    "rcvDestinationIp": texts("received_destination_ip"),
    "rcvSmtpUser": texts("source_user"),
    "dlvTlsProtocol": texts("tls_protocol"),
    "dlvTlsCipher": texts("tls_cipher"),
    "totalSecondsQueued": seconds_queued,
    "timeImprinted": constant(""),
    "queueId": texts("queue_id"),
    "recordId": texts("event_id"),
    "reason": texts("text"),
}

_SPELLINGS = {
    name.lower(): name
    for columns in (*ACCOUNTING_COLUMNS.values(), *REJECT_COLUMNS.values(), OPTIONAL_COLUMNS)
    for name in columns
}
