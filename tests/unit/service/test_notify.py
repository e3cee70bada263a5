from __future__ import annotations

import os
import socket
from pathlib import Path

from mta.service.notify import Notifier


def test_states_go_to_the_socket_that_systemd_names(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})

        notifier.ready("running")
        notifier.reloading(5)
        notifier.alive()

        assert systemd.recv(1000) == f"READY=1\nSTATUS=running\nMAINPID={os.getpid()}".encode()
        assert systemd.recv(1000) == b"RELOADING=1\nMONOTONIC_USEC=5"
        assert systemd.recv(1000) == b"WATCHDOG=1"


def test_an_abstract_socket_is_written_with_an_at_sign() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(b"\0mta-test-notify-%d" % os.getpid())
        Notifier({"NOTIFY_SOCKET": f"@mta-test-notify-{os.getpid()}"}).stopping("draining")

        assert systemd.recv(1000) == b"STOPPING=1\nSTATUS=draining"


def test_without_systemd_nothing_happens(tmp_path: Path) -> None:
    Notifier({}).ready("running")
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).ready("running")


def test_the_watchdog_is_fed_at_half_its_time() -> None:
    assert Notifier({"WATCHDOG_USEC": "30000000"}).watchdog == 15.0
    assert Notifier({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}).watchdog is None
    assert Notifier({}).watchdog is None
