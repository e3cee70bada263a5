"""The servers on the bench, each in a directory of its own: ours, and Postfix as a private instance."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Protocol

from benchmarks.processes import BenchError, free_port, is_greeting, start, stop, wait_for
from benchmarks.scenarios import Server
from benchmarks.tools import PATH

__all__ = ["BenchServer", "has_postfix", "make_server", "postfix_version"]


class BenchServer(Protocol):
    """Accepts mail for any domain at `port` and sends all of it to the sink."""

    port: int
    pid: int

    def hold(self) -> None:
        """Accept, but let nothing out."""
        ...

    def go(self) -> None:
        """Let out what was held."""
        ...

    def close(self) -> None: ...


def make_server(server: Server, directory: Path, *, sink_port: int, connections: int) -> BenchServer:
    """Start one and wait until it serves. BenchError when it does not."""
    made = PostfixServer if server is Server.POSTFIX else MtaServer
    return made(directory, sink_port=sink_port, connections=connections)


class MtaServer:
    """Our own: one worker, everything durable, accounting on, no TLS, no DKIM, no DNS."""

    def __init__(self, directory: Path, *, sink_port: int, connections: int) -> None:
        self.port = free_port()
        self._config = directory / "mta.conf"
        self._config.write_text(
            f"""
host-name        bench.example
run-as-root      yes
smtp-listener    127.0.0.1:{self.port}
control-socket   {directory}/control.sock
total-max-smtp-in   1000
total-max-smtp-out  1000
<source 127.0.0.1>
    always-allow-relaying  yes
</source>
<domain *>
    smtp-hosts    [127.0.0.1]:{sink_port}
    max-smtp-out  {connections}
    retry-after   1m
</domain>
<spool {directory}/spool>
</spool>
<acct-file {directory}/acct.csv>
    records d, b, t
</acct-file>
"""
        )
        self._log = directory / "mta.log"
        self._process = start([sys.executable, "-m", "mta", "-c", str(self._config), "run"], output=self._log)
        self.pid = self._process.pid
        try:
            wait_for(self._is_up, "the server", patience=60.0)
        except BenchError as error:
            stop(self._process)
            raise BenchError(f"{error}\n{self._log.read_text(errors='replace')[-2000:]}") from None

    def _is_up(self) -> bool:
        if self._process.poll() is not None:
            raise BenchError(f"the server ended with {self._process.returncode}")
        return is_greeting(self.port)

    def hold(self) -> None:
        self._command("pause", "queue", "*/*")

    def go(self) -> None:
        self._command("resume", "queue", "*/*")

    def _command(self, *words: str) -> None:
        command = [sys.executable, "-m", "mta", "-c", str(self._config), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchError(f"mta {' '.join(words)}: {done.stderr.strip()}")

    def close(self) -> None:
        stop(self._process)


def has_postfix() -> bool:
    """Whether Postfix is installed and may be run as a private instance (that takes root)."""
    return os.getuid() == 0 and shutil.which("postfix", path=PATH) is not None and bool(master_file())


def master_file() -> Path | None:
    """The distributed master.cf."""
    for path in (
        "/usr/share/postfix/master.cf.dist",
        "/etc/postfix/master.cf.proto",
        "/etc/postfix/master.cf",
    ):
        if Path(path).is_file():
            return Path(path)
    return None


def postfix_version() -> str:
    return postconf("-d", "-h", "mail_version")


def postconf(*words: str) -> str:
    done = subprocess.run(
        [shutil.which("postconf", path=PATH) or "postconf", *words],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip()


class PostfixServer:
    """A private instance with the settings that its documentation recommends for a relay under load."""

    def __init__(self, directory: Path, *, sink_port: int, connections: int) -> None:
        self.port = free_port()
        self._config = directory / "postfix"
        for name in ("postfix", "queue", "data"):
            (directory / name).mkdir()
        # Postfix's own users have to get through.
        for parent in (directory, *directory.parents):
            if parent.stat().st_mode & 0o005 != 0o005 and parent != Path("/"):
                parent.chmod(parent.stat().st_mode | 0o055)
        shutil.chown(directory / "data", user=postconf("-d", "-h", "mail_owner") or "postfix")
        settings = {
            "compatibility_level": "3.6",
            "queue_directory": str(directory / "queue"),
            "data_directory": str(directory / "data"),
            "daemon_directory": postconf("-d", "-h", "daemon_directory"),
            "maillog_file": str(directory / "data" / "maillog"),
            "maillog_file_prefixes": str(directory),
            "myhostname": "bench.example",
            "inet_interfaces": "127.0.0.1",
            "inet_protocols": "ipv4",
            "mynetworks": "127.0.0.0/8",
            "mydestination": "",
            "alias_maps": "",
            "alias_database": "",
            "smtpd_relay_restrictions": "permit_mynetworks, defer_unauth_destination",
            "relayhost": f"[127.0.0.1]:{sink_port}",
            "default_process_limit": "200",
            "smtp_destination_concurrency_limit": str(max(50, connections)),
            "initial_destination_concurrency": str(max(50, connections)),
            "qmgr_message_active_limit": "100000",
            "qmgr_message_recipient_limit": "100000",
            "in_flow_delay": "0",
            "smtp_connection_cache_destinations": "127.0.0.1",
        }
        (self._config / "main.cf").write_text(
            "".join(f"{key} = {value}\n" for key, value in settings.items())
        )
        (self._config / "master.cf").write_text(self._master())
        self._postfix("start")
        self.pid = int((directory / "queue" / "pid" / "master.pid").read_text())
        wait_for(lambda: is_greeting(self.port), "Postfix")

    def _master(self) -> str:
        """The distributed services without chroot, the listener moved to our port."""
        path = master_file()
        assert path is not None
        lines = []
        for line in path.read_text().splitlines():
            words = line.split()
            if len(words) >= 8 and not line.startswith(("#", " ", "\t")):
                words[4] = "n"
                if words[0] == "smtp" and words[1] == "inet":
                    words[0] = f"127.0.0.1:{self.port}"
                line = " ".join(words)
            lines.append(line)
        return "\n".join(lines) + "\n"

    def _postfix(self, *words: str) -> None:
        command = [shutil.which("postfix", path=PATH) or "postfix", "-c", str(self._config), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchError(f"postfix {' '.join(words)}: {(done.stderr or done.stdout).strip()[-500:]}")

    def _set(self, setting: str) -> None:
        postconf("-c", str(self._config), "-e", setting)
        self._postfix("reload")

    def hold(self) -> None:
        self._set("defer_transports=smtp,relay")

    def go(self) -> None:
        self._set("defer_transports=")
        queue = shutil.which("postqueue", path=PATH) or "postqueue"
        subprocess.run([queue, "-c", str(self._config), "-f"], check=False, capture_output=True)

    def close(self) -> None:
        self._postfix("stop")
