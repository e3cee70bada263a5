"""The control socket given what no client of ours would send: answers, and the same processes as before."""

from __future__ import annotations

import asyncio
import itertools
import json
from pathlib import Path
from typing import Any

from tests.support.service import World

#: Every command with an argument, by the name of the argument.
ARGUMENTS = {
    "show.status": "x",
    "show.version": "x",
    "show.workers": "x",
    "show.queues": "pattern",
    "show.topqueues": "maxitems",
    "show.domains": "sort",
    "show.vmtas": "maxitems",
    "show.jobs": "maxitems",
    "list": "queue",
    "queue.pause": "pattern",
    "queue.resume": "pattern",
    "queue.schedule": "pattern",
    "queue.mode": "mode",
    "set.priority": "priority",
    "delete": "queue",
    "clear.dnscache": "domain",
    "reset.counters": "x",
    "why": "queue",
    "trace": "queue",
    "rotate": "file",
    "glance": "x",
    "run": "x",
}
VALUES: tuple[Any, ...] = (
    *(None, True, -1, 1e308, 2**63, [], ["*"], {}, {"a": 1}),
    *("", "*", "/", "a/b/c", "\x00", "ü" * 300, "\r\n", "\ud800"),
)
LINES = (
    b"",
    b"{}",
    b"null",
    b"[]",
    b'{"command": null}',
    b'{"command": {}}',
    b'{"command": "list", "command": "list"}',
    b'{"command": "queue.pause"}',
    b'{"command": "queue.pause", "pattern": "*", "timeout": 1}',
    b'{"command": "list", "self": 1, "command": "list", "arguments": {}}',
    b"\xff\xfe\x00",
    b'{"command": "' + b"x" * 60_000 + b'"}',
    b"[" * 30_000,
    b'{"command": "list", "id": ' + b"[" * 10_000 + b"]" * 10_000 + b"}",
)


async def exchange(path: Path, line: bytes) -> Any:
    reader, writer = await asyncio.open_unix_connection(path, limit=1 << 26)
    try:
        writer.write(line + b"\n")
        async with asyncio.timeout(20):
            answer = await reader.readline()
        return json.loads(answer) if answer else None
    finally:
        writer.close()


async def test_no_request_ends_a_process(tmp_path: Path) -> None:
    async with World(tmp_path, domains=("example.com",)) as world:
        before = await world.children()
        requests = [
            json.dumps({"command": command, name: value}).encode()
            for (command, name), value in itertools.product(ARGUMENTS.items(), VALUES)
        ]

        answers = [await exchange(tmp_path / "control.sock", line) for line in (*LINES, *requests)]

        assert await world.children() == before, world.log()
        for line, answer in zip((*LINES, *requests), answers, strict=True):
            assert answer is None or isinstance(answer["ok"], bool), line
            assert "internal error" not in str(answer), (line, answer)
            assert "process is not there" not in str(answer), (line, answer)
        assert (await world.ask("show.status"))["status"] == "running"
        assert "Traceback" not in world.log()
