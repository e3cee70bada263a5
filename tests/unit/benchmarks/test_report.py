"""Scenarios, figures and their file."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import report
from benchmarks.measure import Figures, Run, make_run
from benchmarks.processes import (
    BenchError,
    CpuTime,
    cpu_of_tree,
    free_port,
    is_greeting,
    memory_of_tree,
    start,
    stop,
    tree,
    wait_for,
)
from benchmarks.scenarios import Kind, Server, Tools, chosen, scenarios
from benchmarks.source import message_of


def run(rate: float) -> Run:
    return Run(1.0, rate, rate, 100.0, 60.0, 40.0, 1 << 20)


def test_peer_is_only_measured_where_it_is_installed() -> None:
    alone = scenarios(has_tools=False, has_postfix=False, short=False)
    beside = scenarios(has_tools=True, has_postfix=True, short=False)

    assert {one.server for one in alone} == {Server.MTA}
    assert {one.tools for one in alone} == {Tools.OURS}
    assert {one.server for one in beside} == set(Server)
    assert {one.kind for one in alone} == set(Kind)


def test_short_runs_send_a_tenth() -> None:
    long = scenarios(has_tools=False, has_postfix=False, short=False)
    short = scenarios(has_tools=False, has_postfix=False, short=True)

    assert [one.shape.count // 10 for one in long] == [one.shape.count for one in short]


def test_scenarios_are_chosen_by_any_part_of_their_name() -> None:
    everything = scenarios(has_tools=True, has_postfix=True, short=True)

    assert chosen(everything, []) == everything
    assert {one.kind for one in chosen(everything, ["ingest"])} == {Kind.INGEST}
    assert len({one.name for one in everything}) == len(everything)
    assert chosen(everything, ["nothing like it"]) == []


def test_figures_are_medians_with_their_spread() -> None:
    figures = Figures(
        scenarios(has_tools=False, has_postfix=False, short=True)[0], [run(3.0), run(1.0), run(2.0)]
    )

    assert figures.median("rate") == 2.0
    assert figures.spread("rate") == (1.0, 3.0)


def test_rates_and_cpu_are_per_message() -> None:
    made = make_run(1000, 2.0, 1.0, CpuTime(0.05, 0.03), 0.02, 7)

    assert (made.rate, made.accept_rate, made.cpu_us, made.cpu_user_us, made.others_cpu_us) == (
        500.0,
        1000.0,
        80.0,
        50.0,
        20.0,
    )


def test_table_shows_failures_beside_figures() -> None:
    one, other = scenarios(has_tools=False, has_postfix=False, short=True)[:2]
    console = Console(width=150, record=True, file=io.StringIO())

    console.print(report.table([Figures(one, [run(3100.0)]), Figures(other, error="no disk\nat all")]))

    text = console.export_text()
    assert "3,100" in text
    assert "no disk" in text


def test_results_name_the_commit_and_hold_every_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "RESULTS", tmp_path / "results")
    figures = Figures(scenarios(has_tools=False, has_postfix=False, short=True)[0], [run(3.0), run(1.0)])

    path = report.write_results([figures], {"commit": "abc1234"})

    stored = json.loads(path.read_text())
    assert path.name.endswith("-abc1234.json")
    assert stored["conditions"]["commit"] == "abc1234"
    assert len(stored["figures"][0]["runs"]) == 2


def test_conditions_say_what_the_figures_depend_on(tmp_path: Path) -> None:
    facts = report.conditions(tmp_path)

    assert {"commit", "cpu", "cpus", "python", "file_system", "load_before", "caveats"} <= set(facts)


def test_processes_are_started_watched_and_ended(tmp_path: Path) -> None:
    process = start(["sh", "-c", "sleep 600 & wait"], output=tmp_path / "log")
    wait_for(lambda: len(tree(process.pid)) == 2, "a child")

    assert cpu_of_tree(process.pid).total >= 0.0
    assert memory_of_tree(process.pid) > 0
    os.killpg(process.pid, 15)
    stop(process)
    assert process.poll() is not None


def test_waiting_ends_with_a_reason() -> None:
    with pytest.raises(BenchError, match="the moon: not within 0 s"):
        wait_for(lambda: False, "the moon", patience=0.0)


def test_nobody_greets_on_a_free_port() -> None:
    assert not is_greeting(free_port())


@pytest.mark.parametrize("size", [1024, 10_240, 102_400])
def test_generated_message_has_about_the_size_asked_for(size: int) -> None:
    message = message_of(size)

    assert abs(len(message) - size) < 100
    assert message.endswith(b"\r\n.\r\n")
