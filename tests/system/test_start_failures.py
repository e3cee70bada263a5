"""A start that can't work ends at once with an exit code of sysexits.h and one clear sentence."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.service import World

pytestmark = pytest.mark.timeout(120)

EX_TEMPFAIL = 75
EX_CONFIG = 78


class Trouble(NamedTuple):
    """`prepare(world)` spoils the configuration or its surroundings; `{directory}` stands in `sentence`."""

    name: str
    code: int
    sentence: str
    prepare: Callable[[World], object]


def replace(world: World, old: str, new: str) -> None:
    text = world.config.read_text()
    assert old in text
    world.config.write_text(text.replace(old, new))


def add(text: str) -> Callable[[World], None]:
    def prepare(world: World) -> None:
        with world.config.open("a") as file:
            file.write(text.format(directory=world.directory))

    return prepare


def instead_of(old: str, new: str) -> Callable[[World], None]:
    return lambda world: replace(world, old.format(spool=world.spool, port=world.port), new)


def garbage(name: str, text: str) -> Callable[[World], None]:
    """A file of rubbish beside the configuration, and a line that wants it to be something."""

    def prepare(world: World) -> None:
        (world.directory / name).write_text("not a key\n")
        add(text)(world)

    return prepare


def open_spool(world: World) -> None:
    world.spool.mkdir()
    world.spool.chmod(0o777)


def file_for_spool(world: World) -> None:
    world.spool.write_text("no directory")


def file_for_socket(world: World) -> None:
    (world.directory / "control.sock").write_text("no socket")


def file_for_socket_and_a_log(world: World) -> None:
    """The log that the test reads is standard error, and this one is a file: errors are in both."""
    file_for_socket(world)
    add("log-file {directory}/own.log\n")(world)


TROUBLES = [
    Trouble("no spool", EX_CONFIG, "no spool is configured", instead_of("<spool {spool}>\n</spool>", "")),
    Trouble("a file for a spool", EX_CONFIG, "spool {directory}/spool: ", file_for_spool),
    Trouble("a spool for everybody", EX_CONFIG, "spool {directory}/spool: others may write here", open_spool),
    Trouble(
        "an address of somebody else",
        EX_TEMPFAIL,
        "smtp-listener 192.0.2.1:2525: Cannot assign requested address",
        instead_of("smtp-listener 127.0.0.1:{port}", "smtp-listener 192.0.2.1:2525"),
    ),
    Trouble("a syntax error", EX_CONFIG, "mta.conf:", add("<domain example.com>\n")),
    Trouble("an unknown directive", EX_CONFIG, "max-smtp-aut", add("max-smtp-aut 5\n")),
    Trouble(
        "no key where one should be",
        EX_CONFIG,
        "cannot read {directory}/absent.pem: no such file",
        add("domain-key s1, example.com, {directory}/absent.pem\n"),
    ),
    Trouble(
        "a key that is none",
        EX_CONFIG,
        "{directory}/bad.pem",
        garbage("bad.pem", "domain-key s1, example.com, {directory}/bad.pem\n"),
    ),
    Trouble(
        "a certificate that is none",
        EX_CONFIG,
        "smtp-server-tls-certificate {directory}/bad-certificate.pem: no PEM file with a certificate",
        garbage("bad-certificate.pem", 'smtp-server-tls-certificate "{directory}/bad-certificate.pem"\n'),
    ),
    Trouble(
        "an unknown user",
        EX_CONFIG,
        "process-user nobody-of-that-name: ",
        instead_of("run-as-root yes", "process-user nobody-of-that-name"),
    ),
    Trouble(
        "a directory for a log file",
        EX_CONFIG,
        "log-file {directory}: Is a directory",
        add("log-file {directory}\n"),
    ),
    Trouble(
        "a file for a control socket",
        EX_TEMPFAIL,
        "control-socket: {directory}/control.sock exists and is no socket",
        file_for_socket,
    ),
    Trouble(
        "a trouble that also has a log file",
        EX_TEMPFAIL,
        "control-socket: {directory}/control.sock exists and is no socket",
        file_for_socket_and_a_log,
    ),
    Trouble(
        "a line without effect before another trouble",
        EX_CONFIG,
        "lines without effect yet: ",
        add("postmaster a@example.org\nlog-file {directory}\n"),
    ),
]


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.name)
async def test_a_start_that_cannot_work_says_why(tmp_path: Path, trouble: Trouble) -> None:
    if trouble.name == "an unknown user" and os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    world = World(tmp_path)
    async with world.surroundings():
        trouble.prepare(world)

        await world.launch()
        code = await world.wait()

    said = world.log()
    assert trouble.sentence.format(directory=tmp_path) in said
    assert code == trouble.code, said
    assert "Traceback" not in said


async def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.surroundings():
        with closing(socket.create_server(("127.0.0.1", world.port))):
            await world.launch()
            code = await world.wait()

    assert f"smtp-listener 127.0.0.1:{world.port}: Address already in use" in world.log()
    assert code == EX_TEMPFAIL


async def test_a_configuration_that_is_not_there_is_named(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.surroundings():
        world.config.unlink()
        await world.launch()
        code = await world.wait()

    assert f"cannot read {world.config}: no such file" in world.log()
    assert code == EX_CONFIG
