"""Telling systemd how we are: sd_notify(3) is one datagram to the socket it names."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping

__all__ = ["Notifier"]

#: Seconds that a service manager may take to have room for a message. Without READY=1 it would think that the
#: start has failed; one that is gone refuses at once.
PATIENCE = 2.0


class Notifier:
    """Sends state lines to $NOTIFY_SOCKET; silent when nobody asked for them.

    `watchdog` is half of $WATCHDOG_USEC in seconds (how often `alive` should be sent), None without one.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        microseconds = environment.get("WATCHDOG_USEC", "")
        own = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.watchdog = int(microseconds) / 2e6 if microseconds.isdigit() and own else None

    def ready(self, status: str) -> None:
        self._send(f"READY=1\nSTATUS={status}\nMAINPID={os.getpid()}")

    def reloading(self, monotonic_microseconds: int) -> None:
        self._send(f"RELOADING=1\nMONOTONIC_USEC={monotonic_microseconds}")

    def status(self, text: str) -> None:
        self._send(f"STATUS={text}")

    def alive(self) -> None:
        self._send("WATCHDOG=1", patience=0.0)  # the next one comes soon

    def stopping(self, status: str) -> None:
        self._send(f"STOPPING=1\nSTATUS={status}")

    def _send(self, state: str, patience: float = PATIENCE) -> None:
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as messenger, contextlib.suppress(OSError):
            messenger.settimeout(patience)
            messenger.sendto(state.encode(), self._address)
