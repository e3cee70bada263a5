from __future__ import annotations

import os
import socket
import threading
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


def test_a_busy_systemd_misses_signs_of_life_but_not_that_we_are_ready(tmp_path: Path) -> None:
    heard: list[bytes] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(10.0)
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        for _ in range(2000):  # the kernel keeps ten for a reader that is slow
            notifier.alive()

        def listen() -> None:
            while not any(b"READY=1" in message for message in heard):
                heard.append(systemd.recv(1000))

        listener = threading.Thread(target=listen)
        listener.start()
        notifier.ready("running")
        listener.join()

    assert len(heard) < 2000


def test_without_systemd_nothing_happens(tmp_path: Path) -> None:
    Notifier({}).ready("running")
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).ready("running")


def test_the_watchdog_is_fed_at_half_its_time() -> None:
    assert Notifier({"WATCHDOG_USEC": "30000000"}).watchdog == 15.0
    assert Notifier({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}).watchdog is None
    assert Notifier({}).watchdog is None
