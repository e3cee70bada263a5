"""The report: the same findings as text and as JSON."""

from __future__ import annotations

import io
import json
from pathlib import Path

from tests.reliability.plan import Findings, Plan
from tests.reliability.progress import Progress
from tests.reliability.report import as_text, conditions, shortened, summary, write

FINDINGS = [
    Findings("kill", {"lost": 0}),
    Findings("power", skipped="only root may mount a file system"),
    Findings("calls", {"points": 3}, ["accept kill write:1: lost"], ["slow"]),
]


def test_a_broken_promise_stands_out_and_a_skipped_engine_says_why() -> None:
    text = as_text({"seed": 7}, FINDINGS)

    assert "kill: kept" in text
    assert "power: skipped: only root may mount a file system" in text
    assert "calls: BROKEN" in text
    assert "BREACH: accept kill write:1: lost" in text


def test_json_holds_the_seed_and_every_figure(tmp_path: Path) -> None:
    path = write(tmp_path / "new", conditions(7, "short"), FINDINGS)

    found = json.loads((tmp_path / "new" / "report.json").read_text())
    assert found["conditions"]["seed"] == 7
    assert [engine["engine"] for engine in found["engines"]] == ["kill", "power", "calls"]
    assert found["engines"][0]["figures"] == {"lost": 0}
    assert path.read_text().startswith("seed")


def test_dice_depend_on_seed_and_purpose_alone(tmp_path: Path) -> None:
    plan = Plan(tmp_path, Progress(io.StringIO()), seed=5)

    assert plan.dice("a").random() == plan.dice("a").random()
    assert plan.dice("a").random() != plan.dice("b").random()
    assert plan.choose(full=10, short=2) == 10
    assert Plan(tmp_path, plan.progress, is_short=True).choose(full=10, short=2) == 2
    assert Plan(tmp_path, plan.progress, rounds=3, is_short=True).choose(full=10, short=2) == 3


def test_progress_says_a_line_every_tenth_where_there_is_no_terminal() -> None:
    stream = io.StringIO()
    progress = Progress(stream)
    progress.begin("kill", 100)
    for _ in range(100):
        progress.step()

    assert len(stream.getvalue().splitlines()) == 11


def test_a_breach_takes_one_line_of_which_the_end_is_kept() -> None:
    assert shortened("a\n  b") == "a b"
    assert shortened("x" * 5000 + " the reason").endswith("the reason")
    assert len(shortened("x" * 5000)) < 650


def test_an_engine_that_runs_out_of_time_says_how_far_it_came(tmp_path: Path) -> None:
    assert Plan(tmp_path, Progress(io.StringIO()), deadline=0.0).is_time_up()
    assert not Plan(tmp_path, Progress(io.StringIO())).is_time_up()

    full = Plan(tmp_path, Progress(io.StringIO()))
    some, none = Findings("kill"), Findings("kill")
    some.stop_early(7, 14, full)
    none.stop_early(0, 14, full)
    assert some.notes == ["time was up after 7 of 14"]
    assert some.is_good
    assert not none.is_good


def test_a_target_of_speed_that_is_missed_is_a_warning_in_the_short_form(tmp_path: Path) -> None:
    short, full = Findings("window"), Findings("window")
    short.miss("p99 80 ms", Plan(tmp_path, Progress(io.StringIO()), is_short=True))
    full.miss("p99 80 ms", Plan(tmp_path, Progress(io.StringIO())))

    assert (short.is_good, full.is_good) == (True, False)
    assert "warning: p99 80 ms" in as_text({}, [short])
    assert "kept; warning: p99 80 ms" in summary([short], 7)


def test_the_end_of_the_output_says_in_a_line_each_how_it_went() -> None:
    lines = summary(FINDINGS, 7).splitlines()

    assert [line.split()[0] for line in lines] == ["kill", "power", "calls", "all"]
    assert "BROKEN; accept kill write:1: lost; slow" in lines[2]
    assert lines[-1].endswith("seed=7, 2 kept, 1 broken")
