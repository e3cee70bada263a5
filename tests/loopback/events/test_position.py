"""The small file that says how far an output is."""

from __future__ import annotations

from pathlib import Path

import pytest

from mta.events.files import Resting
from mta.events.position import Position, read_position, write_position
from mta.spool.settlelog import Cursor


def test_position_comes_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / ".acct.csv.position"
    cursors = {"/spool/0": Cursor(3, 4096), "/spool/1": Cursor(1, 64)}
    resting = Resting("acct-2026-11-21-0000.csv", 123, 1.5)

    write_position(path, cursors, resting)

    assert read_position(path) == Position(cursors, resting)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_output_without_a_file_has_cursors_only(tmp_path: Path) -> None:
    write_position(tmp_path / "p", {"/spool/0": Cursor(1, 2)}, None)

    assert read_position(tmp_path / "p") == Position({"/spool/0": Cursor(1, 2)}, None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "null",
        '{"cursors": 7, "file": null}',
        '{"cursors": {"a": [1]}, "file": null}',
        "\x00\xff",
    ],
)
def test_nonsense_is_no_position(tmp_path: Path, text: str) -> None:
    (tmp_path / "p").write_bytes(text.encode("latin-1"))

    assert read_position(tmp_path / "p") == Position()


def test_missing_file_is_no_position(tmp_path: Path) -> None:
    assert read_position(tmp_path / "p") == Position()
