"""The servers on the bench, each in a directory of its own: ours, and how to make the others."""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any, Protocol

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from benchmarks.exim import EximServer
from benchmarks.haraka import HarakaServer
from benchmarks.opensmtpd import OpensmtpdServer
from benchmarks.postfix import PostfixServer
from benchmarks.processes import (
    BenchError,
    CpuTime,
    cpu_of_tree,
    free_port,
    is_greeting,
    start,
    stop,
    wait_for,
)
from benchmarks.scenarios import Dkim, Entry, Server, Shape
from benchmarks.tools import DOMAIN

__all__ = ["BenchServer", "MtaServer", "configuration", "make_server"]


class BenchServer(Protocol):
    """Accepts mail for any domain at `port` and sends all of it to the sink."""

    port: int
    pid: int

    def cpu(self) -> CpuTime:
        """What all its processes have used so far."""
        ...

    def hold(self) -> None:
        """Accept, but let nothing out."""
        ...

    def go(self) -> None:
        """Let out what was held."""
        ...

    def close(self) -> None: ...


def make_server(shape: Shape, entry: Entry, directory: Path, *, sink_port: int) -> BenchServer:
    """Start one and wait until it serves. BenchError when it does not."""
    if entry.server is Server.POSTFIX:
        return PostfixServer(
            directory,
            sink_port=sink_port,
            connections=entry.connections,
            sessions=shape.sessions,
            is_tls=entry.is_tls,
        )
    if entry.server is Server.HARAKA:
        return HarakaServer(
            directory, sink_port=sink_port, connections=entry.connections, nodes=entry.workers
        )
    if entry.server is Server.EXIM:
        return EximServer(directory, sink_port=sink_port, sessions=shape.sessions)
    if entry.server is Server.OPENSMTPD:
        return OpensmtpdServer(directory, sink_port=sink_port, connections=entry.connections)
    return MtaServer(directory, configuration(shape, entry, directory), sink_port, is_synced=entry.is_synced)


#: Everything durable, accounting on, no DNS; what isn't said is as delivered.
SETTINGS = """
host-name           bench.example
run-as-root         yes
workers             {workers}
smtp-listener       127.0.0.1:@PORT@
control-socket      {directory}/control.sock
total-max-smtp-in   1000
total-max-smtp-out  3000
{posts}{key}
<source 127.0.0.1>
    always-allow-relaying  yes
</source>
<domain *>
    smtp-hosts     [127.0.0.1]:@SINK@
    max-smtp-out   {connections}
    retry-after    1m
{domain}</domain>
<spool {directory}/spool>
</spool>
<acct-file {directory}/acct.csv>
    records d, b, t
</acct-file>
"""


def configuration(shape: Shape, entry: Entry, directory: Path) -> str:
    """Our settings for one load; the two ports are still to be filled in."""
    domain = f"    use-starttls   {'yes' if entry.is_tls else 'no'}\n"
    if shape.domains > 1:
        # A connection that waits for the next message of its domain saves a handshake.
        domain += "    connection-idle-timeout  5s\n"
    key = ""
    if entry.dkim is not Dkim.OFF:
        domain += "    dkim-sign      yes\n"
        key = f"domain-key bench,{DOMAIN},{make_key(entry.dkim, directory)}\n"
    return SETTINGS.format(
        directory=directory,
        workers=entry.workers,
        connections=entry.connections,
        posts=posts(entry) if entry.is_pinned else "",
        key=key,
        domain=domain,
    )


def posts(entry: Entry) -> str:
    """Each worker on a processor of its own; the second of two has half of the domains."""
    text = ""
    for number in range(entry.workers):
        claim = "    domains *.b.bench.example\n" if (number, entry.workers) == (1, 2) else ""
        text += f"<worker {number}>\n    cpus {number}\n{claim}</worker>\n"
    return text


def make_key(kind: Dkim, directory: Path) -> Path:
    """A private key of our own for signing."""
    secret: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
    if kind is Dkim.RSA:
        secret = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    else:
        secret = ed25519.Ed25519PrivateKey.generate()
    path = directory / "dkim.pem"
    path.write_bytes(
        secret.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    path.chmod(0o600)
    return path


class MtaServer:
    """Our own, as `mta run`."""

    def __init__(self, directory: Path, text: str, sink_port: int, *, is_synced: bool = True) -> None:
        self.port = free_port()
        self._config = directory / "mta.conf"
        self._config.write_text(text.replace("@PORT@", str(self.port)).replace("@SINK@", str(sink_port)))
        self._log = directory / "mta.log"
        environment = dict(os.environ)
        if not is_synced:
            environment["PYTHONPATH"] = str(Path(__file__).parent / "unsynced")
        command = [sys.executable, "-m", "mta", "-c", str(self._config), "run"]
        self._process = start(command, output=self._log, environment=environment)
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

    def cpu(self) -> CpuTime:
        return cpu_of_tree(self.pid)

    def hold(self) -> None:
        self.ask({"command": "queue.pause", "pattern": "*/*"})

    def go(self) -> None:
        self.ask({"command": "queue.resume", "pattern": "*/*"})

    def ask(self, request: dict[str, object]) -> dict[str, Any]:
        """One request at the control socket (a program of its own would take CPU from what is timed)."""
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(60.0)
            line.connect(str(self._config.parent / "control.sock"))
            line.sendall(json.dumps(request).encode() + b"\n")
            with line.makefile("rb") as answers:
                answer = json.loads(answers.readline() or b"{}")
        if not answer.get("ok"):
            raise BenchError(f"{request['command']}: {answer.get('error', 'no answer')}")
        data: dict[str, Any] = answer["data"]
        return data

    def close(self) -> None:
        stop(self._process)
