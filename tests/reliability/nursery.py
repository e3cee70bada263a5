"""Actors without their start: one interpreter that has read all modules forks one for each try.

    python -m tests.reliability.nursery NUMBER     what `Nursery` runs, at the other end of a socket

Reading the modules takes some ten times as long as most scenarios, and would have to be traced too. A forked
actor waits for a word before it begins, so that strace can be attached to it meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

__all__ = ["Child", "Ended", "Nursery"]

_START_SECONDS = 60.0
_PR_SET_PTRACER, _ANY = 0x59616D61, ctypes.c_ulong(-1)


class Ended(NamedTuple):
    """How a child ended: its standard output and error, and its code (negative: the signal)."""

    said: bytes
    errors: bytes
    code: int


class Child:
    """An actor that waits for `begin`; `first` is the first line that it says, `ended` is how it ended."""

    def __init__(self, pid: int, go: int, out: int, err: int, code: asyncio.Future[int]) -> None:
        self.pid = pid
        self._go = go
        self._code = code
        loop = asyncio.get_running_loop()
        self.first: asyncio.Future[None] = loop.create_future()
        self._out, self._err = _Pipe(out, self.first), _Pipe(err)

    def begin(self) -> None:
        """Let it act."""
        os.write(self._go, b"!")
        os.close(self._go)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Signal it, if it is still there."""
        if not self._code.done():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def ended(self) -> Ended:
        """Wait for its end."""
        code = await asyncio.shield(self._code)
        return Ended(await self._out.all, await self._err.all, code)


class _Pipe:
    """Reads a pipe to its end."""

    def __init__(self, descriptor: int, first: asyncio.Future[None] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self.all: asyncio.Future[bytes] = self._loop.create_future()
        self._descriptor, self._data, self._first = descriptor, b"", first
        os.set_blocking(descriptor, False)
        self._loop.add_reader(descriptor, self._readable)

    def _readable(self) -> None:
        data = os.read(self._descriptor, 1 << 16)
        self._data += data
        if self._first is not None and not self._first.done() and (b"\n" in data or not data):
            self._first.set_result(None)
        if not data:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self.all.set_result(self._data)


class Nursery:
    """`async with Nursery() as nursery:` for as long as children are wanted."""

    def __init__(self) -> None:
        self._codes: dict[int, asyncio.Future[int]] = {}
        self._born: asyncio.Queue[int] = asyncio.Queue()
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> Nursery:
        ours, theirs = socket.socketpair()
        self._socket = ours
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.reliability.nursery", str(theirs.fileno()),
            stdin=asyncio.subprocess.DEVNULL, pass_fds=[theirs.fileno()], start_new_session=True,
        )  # fmt: skip
        theirs.close()
        duplicate = ours.dup()
        duplicate.setblocking(False)
        reader, self._writer = await asyncio.open_connection(sock=duplicate)
        self._listener = asyncio.create_task(self._listen(reader))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listener.cancel()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()
        self._writer.close()
        self._socket.close()

    async def bear(
        self, scenario: str, directory: Path, environment: Mapping[str, str] | None = None
    ) -> Child:
        """A new actor, which has not begun."""
        go, out, err = os.pipe(), os.pipe(), os.pipe()
        body = {"scenario": scenario, "directory": str(directory), "environment": dict(environment or {})}
        theirs = [go[0], out[1], err[1]]
        async with self._turn:
            socket.send_fds(self._socket, [json.dumps(body).encode()], theirs)
            for descriptor in theirs:
                os.close(descriptor)
            async with asyncio.timeout(_START_SECONDS):
                pid = await self._born.get()
        return Child(pid, go[1], out[0], err[0], self._codes[pid])

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            pid, code = map(int, line.split())
            if pid not in self._codes or self._codes[pid].done():
                self._codes[pid] = asyncio.get_running_loop().create_future()
                self._born.put_nowait(pid)
            else:
                self._codes[pid].set_result(code)


def serve(number: int) -> None:
    """The forking side: reads orders, says `PID 0` at each birth and `PID CODE` at each end."""
    orders = socket.socket(fileno=number)
    wake, woken = socket.socketpair()
    wake.setblocking(False)
    woken.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(woken.fileno())
    watch = select.poll()  # select() knows descriptors up to 1,023 only
    watch.register(orders, select.POLLIN)
    watch.register(wake, select.POLLIN)
    while True:
        ready = {descriptor for descriptor, _ in watch.poll()}
        if wake.fileno() in ready:
            wake.recv(4096)
            _bury(orders)
        if orders.fileno() in ready:
            data, descriptors, _, _ = socket.recv_fds(orders, 1 << 16, 3)
            if not data:
                return
            pid = os.fork()
            if not pid:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for one in (orders, wake, woken):
                    one.close()
                _live(json.loads(data), *descriptors)
            for descriptor in descriptors:
                os.close(descriptor)
            orders.sendall(b"%d 0\n" % pid)


def _bury(orders: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        orders.sendall(b"%d %d\n" % (pid, os.waitstatus_to_exitcode(status)))


def _live(order: dict[str, object], go: int, out: int, err: int) -> None:
    """In the child: act when told to; never returns."""
    from tests.reliability.actor import act

    # Where only parents may trace, somebody else is allowed to here.
    ctypes.CDLL(None).prctl(_PR_SET_PTRACER, _ANY, 0, 0, 0)
    try:
        os.dup2(out, 1)
        os.dup2(err, 2)
        os.close(out)
        os.close(err)
        environment = order["environment"]
        assert isinstance(environment, dict)
        os.environ.update(environment)
        if os.read(go, 1):
            os.close(go)
            act(str(order["scenario"]), Path(str(order["directory"])))
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    import tests.reliability.actor  # noqa: F401 - what all of them need

    serve(int(sys.argv[1]))
