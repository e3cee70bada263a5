"""The names of shares that a worker has, or has had lately: what recognises a share that comes again.

A colleague that heard no answer keeps a copy and offers it later, perhaps only after both of us have been
ended and started. A name that outlived what happened to its share would lose mail, a name that is missing can
only repeat some. So each name is kept with its message, and goes with it: when another worker has taken the
share from us, or when the message turns out to be damaged.

Over an end in good order go only the names of shares that all have got, in a small file beside the partition:
nothing that happens to the partition meanwhile makes these wrong. Shares that still wait are known again by
what the disk says at the start. The file is for the next life and no further: whoever opens the partition
takes it away first.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from zlib import crc32

from mta.spool.files import Files

__all__ = ["MEMORY", "NAMES_FILE", "ShareNames"]

log = logging.getLogger(__name__)

#: Names remembered, at about 200 bytes each.
MEMORY = 50_000
#: In the partition of the worker whose names they are.
NAMES_FILE = "shares"


class ShareNames:
    """The last MEMORY names, each with the number of its message in our partition; 0 for one that is over."""

    def __init__(self) -> None:
        self._messages: dict[str, int] = {}
        self._leaving: set[str] = set()

    def __repr__(self) -> str:
        return f"<ShareNames {len(self._messages)} leaving={len(self._leaving)}>"

    def __contains__(self, name: str) -> bool:
        return name in self._messages

    def __len__(self) -> int:
        return len(self._messages)

    def message(self, name: str) -> int:
        """The message of a name that is known."""
        return self._messages[name]

    def add(self, name: str, message: int) -> None:
        """This share is on our disk: it is all that this message is."""
        messages = self._messages
        messages[name] = message
        if len(messages) > MEMORY:
            del messages[next(iter(messages))]

    def discard(self, name: str) -> None:
        self._messages.pop(name, None)

    def discard_message(self, message: int) -> None:
        """What is called so is damaged: a copy of it that comes is welcome. Rare; looks at all names."""
        for name in [name for name, other in self._messages.items() if other == message]:
            del self._messages[name]

    # -- shares that another worker owns ------------------------------------------------------------------

    def leave(self, name: str) -> None:
        """The share has been offered to its owner, who has not answered yet."""
        self._leaving.add(name)

    def stay(self, name: str) -> None:
        """The owner has not taken it, as far as we know."""
        self._leaving.discard(name)

    def go(self, name: str) -> None:
        """The owner has taken it: it is not here any more, and may come back one day."""
        self._leaving.discard(name)
        self.discard(name)

    def is_leaving(self, name: str) -> bool:
        """Whether an owner may have taken it from us, or may do so any moment."""
        return name in self._leaving

    # -- from one life to the next ------------------------------------------------------------------------

    def over(self, waits: Callable[[int], bool]) -> list[str]:
        """The names of shares that all have got; `waits(message)` says whether somebody has not."""
        # By message: those that are near each other are looked up together.
        found = sorted((message, name) for name, message in self._messages.items())
        return [name for message, name in found if not message or not waits(message)]

    @staticmethod
    def keep(names: list[str], partition: Path) -> None:
        """Leave these to the next life. Raises OSError."""
        if not names:
            return
        text = "\n".join(names).encode("utf-8", "surrogatepass")
        path = partition / NAMES_FILE
        descriptor = os.open(
            path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )
        with open(descriptor, "wb") as file:
            file.write(b"%08x\n%s" % (crc32(text), text))

    @classmethod
    def taken(cls, partition: Path) -> ShareNames:
        """What the last life has left, which is not there any more when this returns. Raises OSError when it
        can't be taken away; what is damaged, or can't be read, is nothing."""
        found = cls()
        path = partition / NAMES_FILE
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return found
        except OSError as error:
            log.warning("path=%s event=share-names-not-read error=%r", path, str(error))
            data = b""
        path.unlink()
        Files().sync_directory(partition)
        check, _, text = data.partition(b"\n")
        if check == b"%08x" % crc32(text) and text:
            for name in text.decode("utf-8", "surrogatepass").split("\n"):
                found.add(name, 0)
        return found
