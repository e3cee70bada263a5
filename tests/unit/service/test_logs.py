"""The server's own log: rotation at the operator's word."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from mta.config.load import load_text
from mta.config.settings import Settings
from mta.errors import ConfigError
from mta.service.logs import rotate_log, set_up_logging


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger, as it was before afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield root
    for handler in root.handlers:
        if handler not in handlers:
            handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)


def settings(text: str) -> Settings:
    loaded = load_text(text)
    assert loaded.snapshot is not None, loaded.problems
    return loaded.snapshot.top


def test_so_many_logs_are_kept_and_writers_follow(tmp_path: Path, root: logging.Logger) -> None:
    file = tmp_path / "mta.log"
    chosen = settings(f"log-file {file}\nlog-rotate 3")
    set_up_logging(chosen, {})
    for number in range(5):
        root.warning("line %d", number)
        assert rotate_log(chosen) == file

    said = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert sorted(said) == ["mta.log", "mta.log.1", "mta.log.2"]
    assert "line 4" in said["mta.log.1"]
    assert "line 3" in said["mta.log.2"]
    assert "log-rotated" in said["mta.log"]


def test_errors_are_said_aloud_as_well(
    tmp_path: Path, root: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mta.log"
    set_up_logging(settings(f"log-file {file}"), {})
    root.warning("only in the file")
    root.error("nothing works")

    assert "only in the file" in file.read_text()
    assert "nothing works" in file.read_text()
    said = capsys.readouterr().err
    assert "nothing works" in said
    assert "only in the file" not in said


def test_one_log_is_begun_anew(tmp_path: Path, root: logging.Logger) -> None:
    file = tmp_path / "mta.log"
    chosen = settings(f"log-file {file}\nlog-rotate 1")
    set_up_logging(chosen, {})
    root.warning("before")

    rotate_log(chosen)

    assert [path.name for path in tmp_path.iterdir()] == ["mta.log"]
    assert "before" not in file.read_text()


@pytest.mark.parametrize("text", ["log-rotate 3", "log-file /tmp/x.log\nlog-rotate 0"])
def test_without_a_log_of_ours_there_is_nothing_to_rotate(text: str) -> None:
    with pytest.raises(ConfigError):
        rotate_log(settings(text))
