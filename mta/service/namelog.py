"""Names of shares that outlive a worker that is killed: a log in its partition's directory, never synced.

What write(2) has taken is the kernel's, and is there for the next process whatever becomes of this one. It
need not outlive the machine: then nobody believes it.

A name that outlived what happened to its share would lose mail, one that is missing can only repeat some. So
a log counts for something only when

* it was written since this machine was started (`boot_id`): another start may have lost the lines that take
  names away;
* every octet of it is what was written: each write ends with a checksum of the file so far, and the last line
  has to be one that is right. A torn end may have been a line that takes a name away, so it is not just left
  out: nothing is believed then;
* it is the file that was written, and no copy of it (it says its inode): a copy goes with another spool;
* no generation of it is missing.

Additions are gathered and leave once a turn of the loop. What takes a name away is written before the call
returns, hence before the outcome that belongs to it can be on disk. A write that fails, or is short, makes
the log worthless: it is removed, and the worker goes on without. Where not even that works (a file system
that has become read-only), the outcome that belongs to the lost line can't get to the disk either.

Bounded: two generations by turns in `shares.0` and `shares.1`, each of MEMORY lines or little more. A name
that stood only in the generation that is given up is remembered by this process, and by no other.

    shares 1 BOOT INODE GENERATION      the first line
    +MESSAGE NAME                       this share is on our disk, and is all that this message is
    -NAME                               it is somebody else's
    ~MESSAGE                            this message is damaged
    >                                   another generation follows
    =CHECKSUM                           CRC-32 of everything before
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from pathlib import Path
from typing import NamedTuple

from mta.spool.checksum import crc32

__all__ = ["LOG_FILES", "MEMORY", "NameLog", "boot_id"]

log = logging.getLogger(__name__)

#: Names remembered, at about 200 bytes each; lines of a generation.
MEMORY = 50_000
#: In the partition of the worker whose names they are; a generation's number decides which is its.
LOG_FILES = ("shares.0", "shares.1")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
TITLE = "shares 1"
#: "=", eight digits, and a line's end.
CHECK_SIZE = 10
APPEND = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
SAFE = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class Unsound(Exception):
    """A log that nobody should believe, and why."""


class Generation(NamedTuple):
    """One file as it was read: its lines but for the first and the checks, and the check of all of it."""

    number: int
    lines: list[str]
    check: int


def boot_id(path: Path = BOOT_ID) -> str:
    """What this start of the machine is called; "" where the kernel doesn't say."""
    try:
        return path.read_text("ascii").strip()
    except (OSError, ValueError):
        return ""


class NameLog:
    """The log of one worker, which has the partition's lock. Nothing here raises once it is open.

    `found` are the names that the last life has left, each with its message, for whoever opened it to take.
    """

    def __init__(
        self, directory: Path, *, loop: asyncio.AbstractEventLoop, boot: str, is_whole: bool
    ) -> None:
        """Go on with the log that is there if it can be believed, else begin a new one.

        `is_whole` says that nothing of the partition was found damaged: else a share that is named may be
        gone. Raises OSError when a log that is not to be believed can't be removed.
        """
        self._directory = directory
        self._loop = loop
        self._boot = boot
        #: Lines to be written at the end of this turn of the loop.
        self._gathered: list[str] = []
        self._descriptor = -1
        self._generation = self._lines = self._check = 0
        self.found: dict[str, int] = {}
        if not (boot and is_whole and self._go_on()):
            self.remove(directory)
            if boot:
                self._begin()

    def __repr__(self) -> str:
        return f"<NameLog {self._directory} generation={self._generation} lines={self._lines}>"

    @property
    def is_kept(self) -> bool:
        """Whether what is noted here reaches the next life."""
        return self._descriptor >= 0

    @staticmethod
    def remove(directory: Path) -> None:
        """Take away the log of a partition, if there is one. Raises OSError."""
        for name in LOG_FILES:
            if os.path.lexists(directory / name):
                os.unlink(directory / name)

    def add(self, name: str, message: int) -> None:
        """This share is on our disk: it is all that this message is. Hot path."""
        if self._descriptor >= 0:
            gathered = self._gathered
            if not gathered:
                self._loop.call_soon(self.flush)
            gathered.append(f"+{message} {name}")

    def take_away(self, name: str) -> None:
        """This share is not ours any more."""
        self._gathered.append(f"-{name}")
        self.flush()

    def take_away_message(self, message: int) -> None:
        """Whatever share this message is, it is damaged."""
        self._gathered.append(f"~{message}")
        self.flush()

    def flush(self) -> None:
        """Write what has been gathered."""
        lines, self._gathered = self._gathered, []
        if not lines or self._descriptor < 0:
            return
        text = "\n".join(lines)
        if text.count("\n") >= len(lines):
            lines = [line for line in lines if "\n" not in line]
            text = "\n".join(lines)
        if not lines:
            return
        try:
            self._write(text, len(lines))
            if self._lines >= MEMORY:
                self._begin_another()
        except OSError as error:
            self._give_up(error)

    def give_up(self) -> None:
        """Keep nothing from here on, and leave nothing."""
        if self._descriptor >= 0:
            self._give_up(None)

    def close(self) -> None:
        """Let go of the files and leave them as they are; what was gathered is not written."""
        self._gathered = []
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    # -- writing ------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        try:
            self._begin_another()
        except OSError as error:
            self._give_up(error)

    def _begin_another(self) -> None:
        """A new generation, in place of that before the last. Raises OSError."""
        number = self._generation + 1
        path = self._path(number)
        if os.path.lexists(path):
            os.unlink(path)
        descriptor = os.open(path, APPEND | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            if self._descriptor >= 0:
                self._write(">", 1)
        except OSError:
            os.close(descriptor)
            raise
        self.close()
        self._descriptor, self._generation, self._lines, self._check = descriptor, number, 0, 0
        self._write(f"{TITLE} {self._boot} {os.fstat(descriptor).st_ino} {number}", 0)

    def _write(self, text: str, lines: int) -> None:
        """Append these lines, and the check of all. Raises OSError."""
        data = text.encode("utf-8", "surrogatepass") + b"\n"
        check = crc32(data, self._check)
        end = b"=%08x\n" % check
        self._check = crc32(end, check)
        self._lines += lines
        if os.write(self._descriptor, data + end) < len(data) + CHECK_SIZE:
            raise OSError("only a part could be written")

    def _give_up(self, error: OSError | None) -> None:
        """The log has become worthless. Whichever file can't be removed is at least emptied."""
        if error is not None:
            log.error("event=share-names-not-kept error=%r", str(error))
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, 0)
        for name in LOG_FILES:
            with contextlib.suppress(OSError):
                os.unlink(self._directory / name)
        self.close()

    def _path(self, generation: int) -> Path:
        return self._directory / LOG_FILES[generation % 2]

    # -- reading ------------------------------------------------------------------------------------------

    def _go_on(self) -> bool:
        """Take up what the last life has left; False when there is nothing, or nothing to be believed."""
        try:
            generations = read_generations(self._directory, self._boot)
            if not generations:
                return False
            found = replayed(generations)
            last = generations[-1]
            self._descriptor = os.open(self._path(last.number), APPEND)
        except (Unsound, OSError, ValueError) as error:
            log.warning("path=%s event=share-names-not-believed why=%r", self._directory, str(error))
            return False
        self.found, self._generation, self._check = found, last.number, last.check
        self._lines = len(last.lines)
        return True


def read_generations(directory: Path, boot: str) -> list[Generation]:
    """The generations there are, oldest first, all sound. Raises Unsound, OSError and ValueError."""
    found = [
        read_generation(directory, name, boot) for name in LOG_FILES if os.path.lexists(directory / name)
    ]
    found.sort()
    numbers = [generation.number for generation in found]
    if len(found) > 1 and numbers[0] + 1 != numbers[1]:
        raise Unsound(f"generations {numbers} are not one after the other")
    if found and ">" in found[-1].lines:
        raise Unsound(f"generation {numbers[-1] + 1} is missing")
    return found


def read_generation(directory: Path, name: str, boot: str) -> Generation:
    """What one file says. Raises as `read_generations` does."""
    descriptor = os.open(directory / name, SAFE)
    with open(descriptor, "rb") as file:
        inode = os.fstat(descriptor).st_ino
        data = file.read()
    if data[-CHECK_SIZE:] != b"=%08x\n" % crc32(data[:-CHECK_SIZE]):
        raise Unsound(f"{name} is damaged")
    title, *lines = data.decode("utf-8", "surrogatepass").split("\n")
    *about, number = title.split(" ")
    if about != [*TITLE.split(" "), boot, str(inode)]:
        raise Unsound(f"{name} is of another start of the machine, or a copy")
    if LOG_FILES[int(number) % 2] != name:
        raise Unsound(f"{name} has another name than it was given")
    return Generation(int(number), [line for line in lines if line[:1] not in ("", "=")], crc32(data))


def replayed(generations: list[Generation]) -> dict[str, int]:
    """What these lines leave, oldest first. Raises Unsound or ValueError for a line that is none of ours."""
    names: dict[str, int] = {}
    for generation in generations:
        for line in generation.lines:
            match line[:1]:
                case "+":
                    message, _, name = line[1:].partition(" ")
                    names[name] = int(message)
                case "-":
                    names.pop(line[1:], None)
                case "~":
                    damaged = int(line[1:])
                    names = {name: message for name, message in names.items() if message != damaged}
                case ">":
                    pass
                case _:
                    raise Unsound(f"{line!r} is no line of such a log")
    return names
