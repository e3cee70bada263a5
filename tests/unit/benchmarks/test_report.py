"""Scenarios, figures, limits, and their files and page."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import report
from benchmarks.archive import read_results, session_path, write_results
from benchmarks.coldstart import ColdFigures, ColdRun
from benchmarks.measure import Figures, Run
from benchmarks.page import BEGIN, END, PAGE, draw, said_conditions, section, with_section, write_page
from benchmarks.report import Results
from benchmarks.scenarios import GROUPS, Contest, Entry, Kind, Server, chosen, contests
from benchmarks.verdicts import SHOWS, parse_speed, said_yardsticks, shows_of, verdicts

RUN = Run(1.0, 1000.0, 1200.0, 150.0, 90.0, 40.0, 30.0, 5.0, 225.0, 1 << 20, {"worker 0": 0.9, "sink": 0.04})
COLD = ColdFigures(100_000, [ColdRun(100_000, 1.0, 2.5, 3.0, 1 << 20, (1 << 20) + 9_000_000, 2 << 20, 700.0)])


def everything(*, short: bool = False) -> list[Contest]:
    return contests(cpus=2, has_tools=True, peers=set(Server), short=short)


def figures(shape: str, **rates: float) -> list[Figures]:
    """Figures of the entries of one shape; labels with `_` for a space."""
    contest = next(one for one in everything() if f"{one.shape.group}/{one.shape.name}" == shape)
    return [
        Figures(contest.shape, entry, [replace(RUN, rate=rates[name])])
        for entry in contest.entries
        if (name := entry.label.replace(" ", "_").replace("-", "_")) in rates
    ]


def results() -> Results:
    measured = [
        *figures("size/10KB-20", mta=4000.0, postfix=500.0, postfix_tuned=800.0),
        *figures("dkim/10KB-200", unsigned=6000.0, rsa_2048=2000.0, ed25519=4000.0),
        *figures("workers/drain 10 KB rsa", **{"1_w": 2000.0, "2_w": 3500.0}),
        *figures("backlog/10 KB", mta=9000.0, postfix=900.0),
    ]
    told = {"commit": "abc1234", "cpus": 2, "date": "2026-11-21T20:00:00"}
    return Results(told, measured, [COLD], signatures=4000.0)


def test_peer_is_only_measured_where_it_is_installed() -> None:
    alone = contests(cpus=2, has_tools=False, peers=(), short=False)

    assert {entry.server for contest in alone for entry in contest.entries} == {Server.MTA}
    assert {entry.server for contest in everything() for entry in contest.entries} == set(Server)
    assert {contest.shape.kind for contest in alone} == set(Kind)


def test_more_processors_bring_a_contestant_with_a_worker_for_each() -> None:
    workers = [
        [entry.workers for entry in one.entries]
        for one in contests(cpus=8, has_tools=False, peers=(), short=False)
        if one.shape.group == "workers"
    ]

    assert {tuple(numbers) for numbers in workers} == {(1, 2, 8)}


def test_short_runs_keep_every_group_with_few_messages() -> None:
    short = everything(short=True)

    assert {contest.shape.group for contest in short} == set(GROUPS) - {"coldstart"}
    assert all(100 <= entry.count <= 600 for contest in short for entry in contest.entries)


def test_scenarios_are_chosen_by_any_part_of_their_name() -> None:
    names = [one.name(entry) for one in everything() for entry in one.entries]

    assert chosen(everything(), []) == everything()
    assert [one.shape.group for one in chosen(everything(), ["tls/", "sync/"])] == ["tls", "sync"]
    assert len(chosen(everything(), ["size/10KB-20 mta"])[0].entries) == 1
    assert len(set(names)) == len(names)
    assert chosen(everything(), ["nothing like it"]) == []


@pytest.mark.parametrize("show", sorted(set(SHOWS) - {6}))
def test_each_limit_names_scenarios_that_exist(show: int) -> None:
    assert chosen(everything(), shows_of(show))


def test_figures_are_medians_with_their_spread() -> None:
    one = Figures(everything()[0].shape, Entry("x", 1), [replace(RUN, rate=rate) for rate in (3.0, 1.0, 2.0)])

    assert one.median("rate") == 2.0
    assert one.spread("rate") == (1.0, 3.0)


def test_a_limit_is_held_against_the_better_of_both_peers() -> None:
    found = verdicts(figures("size/10KB-20", mta=4000.0, postfix=500.0, postfix_tuned=800.0), cpus=2)

    ratio, cpu = found
    assert (ratio.show, ratio.value, ratio.is_kept) == (1, 5.0, False)
    assert "postfix tuned" in ratio.sum
    assert (cpu.value, cpu.is_kept) == (150.0, True)


def test_bound_for_signatures_is_what_the_processors_leave_after_unsigned_mail() -> None:
    measured = figures("dkim/10KB-200", unsigned=6000.0, rsa_2048=3158.0, ed25519=3000.0)

    rsa, ed25519 = verdicts(measured, cpus=2, signatures=4000.0)

    # 2,000,000 / (225 + 250) = 4,210
    assert rsa.value == pytest.approx(0.75, abs=0.001)
    assert "4,211/s" in rsa.sum
    assert "rsa-2048," in rsa.sum
    assert (ed25519.value, ed25519.is_kept) == (0.5, False)


def test_of_each_kind_of_signature_the_better_number_of_workers_counts() -> None:
    rates = {"unsigned": 5000.0, "unsigned_2_w": 4000.0, "ed25519": 2000.0, "ed25519_2_w": 3000.0}

    (ed25519,) = verdicts(figures("dkim/10KB-200", **rates), cpus=2, signatures=4000.0)

    assert ed25519.value == pytest.approx(0.6)
    assert ed25519.sum == "3,000 (ed25519 2 w) / 5,000 (unsigned)"


def test_scaling_says_which_process_was_busy() -> None:
    (verdict,) = verdicts(figures("workers/drain 10 KB rsa", **{"1_w": 2000.0, "2_w": 3500.0}), cpus=2)

    assert (verdict.show, verdict.value, verdict.is_kept) == (3, 1.75, True)
    assert "worker 0 0.90, sink 0.04" in verdict.sum


def test_cost_is_told_in_units_of_the_machine_that_it_was_measured_on() -> None:
    measured = figures("size/10KB-20", mta=4000.0, postfix=500.0, postfix_tuned=800.0)
    for one, (cost, loop) in zip(measured, ((200.0, 800.0), (3000.0, 900.0), (2000.0, 1000.0)), strict=True):
        one.runs[0] = replace(one.runs[0], cpu_us=cost, loop_us=loop, ping_us=4.0)

    (line,) = said_yardsticks(measured)

    assert "fixed Python loop 900 (800-1,000) us" in line
    assert "Postfix 2,000 us of CPU a message" in line  # of the quicker one, as in the ratio of rates
    assert line.endswith("Ours costs 200 us = 0.222 loops = 50.0 round trips = 0.100 of Postfix's.")
    assert line in section(Results({"cpus": 2}, measured), "plots")


def test_cost_without_a_reading_of_the_yardstick_is_told_as_it_is() -> None:
    assert said_yardsticks(figures("size/10KB-20", mta=4000.0, postfix=500.0)) == []


def test_a_limit_without_its_figures_is_left_out() -> None:
    broken = figures("size/10KB-20", mta=4000.0, postfix=500.0)
    broken[0].error = "no disk"

    assert verdicts(broken, cpus=2) == []
    assert verdicts(figures("sync/10KB-200", synced=100.0), cpus=2) == []


def test_memory_of_a_cold_start_is_judged_only_where_there_are_many_recipients() -> None:
    memory, first = [one for one in results().verdicts() if one.show == 6]

    assert (memory.value, memory.is_kept) == (90.0, True)
    assert (first.value, first.is_kept) == (2.5, True)
    assert Results({"cpus": 2}, cold=[ColdFigures(1000, COLD.runs)]).verdicts() == []


def test_latency_is_held_against_the_connections_there_may_be() -> None:
    (verdict,) = verdicts(figures("latency/every reply", mta=870.0), cpus=2)

    assert (verdict.show, verdict.is_kept) == (2, True)
    assert "87 %" in verdict.sum


def test_signatures_a_second_are_read_from_openssl() -> None:
    text = "version: 3.0\n        sign    sign/s\nrsa 2048 bits 0.000246s 0.000017s   4068.6  59579.5"

    assert parse_speed(text) == 4068.6
    assert parse_speed("openssl: no such command") == 0.0


def test_tables_show_failures_beside_figures() -> None:
    measured = figures("size/10KB-20", mta=3100.0, postfix=310.0)
    measured.append(replace(measured[1], runs=[], error="no disk\nat all"))
    console = Console(width=250, record=True, file=io.StringIO())

    console.print(report.figures_table(measured))
    console.print(report.shares_table(measured))
    console.print(report.cold_table([COLD, ColdFigures(5, error="no room")]))
    console.print(report.verdict_table(results().verdicts()))

    text = console.export_text()
    for part in ("3,100", "10.0", "no disk", "worker 0 0.90", "no room", "MISSED", "kept"):
        assert part in text


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = session_path(results(), tmp_path / "results")
    write_results(results(), path)

    read = read_results([path])

    assert path.name.endswith("-abc1234.json")
    assert {one.name for one in read.figures} == {one.name for one in results().figures}
    assert read.figures[0].runs == results().figures[0].runs
    assert read.verdicts() == results().verdicts()


def test_conditions_say_what_the_figures_depend_on(tmp_path: Path) -> None:
    facts = report.conditions(tmp_path)

    assert {"commit", "cpu", "cpus", "python", "python_build", "file_system", "load_before"} <= set(facts)


def test_page_says_how_the_interpreter_was_built_where_that_is_known() -> None:
    older, newer = results(), results()
    older.conditions["python"] = newer.conditions["python"] = "3.13.5"
    newer.conditions["python_build"] = "distribution, PGO"

    assert ", Python 3.13.5.\n" in said_conditions(older)
    assert ", Python 3.13.5 (distribution, PGO).\n" in said_conditions(newer)


def test_page_gets_the_figures_between_its_markers(tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    page.write_text(f"before\n{BEGIN}\nwhat was there\n{END}\nafter\n")

    write_page(results(), page)
    once = page.read_text()
    write_page(results(), page)

    assert page.read_text() == once
    assert once.startswith("before\n")
    assert once.endswith("after\n")
    assert "what was there" not in once
    assert "![Backlog](benchmarks/backlog.svg)" in once
    assert "**missed**" in once
    assert (tmp_path / "benchmarks" / "backlog.svg").read_text() == draw("backlog", results())


def test_our_own_page_has_the_markers() -> None:
    text = PAGE.read_text(encoding="utf-8")

    assert "new" in with_section(text, "new")
    with pytest.raises(ValueError, match="markers"):
        with_section("no markers", "new")


def test_every_table_of_the_page_has_as_many_cells_in_each_line() -> None:
    tables = [part.splitlines() for part in section(results(), "plots").split("\n\n") if part.startswith("|")]

    assert len(tables) >= 5
    for table in tables:
        assert len({line.count("|") for line in table}) == 1
