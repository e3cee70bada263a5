"""The demonstration itself, with ports and a folder of its own."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import sys
from pathlib import Path

import pytest

from mta.sink.demo import CONFIG
from tests.support.service import free_port

pytestmark = pytest.mark.timeout(120)


def config_in(directory: Path) -> Path:
    """The quickstart's configuration, moved out of the way of one that may be running."""
    text = CONFIG.read_text()
    for port in ("2525", "2526", "5354"):
        text = re.sub(rf"\b{port}\b", str(free_port()), text)
    path = directory / "conf" / "quickstart.conf"
    path.parent.mkdir()
    path.write_text(text)
    return path


async def start(directory: Path, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "mta.sink.demo", "--config", str(config_in(directory)), *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def test_demonstration_relays_checks_and_ends_well(tmp_path: Path) -> None:
    process = await start(tmp_path, "--messages", "120")
    said = (await process.communicate())[0].decode()

    assert process.returncode == 0, said
    assert "every body arrived as it was sent" in said
    assert "127.0.0.11" in said
    assert "127.0.0.12" in said


@pytest.mark.parametrize("line_before", [b"mock receivers", b"server  "])
async def test_demonstration_that_is_interrupted_early_gives_no_verdict(
    tmp_path: Path, line_before: bytes
) -> None:
    process = await start(tmp_path)
    assert process.stdout is not None
    said = b""
    while line_before not in said:
        line = await process.stdout.readline()
        assert line, said.decode()
        said += line
    process.send_signal(signal.SIGINT)

    said += (await process.communicate())[0]
    assert process.returncode == 130, said.decode()
    assert b"Interrupted" in said
    assert b"wrong:" not in said
    assert b"failed" not in said


@pytest.mark.slow
async def test_demonstration_stays_until_it_is_interrupted(tmp_path: Path) -> None:
    process = await start(tmp_path, "--messages", "20", "--stay")
    assert process.stdout is not None
    said = b""
    while b"Ctrl-C" not in said:
        line = await process.stdout.readline()
        assert line, said.decode()
        said += line
    for line in said.decode().splitlines():
        if ".venv/bin/mta " in line:
            words = line.split()[1:]
            done = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "mta", *words),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            told = (await done.communicate())[0].decode()
            assert done.returncode == 0, line + told
    process.send_signal(signal.SIGINT)

    rest = (await process.communicate())[0]
    assert process.returncode == 0, (said + rest).decode()
    assert b"show status" in said


async def test_second_demonstration_says_what_is_in_its_way(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    port = re.search(r"smtp-listener +127.0.0.1:(\d+)", config.read_text())
    assert port is not None
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", int(port[1])))
        taken.listen()
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "mta.sink.demo", "--config", str(config)),
            stdout=asyncio.subprocess.PIPE,
        )
        said = (await process.communicate())[0].decode()

    assert process.returncode == 1
    assert "is another demonstration running?" in said
