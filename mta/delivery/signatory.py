"""A process that does nothing but sign: `python -m mta.delivery.signatory FD`, and who talks to it.

The interpreter's lock lets threads sign beside a loop, but they wait for it behind every signature: with a
busy loop that costs more than the signature itself (docs/decisions/0012). A process needs nothing from the
loop but 36 octets: the number of a key and the hash to sign. Answers come in the order of the questions.

It ends when its worker closes the line or dies. When it dies itself, what it had not answered is handed back
to be signed elsewhere.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa, utils

from mta.message.domainkey import DkimKey

__all__ = ["Signatory", "main"]

log = logging.getLogger(__name__)

#: Keys it is told of; then numbers begin again.
MOST_KEYS: Final = 4096
#: A question: the number of a key, and a SHA-256 hash (for a new key: how long its DER form behind it is).
QUESTION: Final = struct.Struct("!I32s")
NEW_KEY: Final = 1 << 31
ANSWER: Final = struct.Struct("!H")
CHUNK: Final = 1 << 16
#: The first of many should not wait for the last (12 ms), and the worker not be woken for a few.
ANSWERS_AT_ONCE: Final = 48
#: One that has work and says nothing for so long (seconds) hangs. It has to start, and keys may be very long.
PATIENCE: Final = 30.0

#: Called with the signature; None when there will be none.
Answered = Callable[[bytes | None], None]


class Signatory:
    """One such process, as the loop of a worker sees it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, broken: Callable[[Signatory], None]) -> None:
        """Start it; raises OSError. `broken` is called once when it is gone, before any None is answered."""
        self._loop = loop
        self._broken = broken
        self._waiting: deque[Answered] = deque()
        self._numbers: dict[DkimKey, int] = {}
        self._unread = b""
        self._unsent: list[bytes] = []
        self._line, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "mta.delivery.signatory", str(theirs.fileno())]
            try:
                self._process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, pass_fds=(theirs.fileno(),)
                )
            except OSError:
                self._line.close()
                raise
        self._line.setblocking(False)
        loop.add_reader(self._line, self._read)
        self._answered = self._answered_before = 0
        self._watch = loop.call_later(PATIENCE, self._look)

    @property
    def pid(self) -> int:
        return self._process.pid

    def load(self) -> int:
        """Questions without an answer."""
        return len(self._waiting)

    def ask(self, key: DkimKey, digest: bytes, answered: Answered) -> None:
        """Have a hash signed; the question leaves at the end of this turn of the loop, with all others."""
        number = self._numbers.get(key)
        if not self._unsent:
            self._loop.call_soon(self._send)
        if number is None:
            number = self._introduce(key)
        self._unsent.append(QUESTION.pack(number, digest))
        self._waiting.append(answered)

    def forget_keys(self) -> None:
        """Other keys are in force: number them anew."""
        self._numbers.clear()

    def close(self) -> None:
        """End it; questions are not answered any more."""
        self._waiting.clear()
        self._hang_up()

    def _introduce(self, key: DkimKey) -> int:
        if len(self._numbers) >= MOST_KEYS:
            self._numbers.clear()
        number = self._numbers[key] = len(self._numbers)
        der = key.private.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        self._unsent.append(QUESTION.pack(NEW_KEY | number, len(der).to_bytes(32, "big")) + der)
        return number

    def _send(self) -> None:
        if self._line.fileno() < 0:
            return
        data = b"".join(self._unsent)
        try:
            data = data[self._line.send(data) :]
        except BlockingIOError:
            pass
        except OSError as error:
            self._fail(error)
            return
        self._unsent = [data] if data else []
        if data:
            self._loop.add_writer(self._line, self._send)
        else:
            self._loop.remove_writer(self._line)

    def _read(self) -> None:
        try:
            data = self._line.recv(CHUNK)
            if not data:
                raise OSError("the signing process has ended")
        except BlockingIOError:
            return
        except OSError as error:
            self._fail(error)
            return
        self._answered += 1
        data = self._unread + data
        waiting, at, start = self._waiting, 0, ANSWER.size
        while start <= len(data):
            end = start + ANSWER.unpack_from(data, at)[0]
            if end > len(data):
                break
            waiting.popleft()(data[start:end] or None)
            at, start = end, end + ANSWER.size
        self._unread = data[at:]

    def _look(self) -> None:
        """See now and then whether it still does something."""
        if self._waiting and self._answered == self._answered_before:
            self._fail(OSError("the signing process hangs"))
            return
        self._answered_before = self._answered
        self._watch = self._loop.call_later(PATIENCE, self._look)

    def _fail(self, error: OSError) -> None:
        log.error("signing-process=%s event=lost error=%r", self._process.pid, str(error))
        self._hang_up()
        self._broken(self)
        while self._waiting:
            self._waiting.popleft()(None)

    def _hang_up(self) -> None:
        if self._line.fileno() < 0:
            return
        self._watch.cancel()
        self._loop.remove_reader(self._line)
        self._loop.remove_writer(self._line)
        self._line.close()
        self._process.kill()  # it has nothing to finish
        self._process.wait()


def main(arguments: Sequence[str]) -> int:
    """Be that process: sign what is asked for until the line is closed."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)  # the worker decides when to end
    with socket.socket(fileno=int(arguments[0])) as line:
        serve(line)
    return 0


def serve(line: socket.socket) -> None:
    """Answer questions until there are no more."""
    how, hashed = padding.PKCS1v15(), utils.Prehashed(hashes.SHA256())
    keys: dict[int, rsa.RSAPrivateKey] = {}
    data = b""
    while more := line.recv(CHUNK):
        data += more
        at = 0
        answers = []
        while len(data) - at >= QUESTION.size:
            number, digest = QUESTION.unpack_from(data, at)
            end = at + QUESTION.size
            if number & NEW_KEY:
                end += int.from_bytes(digest, "big")
                if end > len(data):
                    break
                key = serialization.load_der_private_key(
                    data[at + QUESTION.size : end], None, unsafe_skip_rsa_key_validation=True
                )
                assert isinstance(key, rsa.RSAPrivateKey)
                keys[number ^ NEW_KEY] = key
            else:
                seal = keys[number].sign(digest, how, hashed)
                answers.append(ANSWER.pack(len(seal)) + seal)
                if len(answers) == ANSWERS_AT_ONCE:
                    line.sendall(b"".join(answers))
                    answers = []
            at = end
        data = data[at:]
        line.sendall(b"".join(answers))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
