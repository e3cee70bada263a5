"""Which sessions the page is made from, what needs no second measurement, and how long the rest takes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.archive import has_measured, has_started_cold, read_results, takes, write_results
from benchmarks.coldstart import ColdFigures, ColdRun
from benchmarks.measure import Figures, Run
from benchmarks.page import section
from benchmarks.plan import Plan, said_time, seconds_of_cold_start, seconds_of_runs
from benchmarks.report import Results
from benchmarks.scenarios import Contest, Server, contests
from benchmarks.yardstick import read_yardstick

SHAPE = "size/10KB-20"
QUIET, LOADED = 0.02, 0.6
RUN = Run(1.0, 1000.0, 1200.0, 150.0, 90.0, 40.0, 30.0, 1.0, 225.0, 1 << 20, {}, 800.0, 4.0)
CODE = {"code": "abc1234", "commit": "abc1234", "cpus": 2, "changed": False}


def contest(shape: str = SHAPE, *, peers: set[Server] = set(Server)) -> Contest:  # noqa: B006 - never changed
    found = contests(cpus=2, has_tools=True, peers=peers, short=False)
    return next(one for one in found if f"{one.shape.group}/{one.shape.name}" == shape)


class Shelf:
    """Result files of sessions that came one after the other."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def add(
        self, rate: float, *, runs: int = 5, busy: float = QUIET, labels: str = "mta,postfix", **told: object
    ) -> None:
        number = len(self.files)
        measured = [
            Figures(contest().shape, entry, [replace(RUN, rate=rate, busy=busy)] * runs)
            for entry in contest().entries
            if entry.label in labels.split(",")
        ]
        conditions = CODE | {"date": f"2026-11-2{number}T10:00:00", "commit": f"commit{number}"} | told
        write_results(Results(conditions, measured), self._directory / f"{number}.json")

    @property
    def files(self) -> list[Path]:
        return list(self._directory.glob("*.json"))

    def rates(self) -> set[float]:
        return {one.median("rate") for one in read_results(self.files).figures}


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


def test_newer_session_takes_the_place_of_one_that_is_no_better(shelf: Shelf) -> None:
    shelf.add(1000.0)
    shelf.add(2000.0)

    assert shelf.rates() == {2000.0}
    assert read_results(shelf.files).conditions["commit"] == "commit1"


def test_fewer_runs_never_take_the_place_of_more(shelf: Shelf) -> None:
    shelf.add(1000.0)
    shelf.add(2000.0, runs=3)

    assert shelf.rates() == {1000.0}


def test_loaded_machine_never_takes_the_place_of_a_quiet_one(shelf: Shelf) -> None:
    shelf.add(1000.0, runs=3)
    shelf.add(2000.0, busy=LOADED)

    assert shelf.rates() == {1000.0}


def test_quiet_machine_takes_the_place_of_a_loaded_one_with_fewer_runs(shelf: Shelf) -> None:
    shelf.add(1000.0, busy=LOADED)
    shelf.add(2000.0, runs=3)

    assert shelf.rates() == {2000.0}


def test_contestants_of_a_shape_are_never_mixed_from_two_sessions(shelf: Shelf) -> None:
    shelf.add(1000.0)
    shelf.add(2000.0, labels="mta")  # without the peer that its ratio needs
    assert shelf.rates() == {1000.0}

    shelf.add(3000.0, labels="mta,postfix,exim")
    assert shelf.rates() == {3000.0}


def test_contestant_that_failed_does_not_take_the_place_of_one_that_did_not(shelf: Shelf) -> None:
    shelf.add(1000.0)
    broken = [Figures(contest().shape, entry, error="no disk") for entry in contest().entries]
    write_results(Results(CODE | {"date": "2026-11-30"}, broken), shelf.files[0].with_name("9.json"))

    assert shelf.rates() == {1000.0}


def test_session_in_which_our_own_server_failed_says_nothing_of_a_shape(shelf: Shelf, tmp_path: Path) -> None:
    ours, peer, *_ = contest().entries
    figures = [Figures(contest().shape, ours, error="broken"), Figures(contest().shape, peer, [RUN] * 5)]
    write_results(Results(CODE, figures), tmp_path / "00.json")
    shelf.add(2000.0, busy=LOADED)

    assert {one.entry.label for one in read_results(shelf.files).figures} == {"mta", "postfix"}
    assert shelf.rates() == {2000.0}


def test_contestant_that_is_called_otherwise_today_keeps_nobody_out(shelf: Shelf, tmp_path: Path) -> None:
    entry = replace(contest().entries[0], label="mta of long ago")
    old = Results(CODE, [Figures(contest().shape, entry, [RUN] * 5)])
    write_results(old, tmp_path / "00.json")
    shelf.add(2000.0)

    assert shelf.rates() == {2000.0}


def test_cold_starts_are_chosen_by_the_same_rule(tmp_path: Path) -> None:
    run = ColdRun(1_000_000, 1.0, 2.0, 3.0, 0, 1, 2, 700.0)
    for number, (first, runs, busy) in enumerate(((2.0, 3, QUIET), (4.0, 1, QUIET), (5.0, 3, LOADED))):
        cold = ColdFigures(1_000_000, [replace(run, first=first)] * runs)
        write_results(Results(CODE | {"busy_before": busy}, cold=[cold]), tmp_path / f"{number}.json")

    (chosen,) = read_results(tmp_path.glob("*.json")).cold

    assert chosen.median("first") == 2.0
    assert has_started_cold(1_000_000, CODE, 3, tmp_path.glob("*.json"))
    assert not has_started_cold(1_000_000, CODE, 4, tmp_path.glob("*.json"))
    assert not has_started_cold(1_000, CODE, 1, tmp_path.glob("*.json"))


def test_page_says_where_each_shape_comes_from(shelf: Shelf) -> None:
    shelf.add(1000.0)
    shelf.add(2000.0, runs=2)
    assert "| size/10KB-20 | 2026-11-20 10:00 | commit0 | 5 | 2% |" in section(read_results(shelf.files), "x")


def test_page_says_that_a_machine_was_not_quiet(shelf: Shelf) -> None:
    shelf.add(1000.0, busy=LOADED)

    assert "**60%: not quiet**" in section(read_results(shelf.files), "x")


def test_load_during_our_runs_counts_as_well(shelf: Shelf, tmp_path: Path) -> None:
    # 40 us beside each of 20,000 messages in 1.6 s: half a processor, a quarter of two.
    disturbed = replace(RUN, others_us=40.0)
    figures = [Figures(contest().shape, contest().entries[0], [disturbed] * 5)]
    write_results(Results(CODE, figures), tmp_path / "00.json")
    assert takes(shelf.files)[SHAPE].busy == pytest.approx(0.25)

    shelf.add(1000.0, runs=3)
    assert takes(shelf.files)[SHAPE].busy < 0.15


def test_only_what_this_code_has_not_shown_yet_is_measured_again(shelf: Shelf) -> None:
    pair = contest(peers={Server.POSTFIX})
    shelf.add(1000.0, labels="mta,postfix,postfix tuned")

    assert has_measured(pair, CODE, 5, shelf.files)
    assert not has_measured(pair, CODE, 6, shelf.files)
    assert not has_measured(contest(), CODE, 5, shelf.files)  # with peers that were not there
    assert not has_measured(contest("size/1KB-20"), CODE, 5, shelf.files)
    assert not has_measured(pair, CODE | {"code": "def5678"}, 5, shelf.files)
    assert not has_measured(pair, CODE | {"changed": True}, 5, shelf.files)


def test_session_of_a_loaded_machine_is_measured_again(shelf: Shelf) -> None:
    shelf.add(1000.0, labels="mta,postfix,postfix tuned", busy=LOADED)

    assert not has_measured(contest(peers={Server.POSTFIX}), CODE, 5, shelf.files)


def test_time_of_a_session_is_known_from_the_last_one(shelf: Shelf) -> None:
    one = contest(peers=set())
    unknown = seconds_of_runs(one, 5, {})
    shelf.add(100.0, labels="mta")

    assert seconds_of_runs(one, 5, takes(shelf.files)) > unknown + 5 * 100
    assert seconds_of_runs(one, 10, {}) > 1.5 * unknown
    assert seconds_of_cold_start(1_000_000, 3) > seconds_of_cold_start(1_000, 3)


def test_slow_receiver_is_waited_for() -> None:
    quick, slow = (seconds_of_runs(contest(f"latency/{name}"), 5, {}) for name in ("none", "final dot"))

    assert slow > quick


def test_everything_with_all_peers_ends_within_forty_minutes() -> None:
    everything = contests(cpus=2, has_tools=True, peers=set(Server), short=False)
    seconds = sum(seconds_of_runs(one, 5, {}) for one in everything) + seconds_of_cold_start(1_000_000, 5)

    assert seconds < 42 * 60


def test_time_that_is_left_shrinks_with_each_part() -> None:
    plan = Plan([10.0, 20.0])

    assert plan.left() == 30.0
    assert plan.finish_one().startswith("1 of 2 in 0 s, about 0 s left")
    assert plan.finish_one() == "2 of 2 in 0 s"
    assert (said_time(119), said_time(600)) == ("119 s", "10 min")


def test_yardstick_reads_the_machine() -> None:
    reading = read_yardstick()

    assert reading.loop_us > reading.ping_us > 0
