"""One worker for each processor that we may use and that somebody pays for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mta.service.processors import processors_available, quota


def write(root: Path, **files: str) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (root / name.replace("_of_", ".")).write_text(text)


def own(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "own"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("outer", "inner", "found"),
    [
        ("max 100000", "max 100000", None),
        ("max 100000", "150000 100000", 1.5),
        ("200000 100000", "400000 100000", 2.0),
        ("nonsense", "50000 100000", 0.5),
        ("1 0", "max 100000", None),
    ],
)
def test_the_tightest_group_around_us_counts(
    tmp_path: Path, outer: str, inner: str, found: float | None
) -> None:
    write(tmp_path / "system", cpu_of_max=outer)
    write(tmp_path / "system" / "mta", cpu_of_max=inner)

    assert quota(tmp_path, own(tmp_path, "0::/system/mta\n")) == found


@pytest.mark.parametrize(("most", "found"), [("-1\n", None), ("250000\n", 2.5)])
def test_groups_of_the_first_version_count_too(tmp_path: Path, most: str, found: float | None) -> None:
    group = tmp_path / "cpu,cpuacct" / "docker"
    group.mkdir(parents=True)
    (group / "cpu.cfs_quota_us").write_text(most)
    (group / "cpu.cfs_period_us").write_text("100000\n")

    assert quota(tmp_path, own(tmp_path, "4:memory:/docker\n1:cpu,cpuacct:/docker\n")) == found


@pytest.mark.parametrize("text", ["0::/../../elsewhere\n", "", "rubbish\n", "0::/\n1:cpu:/\n"])
def test_groups_that_are_not_there_limit_nothing(tmp_path: Path, text: str) -> None:
    assert quota(tmp_path / "none", own(tmp_path, text)) is None
    assert quota(tmp_path, tmp_path / "missing") is None


def test_there_is_always_one_and_never_more_than_we_may_run_on() -> None:
    assert 1 <= processors_available() <= len(os.sched_getaffinity(0))
