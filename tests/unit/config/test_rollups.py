from __future__ import annotations

from pathlib import Path

import pytest

from mta.config.load import load_text
from mta.config.problems import Origin
from mta.config.rollups import gather_rollups, match_rollup, read_rollup_line

HERE = Origin(Path("t"), 1)


def found(lines: str, *best: str) -> str | None:
    """The name of the roll-up of these hosts."""
    rollups = gather_rollups(read_rollup_line(line.strip(), HERE) for line in lines.strip().splitlines())
    rollup = match_rollup(rollups, best)
    return None if rollup is None else rollup.name


def test_every_listed_host_has_to_be_among_the_best_and_more_may_be_there() -> None:
    lines = "mx1.x.example a.rollup\nmx2.x.example a.rollup"

    assert found(lines, "mx1.x.example", "mx2.x.example") == "a.rollup"
    assert found(lines, "mx1.x.example", "mx2.x.example", "mx3.x.example") == "a.rollup"
    assert found(lines, "mx1.x.example") is None


def test_a_pattern_has_to_cover_every_best_host() -> None:
    lines = "*.x.example a.rollup\n*.y.example a.rollup"

    assert found(lines, "mx.x.example", "mx.y.example") == "a.rollup"
    assert found(lines, "mx.x.example", "mx.z.example") is None
    assert found(lines) is None


def test_hosts_come_before_patterns_and_long_patterns_before_short_ones() -> None:
    lines = "*.example all.rollup\n*.mail.x.example mail.rollup\nmx1.mail.x.example one.rollup"

    assert found(lines, "mx1.mail.x.example") == "one.rollup"
    assert found(lines, "mx2.mail.x.example") == "mail.rollup"
    assert found(lines, "mx.y.example") == "all.rollup"


@pytest.mark.parametrize("line", ["", "x.example", "x.example name", "x.example .rollup", "x y.rollup z"])
def test_lines_that_make_no_sense_are_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"rollup"):
        read_rollup_line(line, HERE)


def test_the_snapshot_has_them_and_errors_have_their_line() -> None:
    loaded = load_text(
        "<mx-rollup-list>\nmx *.google.com gmail.rollup\n"
        "mx mx1.X.example. y.rollup rollup-by-ip\n</mx-rollup-list>"
    )
    assert loaded.snapshot is not None
    assert [rollup.name for rollup in loaded.snapshot.rollups] == ["y.rollup", "gmail.rollup"]
    assert loaded.snapshot.rollups[0].hosts == ("mx1.x.example",)
    assert loaded.snapshot.rollups[0].is_by_ip
    broken = load_text("<mx-rollup-list>\nmx *.google.com gmail\n</mx-rollup-list>")
    assert [(problem.line, problem.severity.value) for problem in broken.problems] == [(2, "error")]
