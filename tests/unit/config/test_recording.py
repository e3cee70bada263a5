"""Accounting that will not come is named where it was asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from mta.config.lint import Machine, lint
from mta.config.load import load_text


def warnings(text: str, machine: Machine) -> list[str]:
    loaded = load_text(text, directory=Path("/etc/mta"))
    assert loaded.snapshot is not None, loaded.problems
    return [f"{problem.line}: {problem.text}" for problem in lint(loaded.snapshot, machine)]


@pytest.mark.parametrize(
    ("records", "said"),
    [("d, b", ""), ("d, f", "records f"), ("b, remote-bounce, rs", "records remote-bounce, rs")],
)
def test_types_that_nothing_writes_yet_are_named(records: str, said: str) -> None:
    found = warnings(f"<acct-file /var/a.csv>\n  records {records}\n</acct-file>", Machine())

    told = [text for text in found if "no such records" in text]
    assert told == ([f"2: {said}: there are no such records yet"] if said else [])


def test_a_program_that_is_not_there_is_named_before_its_records_are_missed() -> None:
    text = "<acct-file |/bin/there -x>\n</acct-file>\n<acct-file |away 'a b'>\n</acct-file>"
    found = warnings(text, Machine(has_program=lambda name: name == "/bin/there"))

    assert [text for text in found if "no program" in text] == [
        "3: <acct-file |away 'a b'>: there is no program 'away' that can be run"
    ]


def test_this_machine_knows_its_programs(tmp_path: Path) -> None:
    here = Machine.here()
    (tmp_path / "script").write_text("#!/bin/sh\n")

    assert here.has_program("sh")
    assert not here.has_program(str(tmp_path / "script")), "it can't be executed"
    assert not here.has_program(str(tmp_path / "missing"))
