"""What systemd and scripts expect of the service: notifications, signals, an account of its own."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.injector import Injector
from tests.support.service import World

pytestmark = pytest.mark.timeout(180)

NOBODY = "nobody"


class Manager:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, path: Path) -> None:
        self.messages: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(str(path))
        asyncio.get_running_loop().add_reader(self._socket, self._read)

    def _read(self) -> None:
        self.messages.append(self._socket.recv(4096).decode())

    def heard(self, text: str) -> int:
        """In how many messages so far the text stands."""
        return sum(text in message for message in self.messages)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()


async def relay(world: World, prefix: str, count: int = 3) -> None:
    load = Injector(world.port, sessions=1, messages=count, prefix=prefix)
    await load.run()
    await world.until(lambda: load.acknowledged <= world.received.keys())


async def test_systemd_hears_of_start_life_reload_and_end(tmp_path: Path) -> None:
    manager = Manager(tmp_path / "notify")
    environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"}
    async with World(tmp_path, environment=environment) as world:
        await world.until(lambda: manager.heard("READY=1"))
        assert f"MAINPID={world.pid}" in next(text for text in manager.messages if "READY=1" in text)
        await world.until(lambda: manager.heard("WATCHDOG=1") >= 2)

        os.kill(world.pid, signal.SIGHUP)
        await world.until(lambda: manager.heard("RELOADING=1"))
        assert "MONOTONIC_USEC=" in next(text for text in manager.messages if "RELOADING=1" in text)
        await world.until(lambda: manager.heard("READY=1") == 2)
        world.config.write_text("nonsense\n")
        os.kill(world.pid, signal.SIGHUP)
        await world.until(lambda: manager.heard("STATUS=reload refused"))
        assert manager.heard("STOPPING=1") == 0

        assert await world.stop() == 0
        assert manager.heard("STOPPING=1") == 1
    manager.close()


async def test_the_user_signal_opens_logs_again(tmp_path: Path) -> None:
    async with World(tmp_path, extra=f"log-file {tmp_path}/mta.log\n") as world:
        await relay(world, "first")
        await world.until(lambda: len(world.records("d")) == 3)
        away = tmp_path / "away"
        away.mkdir()
        for path in (*tmp_path.glob("acct*.csv"), tmp_path / "mta.log"):
            path.rename(away / path.name)

        os.kill(world.pid, signal.SIGUSR1)
        await relay(world, "second")
        await world.until(lambda: len(world.records("d")) == 3)
        await world.ask("reload")

        assert {row["rcpt"][:6] for row in world.records("d")} == {"second"}
        assert "reloaded epoch=2" in (tmp_path / "mta.log").read_text()
        assert "ready" in (away / "mta.log").read_text()
        assert {row["restarts"] for row in (await world.ask("show.workers"))["worker"]} == {0}


def low_port() -> int:
    """A free port that only root may bind."""
    for port in range(1023, 600, -1):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    pytest.skip("no free port below 1024")


def as_nobody(*command: str) -> list[str]:
    account = pwd.getpwnam(NOBODY)
    return ["setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups", *command]


PROBE = (
    "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import mta.service.entry'], check=True)"
)


class Plain:
    """What a plain user needs: an interpreter that may be run, packages to be read, a directory to write."""

    def __init__(self, directory: Path, python: str) -> None:
        self.directory = directory
        self.python = python

    @staticmethod
    def environment() -> dict[str, str]:
        return {"PYTHONPATH": os.pathsep.join(path for path in (os.getcwd(), *sys.path) if "zip" not in path)}

    @classmethod
    def interpreter(cls) -> str:
        """One that nobody may run with our packages; that of a virtual environment may lie in root's home."""
        version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
        for python in (sys.executable, shutil.which(version, path="/usr/bin:/usr/local/bin")):
            environment = {**os.environ, **cls.environment()}
            if (
                python
                and not subprocess.run(
                    as_nobody(python, "-c", PROBE), env=environment, capture_output=True
                ).returncode
            ):
                return python
        pytest.skip("no interpreter that a plain user may run has the packages of this one")


@pytest.fixture
def plain() -> Iterator[Plain]:
    """A directory that belongs to nobody, outside pytest's private ones; skips where that makes no sense."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv (package util-linux) is not installed")
    python = Plain.interpreter()
    with tempfile.TemporaryDirectory(prefix="mta-test-") as name:
        account = pwd.getpwnam(NOBODY)
        os.chown(name, account.pw_uid, account.pw_gid)
        yield Plain(Path(name), python)


def owners(pids: list[int]) -> set[str]:
    """Who runs these processes: real, effective and saved user."""
    found = set()
    for pid in pids:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("Uid:"):
                found |= {pwd.getpwuid(int(uid)).pw_name for uid in line.split()[1:]}
    return found


def world_of(plain: Plain, **options: Any) -> World:
    return World(plain.directory, python=plain.python, environment=plain.environment(), **options)


async def test_root_binds_a_low_port_and_leaves_the_rest_to_a_plain_user(plain: Plain) -> None:
    async with world_of(plain, extra=f"process-user {NOBODY}\n", port=low_port()) as world:
        assert owners([world.pid, *(await world.children()).values()]) == {NOBODY}
        await relay(world, "r")
        await world.until(lambda: len(world.records("d")) == 3)

        assert world.spool.owner() == NOBODY
        assert world.spool.stat().st_mode & 0o777 == 0o700
        assert (plain.directory / "control.sock").stat().st_mode & 0o777 == 0o600
        assert (await world.ask("reload"))["epoch"] == 2
        assert await world.stop() == 0


async def test_a_plain_user_needs_nothing_from_root(plain: Plain) -> None:
    async with world_of(plain, wrapper=as_nobody()) as world:
        assert owners([world.pid, *(await world.children()).values()]) == {NOBODY}
        await relay(world, "r")
        await world.until(lambda: len(world.records("d")) == 3)
        assert await world.stop() == 0


async def test_a_plain_user_cannot_become_another(plain: Plain) -> None:
    world = world_of(plain, wrapper=as_nobody(), extra="process-user root\n")
    async with world.surroundings():
        await world.launch()
        code = await world.wait()

    assert "process-user root: only root can become another user" in world.log()
    assert code == 78


async def test_an_interpreter_that_the_account_may_not_run_is_named(plain: Plain) -> None:
    hidden = plain.directory / "hidden"
    hidden.mkdir(mode=0o700)
    python = hidden / "python"
    python.symlink_to(plain.python)
    plain.python = str(python)
    world = world_of(plain, extra=f"process-user {NOBODY}\n")
    async with world.surroundings():
        await world.launch()
        code = await world.wait()

    assert f"process=worker-0 could not run {python}: Permission denied" in world.log()
    assert "Traceback" not in world.log()
    assert code == 71
