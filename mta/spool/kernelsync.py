"""A sync that the kernel makes while we go on, and tells of through a descriptor: Linux asynchronous I/O.

A thread that waits for the disk must take the interpreter back after each call, and while it waits for that,
every callback of the loop wakes it in vain. The kernel needs no interpreter: the loop hands it the descriptor
of a file and sees an eventfd become readable when fdatasync (IOCB_CMD_FDSYNC, Linux 4.18) has had its result.

The four calls have no names in Python, so they are made by number; where the machine is another one, or the
kernel or a sandbox refuses them, there is no such thing and the thread does the work.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import struct
from typing import NamedTuple

__all__ = ["KernelSync"]


class _Numbers(NamedTuple):
    """What the system calls are called on one kind of machine."""

    setup: int
    destroy: int
    submit: int
    getevents: int


_X86 = _Numbers(206, 207, 209, 208)
_GENERIC = _Numbers(0, 1, 2, 4)
_MACHINES = {"x86_64": _X86, "aarch64": _GENERIC, "riscv64": _GENERIC}
#: struct iocb: data, key, flags, operation, priority, descriptor, buffer, octets, offset, spare, flags,
#: eventfd.
_REQUEST = struct.Struct("=QIIHhIQQqQII")
#: struct io_event: data, the request's address, result, second result.
_EVENT = struct.Struct("=QQqq")
_NO_TIME = struct.Struct("=qq")
_SYNC_DATA, _TELL_EVENTFD = 3, 1


class KernelSync:
    """One sync at a time. Raises OSError when the kernel has no such thing for us.

    `descriptor` becomes readable when the sync has ended.
    """

    __slots__ = ("_call", "_context", "_event", "_no_time", "_numbers", "_request", "_where", "descriptor")

    def __init__(self) -> None:
        numbers = _MACHINES.get(platform.machine())
        if numbers is None or struct.calcsize("P") != 8 or not hasattr(os, "eventfd"):
            raise OSError(errno.ENOSYS, "asynchronous syncs are not known on this machine")
        self._numbers = numbers
        # PyDLL keeps the interpreter during a call: none of them waits, but the one at the very end.
        self._call = ctypes.PyDLL(None, use_errno=True).syscall
        self._call.argtypes = [ctypes.c_long] * 6
        self._call.restype = ctypes.c_long
        self._request = ctypes.create_string_buffer(_REQUEST.size)
        self._where = (ctypes.c_void_p * 1)(ctypes.addressof(self._request))
        self._event = ctypes.create_string_buffer(_EVENT.size)
        self._no_time = ctypes.create_string_buffer(_NO_TIME.pack(0, 0), _NO_TIME.size)
        context = ctypes.c_ulong(0)
        self._made(numbers.setup, 1, ctypes.addressof(context))
        self._context = context.value
        try:
            self.descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        except OSError:
            self._made(numbers.destroy, self._context)
            raise

    def begin(self, descriptor: int) -> None:
        """Have a file's data synced; OSError when the kernel doesn't take it, and then nothing has begun."""
        request = (0, 0, 0, _SYNC_DATA, 0, descriptor, 0, 0, 0, 0, _TELL_EVENTFD, self.descriptor)
        _REQUEST.pack_into(self._request, 0, *request)
        if self._made(self._numbers.submit, self._context, 1, ctypes.addressof(self._where)) != 1:
            raise OSError(errno.EAGAIN, "the kernel takes no request")

    def ended(self) -> int | None:
        """The error number of the sync that has ended, 0 when it went well; None while it goes on."""
        result = self._result(0, ctypes.addressof(self._no_time))
        if result is not None:
            with contextlib.suppress(BlockingIOError):  # it can't be had, and nothing has ended
                os.eventfd_read(self.descriptor)
        return result

    def wait(self) -> int:
        """Wait for the sync that goes on; its error number, 0 when it went well."""
        while (result := self._result(1, 0)) is None:
            pass  # a signal came
        return result

    def close(self) -> None:
        """Give everything back; waits for a sync that goes on."""
        self._made(self._numbers.destroy, self._context)
        os.close(self.descriptor)

    def _result(self, at_least: int, time: int) -> int | None:
        where = ctypes.addressof(self._event)
        try:
            if not self._made(self._numbers.getevents, self._context, at_least, 1, where, time):
                return None
        except InterruptedError:
            return None
        except OSError as error:
            return error.errno  # who can't be told how a sync went has to take it for failed
        result: int = _EVENT.unpack(self._event)[2]
        return -result

    def _made(self, *call: int) -> int:
        """The answer to a system call; OSError as the kernel has it."""
        answer: int = self._call(*call, *(0,) * (6 - len(call)))
        if answer < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return answer
