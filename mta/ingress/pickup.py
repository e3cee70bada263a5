"""The pickup directory: files that applications put there become mail.

A file is removed when its message is on the disk, and not before: a crash in between takes the file again, so
that at most the files under way (`AT_ONCE`) are sent twice. What can't be used goes to the bad directory, and
the log says why. When the spool is full files wait where they are.

Applications write a file elsewhere and rename it into the directory. One that is written in place is left
alone until it has been quiet for a second; names that begin with a dot or end in `.tmp` are never looked at.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from mta.clock import Clock
from mta.config.snapshot import Snapshot
from mta.ingress.joint import AcceptResult
from mta.ingress.pickupfile import PickupMessage, read_pickup
from mta.ingress.relaying import RelayRules, SourcePolicy
from mta.ingress.submission import Client, Submission, Wish
from mta.ingress.suppression import SUPPRESSED_QUEUE
from mta.smtp.reply import Reply

__all__ = ["AT_ONCE", "Pickup"]

log = logging.getLogger(__name__)

#: Files under way at a time.
AT_ONCE = 50
#: Octets of the largest file when the source sets no limit.
SIZE_LIMIT = 100 * 1024 * 1024
#: Seconds between two looks, unless pickup-retry-interval says otherwise.
INTERVAL = 1.0
#: A file that was written to a moment ago may not be complete.
QUIET = 1.0

#: What the Received line says of where its mail comes from.
_HERE = Client("local")

Accept = Callable[[Submission, Callable[[AcceptResult], None]], None]


class _Unusable(Exception):
    """The file goes to the bad directory."""


class _Later(Exception):
    """The file stays where it is."""


class Pickup:
    """Looks after the pickup directory of a configuration, if it has one; for one worker."""

    def __init__(self, *, snapshot: Callable[[], Snapshot], accept: Accept, clock: Clock) -> None:
        self._snapshot = snapshot
        self._accept = accept
        self._clock = clock
        self._complaint = ""
        #: Files that were taken and could not be removed: name → what they looked like.
        self._stuck: dict[str, tuple[int, int, int]] = {}
        self._epoch = -1
        self._policy = SourcePolicy()
        self._relaying: RelayRules | None = None
        self.taken = self.refused = 0
        self._stop = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    async def run(self) -> None:
        """Look again and again, until `stop`."""
        while not self._stop.is_set():
            self._idle.clear()
            try:
                count = await self.look()
            finally:
                self._idle.set()
            if count < AT_ONCE:
                interval = self._snapshot().top.interval("pickup-retry-interval")
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(INTERVAL if interval is None else max(0.05, interval)):
                        await self._stop.wait()

    async def stop(self) -> None:
        """Begin no further file; returns when those under way have come to their end."""
        self._stop.set()
        await self._idle.wait()

    async def look(self) -> int:
        """Take what is there now, at most AT_ONCE files; returns how many left the directory."""
        places = self._places()
        if places is None:
            return 0
        directory, bad = places
        self._follow()
        try:
            names = await asyncio.to_thread(self._ready, directory)
        except OSError as error:
            self._complain(f"pickup {directory}: {error.strerror}")
            return 0
        async with asyncio.TaskGroup() as company:
            tasks = [company.create_task(self._take(directory, bad, name)) for name in names]
        return sum(task.result() for task in tasks)

    # ---- inside

    def _places(self) -> tuple[Path, Path] | None:
        """The two directories, when both can be used."""
        snapshot = self._snapshot()
        words = snapshot.top.words("pickup")
        if not words:
            return None
        if len(words) != 2:
            self._complain("pickup needs two directories: one to take files from, one for unusable ones")
            return None
        base = snapshot.files[0].parent if snapshot.files else Path()
        directory, bad = (base / word for word in words)
        for path in (directory, bad):
            # What could not be removed would be sent again and again.
            if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
                self._complain(f"pickup: {path} is no directory that we may read and write")
                return None
        self._complaint = ""
        return directory, bad

    def _complain(self, words: str) -> None:
        if words != self._complaint:
            log.error("%s", words)
            self._complaint = words

    def _follow(self) -> None:
        snapshot = self._snapshot()
        if snapshot.epoch != self._epoch:
            self._epoch = snapshot.epoch
            self._policy = SourcePolicy.from_settings(snapshot.source("", "{pickup}"))
            self._relaying = RelayRules(snapshot)

    def _ready(self, directory: Path) -> list[str]:
        """Names of files to take, the oldest first."""
        found = []
        now = self._clock.wall()
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.name.startswith(".") or entry.name.endswith(".tmp"):
                    continue
                if not entry.is_file(follow_symlinks=False):
                    continue
                facts = entry.stat(follow_symlinks=False)
                if now - facts.st_mtime < QUIET and facts.st_mtime <= now:
                    continue
                if self._stuck.get(entry.name) == _look(facts):
                    continue
                found.append((facts.st_mtime, entry.name))
        found.sort()
        return [name for _, name in found[:AT_ONCE]]

    async def _take(self, directory: Path, bad: Path, name: str) -> bool:
        """Make mail of one file; whether it has left the directory."""
        path = directory / name
        try:
            data, facts = await asyncio.to_thread(self._read, path)
            submission = self._submission(data)
            await self._accepted(submission)
        except _Later as reason:
            log.warning("pickup=%s event=postponed reason=%r", path, str(reason))
            return False
        except _Unusable as reason:
            self.refused += 1
            log.error("pickup=%s event=unusable reason=%r", path, str(reason))
            await asyncio.to_thread(_move, path, bad)
            return True
        except Exception:
            log.exception("pickup=%s event=failed", path)
            return False
        self.taken += 1
        try:
            os.unlink(path)
        except FileNotFoundError:
            return True
        except OSError as error:
            # Its message is safe; taken again it would be sent again.
            self._stuck[name] = facts
            log.error("pickup=%s event=not-removed error=%r", path, error.strerror)
            return False
        return True

    def _read(self, path: Path) -> tuple[bytes, tuple[int, int, int]]:
        limit = self._policy.max_message_size or SIZE_LIMIT
        try:
            # No link, and no waiting for whoever writes to a pipe.
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise _Later(error.strerror) from None
        with os.fdopen(descriptor, "rb") as file:
            facts = os.fstat(descriptor)
            if not stat.S_ISREG(facts.st_mode):
                raise _Later("no regular file")
            if facts.st_size > 2 * limit:
                raise _Unusable("larger than the limit")
            return file.read(), _look(facts)

    def _submission(self, data: bytes) -> Submission:
        is_stuffed = self._snapshot().top.boolean("pickup-remove-dot")
        try:
            message = read_pickup(data, is_stuffed=is_stuffed)
        except ValueError as error:
            raise _Unusable(str(error)) from None
        recipients, condemned, wishes = self._checked(message)
        # Whoever may write here may merge, and may be sent a bounce.
        policy = replace(self._policy, allow_mailmerge=True)
        if policy.max_recipients and len(message.recipients) > policy.max_recipients:
            raise _Unusable("too many recipients")
        return Submission(
            message.originator,
            recipients,
            message.chunks,
            sum(map(len, message.chunks)),
            policy,
            _HERE,
            source_type="pickup",
            is_8bit=not all(chunk.isascii() for chunk in message.chunks),
            is_smtputf8=message.is_smtputf8,
            ret=message.ret,
            envelope_id=message.envelope_id,
            job_id=message.job_id,
            wants_verp=message.wants_verp,
            condemned=condemned,
            wishes=wishes,
            parts=[len(chunk) for chunk in message.chunks] if message.is_merge else (),
        )

    def _checked(
        self, message: PickupMessage
    ) -> tuple[list[tuple[str, int, str]], list[tuple[str, int, str, str]], list[Wish]]:
        """Recipients, those to be bounced, and the wishes of the former."""
        recipients, condemned, wishes = [], [], []
        for index, (address, notify, orcpt) in enumerate(message.recipients):
            refusal: Reply | None = None
            if self._relaying is not None:
                refusal = self._relaying.suppressed(self._policy, address)
            if refusal is not None:
                if refusal.is_temporary:
                    raise _Later(str(refusal))
                # Nobody is there to hear a refusal: the sender gets a bounce.
                condemned.append((address, notify, orcpt, SUPPRESSED_QUEUE))
                continue
            recipients.append((address, notify, orcpt))
            if message.wishes:
                wishes.append(message.wishes[index])
        return recipients, condemned, wishes

    async def _accepted(self, submission: Submission) -> None:
        """Wait until the message is on disk; raises _Later or _Unusable when it isn't going to be."""
        done: asyncio.Future[AcceptResult] = asyncio.get_running_loop().create_future()

        def answered(result: AcceptResult) -> None:
            if not done.done():
                done.set_result(result)

        self._accept(submission, answered)
        refusal = (await done).refusal
        if refusal is not None:
            raise _Later(str(refusal)) if refusal.is_temporary else _Unusable(str(refusal))

    def __repr__(self) -> str:
        return f"<Pickup taken={self.taken} refused={self.refused}>"


def _look(facts: os.stat_result) -> tuple[int, int, int]:
    return facts.st_ino, facts.st_size, facts.st_mtime_ns


def _move(path: Path, bad: Path) -> None:
    """Put a file into the bad directory, under a name that nobody there has."""
    target = bad / path.name
    number = 0
    while target.exists():
        number += 1
        target = bad / f"{path.name}.{number}"
    try:
        shutil.move(path, target)
    except OSError as error:
        log.error("pickup=%s event=not-moved error=%r", path, error.strerror or str(error))
