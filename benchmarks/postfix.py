"""Postfix as a private instance, for comparison."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from benchmarks.processes import BenchError, CpuTime, cpu_of_tree, free_port, is_greeting, wait_for
from benchmarks.tools import PATH

__all__ = ["PostfixServer", "has_postfix", "postfix_version"]


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


def tuned(connections: int, sessions: int) -> dict[str, str]:
    """Settings for many connections at once."""
    return {
        "default_process_limit": str(max(200, 2 * connections + 50, sessions + 50)),
        "smtp_destination_concurrency_limit": str(connections),
        "initial_destination_concurrency": str(connections),
        "qmgr_message_active_limit": "100000",
        "qmgr_message_recipient_limit": "100000",
        "in_flow_delay": "0",
        "smtp_connection_cache_destinations": "127.0.0.1",
    }


class PostfixServer:
    """A private instance.

    `connections` 0 leaves its defaults, which are best for a receiver that is near and quick; otherwise it
    gets what its documentation recommends for a relay under load: so many connections at a time, kept open,
    and a long active queue.
    """

    def __init__(
        self, directory: Path, *, sink_port: int, connections: int, sessions: int, is_tls: bool = False
    ) -> None:
        self.port = free_port()
        self._sessions = sessions
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
            "smtp_tls_security_level": "may" if is_tls else "none",
        }
        self._is_tls = is_tls
        if is_tls:
            settings["smtp_tls_connection_reuse"] = "yes"  # by the tlsproxy service, see below
        if connections:
            settings |= tuned(connections, sessions)
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
                    # Every session has a server at once: the default of 100 would let others wait.
                    words[6] = str(self._sessions + 20)
                line = " ".join(words)
            lines.append(line)
        if self._is_tls:
            lines.append("tlsproxy unix - - n - 0 tlsproxy")
        return "\n".join(lines) + "\n"

    def _postfix(self, *words: str) -> None:
        command = [shutil.which("postfix", path=PATH) or "postfix", "-c", str(self._config), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchError(f"postfix {' '.join(words)}: {(done.stderr or done.stdout).strip()[-500:]}")

    def _set(self, setting: str) -> None:
        postconf("-c", str(self._config), "-e", setting)
        self._postfix("reload")

    def cpu(self) -> CpuTime:
        return cpu_of_tree(self.pid)

    def hold(self) -> None:
        self._set("defer_transports=smtp,relay")

    def go(self) -> None:
        self._set("defer_transports=")
        queue = shutil.which("postqueue", path=PATH) or "postqueue"
        subprocess.run([queue, "-c", str(self._config), "-f"], check=False, capture_output=True)

    def close(self) -> None:
        self._postfix("stop")
