"""Every fuzz target in short: seeds, what was ever found, some mutations; the long form is `make fuzz`."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from tests.fuzz.__main__ import SPENT, corpus_of, record
from tests.fuzz.catalogue import TARGETS
from tests.fuzz.guided import PARTS
from tests.fuzz.mutation import explore, mutated
from tests.fuzz.target import Broken, Target, pieces, timed

NAMES = list(TARGETS)


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("CRITICAL")


@pytest.mark.parametrize("name", NAMES)
def test_what_was_found_once_is_found_no_more(name: str) -> None:
    for data in (b"", *TARGETS[name].seeds, *(path.read_bytes() for path in corpus_of(name))):
        timed(TARGETS[name], data)


@pytest.mark.parametrize("name", NAMES)
def test_a_few_mutations_break_nothing(name: str) -> None:
    outcome = explore(TARGETS[name], 0.15, 1)

    assert outcome.findings == []
    assert outcome.runs >= len(TARGETS[name].seeds)


@pytest.mark.parametrize("name", NAMES)
@examples(max_examples=8)
@given(data=st.binary(max_size=300))
def test_any_octets_break_nothing(name: str, data: bytes) -> None:
    timed(TARGETS[name], data)


def test_the_loop_finds_a_planted_mistake() -> None:
    def fragile(data: bytes) -> object:
        if b"GO" in data and len(data) > 12:
            raise ZeroDivisionError("planted")
        return b"GO" in data, len(data) // 4

    outcome = explore(Target("planted", fragile, (b"abcd",), (b"GO",)), 5.0, 1)

    assert [finding.error for finding in outcome.findings] == ["ZeroDivisionError: planted"]


def test_an_input_that_takes_too_long_is_a_finding() -> None:
    def slow(data: bytes) -> object:
        return sum(range(3_000_000)) if data else 0

    with pytest.raises(Broken, match="took"):
        timed(Target("slow", slow, (b"",)), b"x", 0.005)


@given(st.binary(max_size=400))
def test_pieces_are_the_whole(data: bytes) -> None:
    assert b"".join(pieces(data)) == data


def test_mutations_stay_in_bounds() -> None:
    chance = random.Random(1)
    target = TARGETS["address"]

    for _ in range(2000):
        assert len(mutated(target, b"x" * 690, chance, [b"y" * 600])) <= target.largest


def test_the_guided_runner_knows_every_part() -> None:
    assert sum(len(__import__(f"tests.fuzz.{part}", fromlist=["TARGETS"]).TARGETS) for part in PARTS) == len(
        NAMES
    )


def test_what_runs_have_spent_adds_up_by_engine_and_target(tmp_path: Path) -> None:
    path = tmp_path / "spent.json"
    record(path, "atheris", {"address": 10.04, "data": 5.0})
    record(path, "atheris", {"address": 2.0})
    record(path, "mutation", {"data": 1.0})

    book = json.loads(path.read_text())
    assert book["cpu_seconds"] == {"atheris": 17, "mutation": 1}
    assert book["by_target"] == {"address": 12.0, "data": 6.0}


def test_the_documentation_claims_no_more_time_than_was_spent() -> None:
    claimed = re.search(
        r"(\d+) CPU-minutes in all", (Path(__file__).parents[2] / "docs/security.md").read_text()
    )
    assert claimed is not None
    spent = sum(json.loads(SPENT.read_text())["cpu_seconds"].values())
    assert int(claimed[1]) * 60 <= spent
