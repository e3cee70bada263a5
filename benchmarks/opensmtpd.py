"""OpenSMTPD as a private instance, for comparison where it is installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from benchmarks.enclosure import Enclosure, can_enclose
from benchmarks.processes import BenchError, CpuTime, free_port, start, stop, wait_for_greeting
from benchmarks.tools import PATH

__all__ = ["OpensmtpdServer", "has_opensmtpd", "opensmtpd_configuration", "opensmtpd_version"]

USERS = "opensmtpd", "opensmtpq"
#: All of them are compiled in.
PLACES = "/var/spool", "/var/lib", "/run"

#: As delivered it takes 100 messages a session, opens few connections, and pauses between them, which is kind
#: to strangers; between hosts of one's own its `limit` lines raise that, as smtpd.conf(5) lets them.
CONFIGURATION = """
smtp max-message-size 50M
smtp limit max-mails 1000000
listen on 127.0.0.1 port {port} hostname bench.example
action "out" relay host smtp+notls://127.0.0.1:{sink_port} helo bench.example
match from any for any action "out"
mta limit max-conn-per-host {connections}
mta limit max-conn-per-route {connections}
mta limit max-conn-per-source {connections}
mta limit max-conn-per-connector {connections}
mta limit max-conn-per-relay {connections}
mta limit max-conn-per-domain {connections}
mta limit conn-delay-host 0
mta limit reconn-delay-route 0
mta limit session-mail-max 100000
mta limit task-hiwat 5000
mta limit task-lowat 4000
mta limit task-release 1000
scheduler limit max-inflight 100000
"""


def has_opensmtpd() -> bool:
    """Whether it is installed and may be run as a private instance (that takes root)."""
    return can_enclose() and bool(opensmtpd_version())


def opensmtpd_program() -> str:
    """OPENSMTPD says where its smtpd is; else it is looked for like any program."""
    return os.environ.get("OPENSMTPD", "") or shutil.which("smtpd", path=PATH) or ""


def opensmtpd_version() -> str:
    """ "" when there is none: other servers have a program of this name as well."""
    if not opensmtpd_program():
        return ""
    done = subprocess.run([opensmtpd_program(), "-h"], capture_output=True, text=True, check=False)
    found = re.search(r"OpenSMTPD (\S+)", done.stdout + done.stderr)
    return found[1] if found else ""


def opensmtpd_configuration(*, port: int, sink_port: int, connections: int) -> str:
    """What its file says."""
    return CONFIGURATION.format(port=port, sink_port=sink_port, connections=connections)


class OpensmtpdServer:
    """With its spool, its socket and its users inside of an enclosure."""

    def __init__(self, directory: Path, *, sink_port: int, connections: int) -> None:
        self.port = free_port()
        self._enclosure = Enclosure(directory, users=USERS, places=PLACES)
        for path in ("/var/spool/smtpd", "/var/lib/opensmtpd/empty"):
            self._enclosure.at(path).mkdir(parents=True)
            self._enclosure.at(path).chmod(0o711)
        config = directory / "smtpd.conf"
        config.write_text(
            opensmtpd_configuration(port=self.port, sink_port=sink_port, connections=connections)
        )
        config.chmod(0o600)
        log = directory / "smtpd.log"
        words = [opensmtpd_program(), "-d", "-f", str(config)]
        self._process = start(self._enclosure.command(words), output=log)
        self.pid = self._process.pid
        try:
            wait_for_greeting(self.port, "OpenSMTPD", log)
        except BenchError:
            self.close()
            raise

    def cpu(self) -> CpuTime:
        return self._enclosure.account.cpu()

    def hold(self) -> None:
        """Its queue could be held, but what comes out of it then is not synced: it says little."""
        raise BenchError("OpenSMTPD takes part in relaying only")

    def go(self) -> None:
        """See `hold`."""
        raise BenchError("OpenSMTPD takes part in relaying only")

    def close(self) -> None:
        stop(self._process, patience=5.0)
        self._enclosure.account.close()
