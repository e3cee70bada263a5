"""Pages of something, few of them in memory and the others on a shelf on disk.

The page that was used least lately goes. What lies on the shelf is a copy that this process has made of what
it had worked out from the logs: it is checked when it is read, and what doesn't check out ends the process,
whose successor works it out again. While the disk has no room pages stay in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from mta.errors import Contradiction
from mta.spool.checksum import crc32

__all__ = ["LEAST_PAGES", "NoShelf", "Pages", "Shelf"]

#: So many stay in memory in any case.
LEAST_PAGES = 4

Content = TypeVar("Content")


class Shelf(Protocol):
    """Where octets can be put down for as long as this process lives."""

    def put(self, data: bytes) -> int | None:
        """Put down; returns the place, None when there is no room now."""

    def replace(self, place: int, data: bytes) -> bool:
        """Put other octets, not more, where some lie; False when the disk can't now."""

    def look(self, place: int, size: int) -> bytes:
        """What lies at a place; Contradiction when the disk can't say."""

    def drop(self, place: int, size: int) -> None:
        """It is not needed any more."""


class NoShelf:
    """A shelf without room: what should be put on it stays in memory."""

    def put(self, data: bytes) -> int | None:
        return None

    def replace(self, place: int, data: bytes) -> bool:
        return False

    def look(self, place: int, size: int) -> bytes:
        raise Contradiction("nothing was put here")

    def drop(self, place: int, size: int) -> None:
        pass


class Page:
    """Where a page is on the shelf, if it is there: place, octets that are its own, size and checksum."""

    __slots__ = ("check", "place", "room", "size")

    def __init__(self) -> None:
        self.place = -1
        self.room = self.size = self.check = 0


class Pages(Generic[Content]):
    """Content by number. What `get` returned counts only until the next call: then it may be on the shelf,
    and a change to it is lost."""

    def __init__(
        self,
        shelf: Shelf,
        encode: Callable[[Content], bytes],
        decode: Callable[[bytes], Content],
        most: int = LEAST_PAGES,
    ) -> None:
        """`most` are in memory, if the disk has room for the others."""
        self.most = most
        #: Told when the disk has lost a page; what it returns stands in for it. Without one, `get` raises.
        self.lost: Callable[[Contradiction], Content] | None = None
        self._shelf, self._encode, self._decode = shelf, encode, decode
        self._pages: dict[int, Page] = {}
        self._loaded: dict[int, Content] = {}  # the one used last at the end
        self._last: Content | None = None
        self._changed: set[int] = set()
        self._is_full = False

    def __repr__(self) -> str:
        return f"<Pages {len(self._pages)}, {len(self._loaded)} in memory>"

    def __len__(self) -> int:
        return len(self._pages)

    def __contains__(self, number: int) -> bool:
        return number in self._pages

    def add(self, number: int, content: Content) -> None:
        """A new page."""
        self._pages[number] = Page()
        self._loaded[number] = content
        self._changed.add(number)
        self._put_away()

    def get(self, number: int, *, is_changing: bool = False) -> Content:
        """A page there is, to be looked at, or changed. Contradiction when the disk has lost it."""
        content = self._loaded.pop(number, None)
        if content is None:
            try:
                content = self._read(self._pages[number])
            except Contradiction as error:
                if self.lost is None:
                    raise
                content = self.lost(error)
        self._loaded[number] = self._last = content
        if is_changing:
            self._changed.add(number)
        self._put_away()
        return content

    def holds(self, content: Content) -> bool:
        """Whether this is what `get` returned last, and so counts."""
        return content is self._last

    def remove(self, number: int) -> None:
        """A page is not needed any more."""
        page = self._pages.pop(number)
        self._last = None
        self._loaded.pop(number, None)
        self._changed.discard(number)
        if page.place >= 0:
            self._shelf.drop(page.place, page.room)

    def clear(self) -> None:
        """No page is needed any more."""
        for number in list(self._pages):
            self.remove(number)

    def try_again(self) -> None:
        """The disk may have room again for what it had none for."""
        self._is_full = False
        self._put_away()

    def _read(self, page: Page) -> Content:
        data = self._shelf.look(page.place, page.size)
        if crc32(data) != page.check:
            raise Contradiction("a page of the spool's index is not what was written")
        return self._decode(data)

    def _put_away(self) -> None:
        """Put on the shelf what is too much; the page used last stays."""
        while len(self._loaded) > self.most and not self._is_full:
            number = next(iter(self._loaded))
            if number in self._changed and not self._write(self._pages[number], self._loaded[number]):
                self._is_full = True
                return
            self._changed.discard(number)
            del self._loaded[number]

    def _write(self, page: Page, content: Content) -> bool:
        """Put a page on the shelf, in its old place if it fits; False when the disk has no room."""
        data = self._encode(content)
        if page.place >= 0 and len(data) <= page.room:
            if not self._shelf.replace(page.place, data):
                return False
        else:
            place = self._shelf.put(data)
            if place is None:
                return False
            if page.place >= 0:
                self._shelf.drop(page.place, page.room)
            page.place, page.room = place, len(data)
        page.size, page.check = len(data), crc32(data)
        return True
