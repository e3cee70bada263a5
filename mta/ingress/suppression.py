"""Recipients that a source may not write to: the `<address-list>`s of its `suppression-lists`.

Files are read when the configuration is; one that can't be read makes its list refuse everybody for now,
because mail to a suppressed recipient can't be called back.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from mta.config.addressing import AddressBook
from mta.config.snapshot import Snapshot
from mta.smtp.address import split_domain
from mta.smtp.reply import Reply

__all__ = ["INVALID_QUEUE", "SUPPRESSED_QUEUE", "Suppression", "invalid_address"]

log = logging.getLogger(__name__)

#: Queues of recipients that were accepted in order to bounce: no mail leaves from them.
INVALID_QUEUE = "{invalid}"
SUPPRESSED_QUEUE = "{suppressed}"

_SUPPRESSED = Reply(550, "5.7.1 Recipient is on a suppression list", "5.7.1")
_UNREADABLE = Reply(451, "4.3.5 The suppression list can't be read, try again later", "4.3.5")


class _List:
    """One list with its files."""

    def __init__(self, book: AddressBook) -> None:
        self.is_readable = True
        self._entries = set(book.addresses)
        self._domains = book.domains
        self._regexes = book.regexes
        for name in book.files:
            self._read(Path(name))

    def _read(self, path: Path) -> None:
        try:
            with path.open(encoding="utf-8", errors="surrogateescape") as file:
                for line in file:
                    entry = line.strip().lower()
                    if entry and not entry.startswith("#"):
                        self._entries.add(entry)
        except OSError as error:
            log.error("address-file %s: %s", path, error.strerror)
            self.is_readable = False

    def has(self, address: str) -> bool:
        low = address.lower()
        local, _, domain = low.rpartition("@")
        return (
            low in self._entries
            or local in self._entries
            or domain in self._domains
            or split_domain(low) in self._domains
            or any(regex.search(low) for regex in self._regexes)
        )


class Suppression:
    """The lists of one configuration that some source uses."""

    def __init__(self, snapshot: Snapshot) -> None:
        wanted = {
            name.strip()
            for line in snapshot.written
            if line.directive.name == "suppression-lists"
            for name in line.value.strip('"').split(",")
        }
        self._lists = {name: _List(book) for name, book in snapshot.address_books.items() if name in wanted}

    def refusal(self, names: Sequence[str], address: str) -> Reply | None:
        """Why nobody with these lists may write to this address; None when it stands on none of them."""
        for name in names:
            found = self._lists.get(name)
            if found is None:
                continue
            if not found.is_readable:
                return _UNREADABLE
            if found.has(address):
                return _SUPPRESSED
        return None


def invalid_address(argument: bytes) -> str:
    """What somebody wrote where an address should be, as text that can stand in records and reports."""
    text, _, _ = argument.strip(b" <").partition(b">")
    shown = text[:256].decode("utf-8", "replace").strip()
    return "".join(char for char in shown if char.isprintable() and char not in '"\\<>') or "(empty)"
