"""An operator's settings and a machine in trouble: damaged ones are set aside, unreadable ones are not."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from mta.service.operatorstate import OperatorState


def test_a_file_that_is_no_database_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.write_bytes(b"this is no database, and has never been one " * 100)

    state = OperatorState(path)
    state.save("paused", {"a": 1})
    state.close()

    assert path.with_suffix(".damaged").exists()
    with closing(OperatorState(path)) as again:
        assert again.load("paused") == {"a": 1}


def test_a_file_that_cannot_be_opened_now_is_left_where_it_is(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.mkdir()  # as good as no descriptors: SQLite can't open it

    with pytest.raises(OSError, match="unable to open"):
        OperatorState(path)

    assert path.exists()
    assert not path.with_suffix(".damaged").exists()
