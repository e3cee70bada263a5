"""A program that reads records on its standard input (`<acct-file |COMMAND>`).

It is started when there is something to write, gets the header line first, and is started again
`retry_interval` seconds after it ended or got stuck. Writing never waits: what the system doesn't take is
offered again later. What the program has not read when it dies has to be written again; `consumed` tells how
far it was.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shlex
import struct
import subprocess
import termios
from dataclasses import dataclass

__all__ = ["CommandPipe", "PipeBroken", "PipeOptions"]

log = logging.getLogger(__name__)

#: Room in the pipe, in octets: a batch must fit between two of our visits. The system's default is 64 KiB.
CAPACITY = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class PipeOptions:
    """The command line and its patience, in seconds."""

    command: str
    retry_interval: float = 300.0
    write_timeout: float = 60.0


class PipeBroken(Exception):
    """The program ended, or does not read; everything behind `consumed` must be written again."""


class CommandPipe:
    """One program after the other; `now` is any clock that never goes back."""

    def __init__(self, options: PipeOptions, header: bytes) -> None:
        self.options = options
        self.written = 0  # octets handed in since the start of the present program, without the header
        self._header = header
        self._process: subprocess.Popen[bytes] | None = None
        self._descriptor = -1
        self._waiting = b""
        self._sent = 0  # octets that the system took, header included
        self._progress_at = 0.0

    def __repr__(self) -> str:
        pid = self._process.pid if self._process else 0
        return f"<CommandPipe pid={pid} waiting={len(self._waiting)}>"

    @property
    def pid(self) -> int:
        """The running program's, 0 without one."""
        return self._process.pid if self._process else 0

    @property
    def is_idle(self) -> bool:
        """Whether everything handed in is in the pipe."""
        return not self._waiting

    def write(self, data: bytes, now: float) -> None:
        """Hand lines over. Raises PipeBroken; OSError when the program can't be started."""
        if self._process is None:
            self._start(now)
        self.written += len(data)
        if not self._waiting:
            self._progress_at = now
        self._waiting += data
        self.flush(now)

    def flush(self, now: float) -> None:
        """Offer what waits, and look after the program. Raises PipeBroken."""
        if self._process is None:
            return
        try:
            while self._waiting:
                done = os.write(self._descriptor, self._waiting)
                self._waiting = self._waiting[done:]
                self._sent += done
                self._progress_at = now
        except BlockingIOError:
            if now - self._progress_at > self.options.write_timeout:
                raise PipeBroken(f"read nothing for {self.options.write_timeout:.0f} s") from None
        except OSError as error:
            raise PipeBroken(error.strerror or str(error)) from error
        code = self._process.poll()
        if code is not None:
            raise PipeBroken(f"ended with code {code}" if code >= 0 else f"killed by signal {-code}")

    def consumed(self) -> int:
        """How many of the octets written the program has taken out of the pipe."""
        if self._descriptor < 0:
            return 0
        unread = bytearray(4)
        try:
            fcntl.ioctl(self._descriptor, termios.FIONREAD, unread)
        except OSError:
            return 0
        (waiting,) = struct.unpack("i", unread)
        return max(0, self._sent - int(waiting) - len(self._header))

    def stop(self, grace: float = 0.0) -> None:
        """Close its input; after `grace` seconds, or at once without any, it is killed if it stays."""
        process, self._process = self._process, None
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor, self._waiting, self._sent, self.written = -1, b"", 0, 0
        if process is None:
            return
        if grace:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(grace)
        if process.poll() is None:
            process.kill()
        process.wait()

    def _start(self, now: float) -> None:
        try:
            arguments = shlex.split(self.options.command)
        except ValueError as error:
            raise OSError(f"{self.options.command!r}: {error}") from error
        if not arguments:
            raise OSError("there is no command")
        reading, writing = os.pipe()
        try:
            with contextlib.suppress(OSError):
                fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, CAPACITY)
            os.set_blocking(writing, False)
            self._process = subprocess.Popen(arguments, stdin=reading, start_new_session=True)
        except OSError:
            os.close(writing)
            raise
        finally:
            os.close(reading)
        self._descriptor, self._waiting, self._sent = writing, self._header, 0
        self.written = 0
        self._progress_at = now
        log.info("pipe=%s event=started pid=%d", arguments[0], self._process.pid)
