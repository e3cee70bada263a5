"""How an interpreter was built is told without naming the directories of whoever built it."""

from __future__ import annotations

import sys
from pathlib import PurePath

import pytest

from benchmarks.interpreter import described, python_build

#: What every build has, guided or not.
RECIPE: dict[str, str | int] = {"PGO_PROF_USE_FLAG": "-fprofile-use", "Py_GIL_DISABLED": 0}


@pytest.mark.parametrize(
    ("prefix", "variables", "is_shared", "told"),
    [
        ("/usr", {"CONFIG_ARGS": "'--enable-shared'"}, False, "distribution, PGO not told, libpython inside"),
        ("/usr", {"CONFIG_ARGS": "'--enable-optimizations'"}, True, "distribution, PGO, libpython shared"),
        ("/home/ada/.pyenv/versions/3.11.7", {"CONFIG_ARGS": "''"}, True, "pyenv, no PGO, libpython shared"),
        (
            "/home/ada/.local/share/uv/python/cpython-3.13",
            {"CONFIG_ARGS": "'--enable-optimizations' '--with-lto'"},
            True,
            "uv, PGO, LTO, libpython shared",
        ),
        (
            "/opt/miniconda3",
            {"CFLAGS": "-fprofile-use -flto"},
            False,
            "conda, PGO, LTO, libpython inside",
        ),
        ("/usr/local", {"Py_GIL_DISABLED": 1}, False, "local, no PGO, libpython inside, without GIL"),
        ("/home/ada/python", {"Py_DEBUG": 1}, False, "other place, no PGO, libpython inside, debugging"),
    ],
)
def test_build_is_told_by_place_and_flags(
    prefix: str, variables: dict[str, str | int], is_shared: bool, told: str
) -> None:
    assert described(PurePath(prefix), RECIPE | variables, is_shared=is_shared) == told


def test_the_interpreter_that_runs_us_is_told_without_its_directory() -> None:
    told = python_build()

    assert "libpython" in told
    assert "/" not in told
    assert sys.base_prefix not in told
