"""Exim as a private instance, for comparison where it is installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.enclosure import Enclosure, can_enclose
from benchmarks.processes import BenchError, CpuTime, free_port, start, stop, wait_for_greeting
from benchmarks.tools import PATH

__all__ = ["EximServer", "exim_configuration", "exim_version", "has_exim"]

#: The name that Debian's packages have compiled in; others have `exim`.
USERS = "Debian-exim", "exim"
#: How many runners empty the queue at a time after it was held.
RUNNERS = 4
PATIENCE = 30.0

#: A relay without local delivery needs no privileges (`deliver_drop_privilege`) and forks instead of starting
#: itself anew; its specification wants a spool in parts for large queues (`split_spool_directory`); and
#: `smtp_accept_queue_per_connection` would leave all but ten messages of a session to the next queue run.
CONFIGURATION = """
exim_path = {program}
keep_environment = LD_LIBRARY_PATH
primary_hostname = bench.example
spool_directory = {directory}/spool
log_file_path = {directory}/log/%slog
pid_file_path = {directory}/exim.pid
local_interfaces = 127.0.0.1
daemon_smtp_ports = {port}
deliver_drop_privilege = true
split_spool_directory = true
smtp_accept_max = {sessions}
smtp_accept_max_per_connection = 0
smtp_accept_queue_per_connection = 0
smtp_connect_backlog = 128
tls_advertise_hosts =
host_lookup =
rfc1413_query_timeout = 0s
acl_smtp_rcpt = relay

begin acl
relay:
  warn  condition = ${{if exists{{{directory}/hold}}}}
        control = queue
  accept

begin routers
sink:
  driver = manualroute
  route_list = * 127.0.0.1 byname
  self = send
  transport = sink

begin transports
sink:
  driver = smtp
  port = {sink_port}
  allow_localhost
  hosts_avoid_tls = *

begin retry
*  *  F,2h,1m
"""


def has_exim() -> bool:
    """Whether it is installed and may be run as a private instance (that takes root)."""
    return can_enclose() and bool(exim_program())


def exim_program() -> str:
    """EXIM says where it is; else it is looked for like any program."""
    named = os.environ.get("EXIM", "")
    return named or shutil.which("exim4", path=PATH) or shutil.which("exim", path=PATH) or ""


def exim_version() -> str:
    """Asked inside, since without its user it says nothing."""
    with TemporaryDirectory() as directory:
        enclosure = Enclosure(Path(directory), users=USERS, places=())
        command = enclosure.command([exim_program(), "-bV"])
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        enclosure.account.close()
    found = re.search(r"Exim version (\S+)", done.stdout)
    return found[1] if found else "of unknown version"


def exim_configuration(directory: Path, *, port: int, sink_port: int, sessions: int, program: str) -> str:
    """What its file says."""
    return CONFIGURATION.format(
        directory=directory, port=port, sink_port=sink_port, sessions=sessions + 50, program=program
    )


class EximServer:
    """A daemon that delivers each message at once in a process of its own."""

    def __init__(self, directory: Path, *, sink_port: int, sessions: int) -> None:
        self.port = free_port()
        self._home = directory / "exim"
        for name in ("spool", "log"):
            (self._home / name).mkdir(parents=True)
        self._enclosure = Enclosure(directory, users=USERS, places=())
        owner = self._enclosure.owner(USERS[0])
        for path in (self._home, *self._home.iterdir()):
            os.chown(path, owner, owner)
        program = exim_program()
        self._program = [program, "-C", str(self._home / "exim.conf")]
        text = exim_configuration(
            self._home, port=self.port, sink_port=sink_port, sessions=sessions, program=program
        )
        (self._home / "exim.conf").write_text(text)
        log = directory / "exim.log"
        self._process = start(self._enclosure.command([*self._program, "-bdf", "-q30m"]), output=log)
        self.pid = self._process.pid
        try:
            wait_for_greeting(self.port, "Exim", log, patience=PATIENCE)
        except BenchError:
            self.close()
            raise

    def cpu(self) -> CpuTime:
        return self._enclosure.account.cpu()

    def hold(self) -> None:
        (self._home / "hold").touch()

    def go(self) -> None:
        (self._home / "hold").unlink()
        runner = self._enclosure.command([*self._program, "-q"])
        for number in range(RUNNERS):
            start(runner, output=self._home / f"runner-{number}.log")

    def close(self) -> None:
        stop(self._process, patience=5.0)
        self._enclosure.account.close()
