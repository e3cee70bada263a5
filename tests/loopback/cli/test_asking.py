"""What the control socket's client says when there is no server, or none that can be understood."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from mta.cli.control import ControlFailure, Unreachable, ask
from tests.support.control_server import ControlServer


def test_no_socket_means_no_server(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="no server is running") as caught:
        ask(tmp_path / "none", "show.status")
    assert caught.value.code == 69


def test_a_left_over_socket_means_no_server_either(tmp_path: Path) -> None:
    path = tmp_path / "old"
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(path))

    with pytest.raises(Unreachable, match="no server listens") as caught:
        ask(path, "show.status")
    assert caught.value.code == 69


@pytest.mark.parametrize("answer", [b"not json\n", b"[]\n", b"{}\n"])
def test_an_answer_that_is_none_is_reported(tmp_path: Path, answer: bytes) -> None:
    with ControlServer(tmp_path / "s", {"x": answer}), pytest.raises(ControlFailure, match="can't be read"):
        ask(tmp_path / "s", "x")


def test_a_server_that_hangs_up_is_a_temporary_failure(tmp_path: Path) -> None:
    with ControlServer(tmp_path / "s", {"x": b'{"ok": tr'}), pytest.raises(Unreachable) as caught:
        ask(tmp_path / "s", "x")
    assert caught.value.code == 75
