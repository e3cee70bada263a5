"""Programs that read records, real ones."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mta.events.pipe import CommandPipe, PipeBroken, PipeOptions

HEADER = b"type,rcpt\n"
#: Seconds: an interpreter that starts beside three other tests takes some.
PATIENCE = 30.0


def program(source: str, *arguments: object) -> str:
    return shlex.join([sys.executable, "-c", source, *map(str, arguments)])


def copier(target: Path) -> str:
    """Appends what it reads to a file, at once."""
    source = (
        "import sys\n"
        "out = open(sys.argv[1], 'ab', buffering=0)\n"
        "for line in sys.stdin.buffer: out.write(line)\n"
    )
    return program(source, target)


def patient(pipe: CommandPipe, ready: Callable[[], bool]) -> None:
    """Visit the pipe until something is true; the machine decides how often."""
    until = time.monotonic() + PATIENCE
    while not ready():
        assert time.monotonic() < until, "it never came true"
        pipe.flush(0.0)
        os.sched_yield()  # the program may need this processor


def test_program_reads_the_header_and_then_the_records(tmp_path: Path) -> None:
    pipe = CommandPipe(PipeOptions(command=copier(tmp_path / "out")), HEADER)
    pipe.write(b"d,a\n", 0.0)
    pipe.write(b"d,b\n", 0.0)
    pipe.stop(grace=10.0)

    assert (tmp_path / "out").read_bytes() == b"type,rcpt\nd,a\nd,b\n"


def test_program_is_started_when_there_is_something_to_say(tmp_path: Path) -> None:
    pipe = CommandPipe(PipeOptions(command=copier(tmp_path / "out")), HEADER)

    assert pipe.pid == 0
    pipe.flush(0.0)
    assert pipe.pid == 0
    assert pipe.consumed() == 0


def test_consumed_grows_as_the_program_reads(tmp_path: Path) -> None:
    pipe = CommandPipe(PipeOptions(command=copier(tmp_path / "out")), HEADER)
    pipe.write(b"d,a\n", 0.0)

    patient(pipe, lambda: pipe.consumed() == 4)
    assert pipe.written == 4
    pipe.stop()


def test_program_that_reads_nothing_is_given_up_after_its_time() -> None:
    command = program("import time; time.sleep(600)")
    pipe = CommandPipe(PipeOptions(command=command, write_timeout=60.0), HEADER)
    pipe.write(b"x" * (4 << 20), 0.0)

    assert not pipe.is_idle
    assert pipe.consumed() == 0
    pipe.flush(60.0)
    with pytest.raises(PipeBroken, match="read nothing for 60 s"):
        pipe.flush(61.0)
    pipe.stop()


def test_program_that_ends_is_noticed_and_its_unread_records_known(tmp_path: Path) -> None:
    command = program("import sys; sys.stdin.buffer.raw.read(10 + 4); sys.exit(3)")
    pipe = CommandPipe(PipeOptions(command=command), HEADER)
    pipe.write(b"d,a\nd,b\n", 0.0)

    with pytest.raises(PipeBroken, match="ended with code 3"):
        patient(pipe, lambda: False)
    assert pipe.consumed() == 4
    pipe.stop()
    assert pipe.pid == 0


def test_program_that_is_not_there_says_so() -> None:
    pipe = CommandPipe(PipeOptions(command="/no/such/program"), HEADER)

    with pytest.raises(OSError, match="No such file"):
        pipe.write(b"d,a\n", 0.0)
    assert repr(pipe) == "<CommandPipe pid=0 waiting=0>"


@pytest.mark.parametrize("command", ["", "unclosed 'quote"])
def test_command_that_is_none_is_an_error(command: str) -> None:
    with pytest.raises(OSError):
        CommandPipe(PipeOptions(command=command), HEADER).write(b"d,a\n", 0.0)
