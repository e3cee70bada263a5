"""A control socket with fixed answers, for tests of the command line."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from mta.cli.main import main

__all__ = ["ControlServer", "run_mta"]


def run_mta(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], *arguments: str, answers: Mapping[str, Any]
) -> tuple[int, str, list[dict[str, Any]]]:
    """One call of the command: its exit code, all it printed, what it asked."""
    path = tmp_path / "control.sock"
    with ControlServer(path, answers) as server:
        code = main(["--socket", str(path), *arguments])
    printed = capsys.readouterr()
    return code, printed.out + printed.err, server.requests


class ControlServer:
    """Answers each command with what `answers` has for it: data, or a whole reply with an "ok" of its own.

    `requests` are what was asked, in order. An answer that is bytes is sent as it is.
    """

    def __init__(self, path: Path, answers: Mapping[str, Any]) -> None:
        self.path = path
        self.requests: list[dict[str, Any]] = []
        self._answers = answers
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> ControlServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Closing a socket does not wake up accept(); a connection that says nothing does.
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as last:
            last.connect(str(self.path))
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            with connection, connection.makefile("rb") as lines:
                line = lines.readline()
                if not line:
                    return
                connection.sendall(self._answer(json.loads(line)))

    def _answer(self, request: dict[str, Any]) -> bytes:
        self.requests.append(request)
        answer = self._answers.get(request["command"])
        if isinstance(answer, bytes):
            return answer
        if isinstance(answer, dict) and "ok" in answer:
            return json.dumps(answer).encode() + b"\n"
        if answer is None:
            return (
                json.dumps({"ok": False, "error": f"unknown command {request['command']}"}).encode() + b"\n"
            )
        return json.dumps({"ok": True, "data": answer}).encode() + b"\n"
