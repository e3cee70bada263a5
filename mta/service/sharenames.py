"""The names of shares that a worker has, or has had lately: what recognises a share that comes again.

A colleague that heard no answer keeps a copy and offers it later, perhaps only after both of us have been
ended and started. A name that outlived what happened to its share would lose mail, a name that is missing can
only repeat some. So each name is kept with its message, and goes with it: when another worker has taken the
share from us, or when the message turns out to be damaged.

Over an end in good order go only the names of shares that all have got, in a small file beside the partition:
nothing that happens to the partition meanwhile makes these wrong. Shares that still wait are known again by
what the disk says at the start. The file is for the next life and no further: whoever opens the partition
takes it away first.

Over a kill go all names, with their messages, in a log (`namelog.py`) that only the same start of the machine
believes. What the partition says of such a message decides as it does in one life. Why a name of the log is
never one of a share that nobody has:

* a share that another worker took from us, whole: its name goes before its settle can be on disk. It may
  come back, from an owner that is none any more, and is stored. A kill between the two leaves a message that
  waits, and that is found;
* one that was passed on in parts: each part has a name of its own, and whoever has one gives it back by that
  name. The whole can only come from who had it before us, and everybody in it has got the mail or waits
  elsewhere;
* a damaged message: the names go, by its number, before it is settled. A start that finds damage, or files
  that it can't understand, believes no log. What can't be read now is refused, as in one life;
* an operator's delete: that is what has become of it;
* a partition that was adopted, a worker that is alone, a spool that broke: the log is removed;
* a copy of a spool: its log is a copy, and says so. An old copy of the messages put beside the log that is
  there would be believed: never restore a spool.

Left is a file system that loses what was not synced while the machine stays up (a disk that is pulled), and
is mounted again: it may have lost the lines that took names away in its last seconds. To be lost, a share
then has to come to us under such a name from who has nothing else of it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from itertools import islice
from pathlib import Path

from mta.service.namelog import MEMORY, NameLog
from mta.spool.checksum import crc32
from mta.spool.files import Files

__all__ = ["NAMES_FILE", "ShareNames"]

log = logging.getLogger(__name__)

#: So many names are forgotten together.
AT_ONCE = 1000
#: In the partition of the worker whose names they are.
NAMES_FILE = "shares"


class ShareNames:
    """The last MEMORY names or some more, each with the number of its message; 0 for one that is over."""

    def __init__(self) -> None:
        self._messages: dict[str, int] = {}
        self._leaving: set[str] = set()
        self._log: NameLog | None = None

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
        if len(messages) > MEMORY + AT_ONCE:
            # Whoever looks for the oldest passes by all that have gone before it: not for each one.
            for oldest in list(islice(messages, AT_ONCE)):
                del messages[oldest]
        if self._log is not None:
            self._log.add(name, message)

    def remember(self, name: str, message: int) -> None:
        """`add` for a share that the start has found, and that the log may have told of."""
        if self._messages.get(name) != message:
            self.add(name, message)

    def discard(self, name: str) -> None:
        """This share isn't here, whatever we thought: one that comes is welcome."""
        self._messages.pop(name, None)
        if self._log is not None:
            # Even a name that we have long forgotten may still be in the log.
            self._log.take_away(name)

    def discard_message(self, message: int) -> None:
        """What is called so is damaged: a copy of it that comes is welcome. Rare; looks at all names."""
        for name in [name for name, other in self._messages.items() if other == message]:
            del self._messages[name]
        if self._log is not None:
            self._log.take_away_message(message)

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

    def follow(self, log: NameLog) -> None:
        """Take the names that a log has brought from the last life, and note there what becomes of all."""
        found, log.found = log.found, {}
        before, self._messages = self._messages, {}
        for name, message in found.items():
            self.add(name, message)
        self._log = log
        for name, message in before.items():
            self.remember(name, message)
        log.flush()

    def lose(self) -> None:
        """Leave no names to the next life: what they say may be wrong, or it is left in another way."""
        if self._log is not None:
            self._log.give_up()

    def die(self) -> None:
        """Leave to the next life what a kill would leave."""
        if self._log is not None:
            self._log.close()

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
