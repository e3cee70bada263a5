"""Haraka, for comparison where `haraka` is installed (npm)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from benchmarks.processes import (
    BenchError,
    CpuTime,
    cpu_of_tree,
    free_port,
    start,
    stop,
    wait_for_greeting,
)

__all__ = ["HarakaServer", "haraka_version", "has_haraka"]

#: Relays for everybody who gets through to it, asks no DNS, and sends all mail to the sink.
PLUGIN = """
exports.hook_lookup_rdns = function (next) { next(OK, 'localhost') }
exports.hook_connect = function (next, connection) { connection.relaying = true; next() }
exports.hook_rcpt = function (next) { next(OK) }
exports.hook_get_mx = function (next) { next(OK, { priority: 0, exchange: '127.0.0.1', port: %d }) }
"""


def has_haraka() -> bool:
    """Whether it is there."""
    return shutil.which("haraka") is not None


def haraka_version() -> str:
    """As its package says; "" when the program does not lie in one."""
    package = Path(shutil.which("haraka") or "haraka").resolve().parents[1] / "package.json"
    return str(json.loads(package.read_text()).get("version", "")) if package.is_file() else ""


class HarakaServer:
    """One process, or a cluster of `nodes` below one that shares the port out; the rest are its defaults."""

    def __init__(self, directory: Path, *, sink_port: int, connections: int, nodes: int = 1) -> None:
        self.port = free_port()
        home = directory / "haraka"
        files = {
            "config/me": "bench.example",
            "config/plugins": "to_sink",
            "config/smtp.ini": f"listen=127.0.0.1:{self.port}\n" + (f"nodes={nodes}\n" if nodes > 1 else ""),
            "config/outbound.ini": f"enable_tls=false\nconcurrency_max={connections}\n",
            "config/log.ini": "level=info\n",
            "plugins/to_sink.js": PLUGIN % sink_port,
        }
        for name, text in files.items():
            path = home / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        (home / "queue").mkdir()
        program = shutil.which("haraka") or "haraka"
        distributed = Path(program).resolve().parents[1] / "config" / "connection.ini"
        if distributed.is_file():
            shutil.copy(distributed, home / "config")
        self._log = directory / "haraka.log"
        self._process = start([program, "-c", str(home)], output=self._log)
        self.pid = self._process.pid
        try:
            wait_for_greeting(self.port, "Haraka", self._log)
        except BenchError:
            stop(self._process)
            raise

    def cpu(self) -> CpuTime:
        return cpu_of_tree(self.pid)

    def hold(self) -> None:
        """Its queue can't be held."""
        raise BenchError("Haraka takes part in relaying only")

    def go(self) -> None:
        """See `hold`."""
        raise BenchError("Haraka takes part in relaying only")

    def close(self) -> None:
        stop(self._process, patience=5.0)
