"""The control socket, asked by a real client."""

from __future__ import annotations

import asyncio
import json
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from mta.errors import MtaError
from mta.service.admin import AdminSocket

pytestmark = pytest.mark.both_loops


async def answer(command: str, arguments: dict[str, Any]) -> Any:
    if command == "fail":
        raise MtaError("no queue matches")
    if command == "bug":
        raise ZeroDivisionError
    return {"command": command, **arguments}


async def ask(path: Path, *lines: bytes) -> list[Any]:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(b"".join(lines))
    writer.write_eof()
    answers = [json.loads(line) async for line in reader]
    writer.close()
    return answers


async def test_requests_are_answered_in_order(tmp_path: Path) -> None:
    admin = AdminSocket(str(tmp_path / "s"), answer)
    await admin.open()

    got = await ask(tmp_path / "s", b'{"command": "a", "x": 1}\n', b'{"command": "fail"}\n')

    assert got == [
        {"ok": True, "data": {"command": "a", "x": 1}},
        {"ok": False, "error": "no queue matches"},
    ]
    await admin.close()
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("line", [b"\n", b"[1]\n", b"{}\n", b"\xff\xfe\n", b'"command"\n'])
async def test_rubbish_is_answered_with_an_error(tmp_path: Path, line: bytes) -> None:
    admin = AdminSocket(str(tmp_path / "s"), answer)
    await admin.open()

    (got,) = await ask(tmp_path / "s", line)

    assert not got["ok"]
    assert "not a request" in got["error"]
    await admin.close()


async def test_a_bug_in_a_command_is_an_answer_not_an_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    admin = AdminSocket(str(tmp_path / "s"), answer)
    await admin.open()

    got = await ask(tmp_path / "s", b'{"command": "bug"}\n', b'{"command": "a"}\n')

    assert [one["ok"] for one in got] == [False, True]
    assert "command=bug failed" in caplog.text
    await admin.close()


async def test_an_endless_request_is_cut_off(tmp_path: Path) -> None:
    admin = AdminSocket(str(tmp_path / "s"), answer)
    await admin.open()

    assert await ask(tmp_path / "s", b"x" * 100_000) == []
    await admin.close()


async def test_only_the_owner_may_open_the_socket(tmp_path: Path) -> None:
    admin = AdminSocket(str(tmp_path / "s"), answer)
    await admin.open()

    assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o600
    await admin.close()


async def test_a_second_instance_is_told_of_the_first(tmp_path: Path) -> None:
    first = AdminSocket(str(tmp_path / "s"), answer)
    await first.open()

    with pytest.raises(MtaError, match="another instance is running"):
        await AdminSocket(str(tmp_path / "s"), answer).open()
    await first.close()


async def test_a_socket_left_by_a_crash_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as crashed:
        crashed.bind(str(tmp_path / "s"))
    admin = AdminSocket(str(tmp_path / "s"), answer)

    await admin.open()

    assert (await ask(tmp_path / "s", b'{"command": "a"}\n'))[0]["ok"]
    await admin.close()


async def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("precious")

    with pytest.raises(MtaError, match="is no socket"):
        await AdminSocket(str(tmp_path / "s"), answer).open()
    assert (tmp_path / "s").read_text() == "precious"
