"""`python -m benchmarks`: how fast the whole server is, beside Postfix where that is installed.

Single functions are measured by `python -m benchmarks.micro`.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from benchmarks.archive import (
    RESULTS,
    has_measured,
    has_started_cold,
    read_results,
    session_path,
    takes,
    write_results,
)
from benchmarks.coldstart import measure_cold_start
from benchmarks.measure import measure
from benchmarks.page import write_page
from benchmarks.peers import installed_peers
from benchmarks.plan import Plan, said_time, seconds_of_cold_start, seconds_of_runs
from benchmarks.processes import BUSY, busy_share
from benchmarks.report import (
    Results,
    cold_table,
    conditions,
    figures_table,
    shares_table,
    verdict_table,
)
from benchmarks.scenarios import Contest, Dkim, Entry, chosen, contests
from benchmarks.tools import has_smtp_tools
from benchmarks.verdicts import SHOWS, shows_of, signatures_per_second

__all__ = ["main"]

RUNS = 5
RECIPIENTS, SHORT_RECIPIENTS = 1_000_000, 2_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what was asked for; 1 when a scenario could not be measured, whatever the figures are."""
    options = parse(arguments)
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=220)
    if options.report:
        return report(console, options.results)
    words = [*options.only, *(word for number in options.show for word in shows_of(number))]
    options.runs = options.runs or (1 if options.short else RUNS)
    wanted, recipients = wanted_contests(options, words), cold_recipients(options, words)
    if options.list or not (wanted or recipients):
        names = [contest.name(entry) for contest in wanted for entry in contest.entries]
        names += [f"coldstart/{recipients:,}"] if recipients else []
        console.print("\n".join(names) or "no scenario has such a name")
        return 0 if names else 1
    # A time limit around us must not leave servers behind that spoil the next measurement.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    results = Results(conditions((options.place or Path(tempfile.gettempdir())).resolve()))
    show_conditions(console, results)
    if options.resume:
        wanted, recipients = not_yet_measured(console, wanted, recipients, results, options.runs)
    session = Session(console, results, None if options.no_write or options.short else session_path(results))
    try:
        run_all(options, wanted, recipients, session)
    except KeyboardInterrupt:
        console.print("interrupted: --resume goes on with what is left")
        return 130
    finally:
        show_results(console, results, judged=not options.short)
        session.say_where()
    errors = [*(one.error for one in results.figures), *(one.error for one in results.cold)]
    return 1 if any(errors) else 0


def report(console: Console, files: Sequence[Path]) -> int:
    """Write the page; 1 when nothing was measured yet."""
    files = files or sorted(RESULTS.glob("*.json"))
    if not files:
        console.print(f"no results in {RESULTS}: measure first")
        return 1
    console.print(f"written: {write_page(read_results(files))}")
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", action="append", default=[], metavar="WORD", help="names that contain WORD")
    parser.add_argument(
        "--show", action="append", default=[], type=int, choices=sorted(SHOWS), help="what a limit needs"
    )
    parser.add_argument("--runs", type=int, default=0, help=f"runs of each scenario (default {RUNS})")
    parser.add_argument(
        "--short", action="store_true", help="few messages, one run, writes nothing: does it work?"
    )
    parser.add_argument(
        "--recipients",
        type=int,
        default=0,
        metavar="N",
        help=f"a cold start with so many (of itself {RECIPIENTS:,})",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="leave out what was measured already, of this code, on a quiet machine",
    )
    parser.add_argument("--no-write", action="store_true", help="leave benchmarks/results alone")
    parser.add_argument("--list", action="store_true", help="print the scenarios and stop")
    parser.add_argument("--place", type=Path, help="directory for spools: the disk that is measured")
    parser.add_argument("--report", action="store_true", help="write docs/benchmarks.md and stop")
    parser.add_argument("results", nargs="*", type=Path, help="files for --report (default: all in results/)")
    return parser.parse_args(arguments)


def wanted_contests(options: argparse.Namespace, words: Sequence[str]) -> list[Contest]:
    """What the command line asks for, of what this machine can do."""
    found = contests(
        cpus=len(os.sched_getaffinity(0)),
        has_tools=has_smtp_tools(),
        peers=installed_peers(),
        short=options.short,
        is_whole=bool(words),
    )
    return chosen(found, words)


def not_yet_measured(
    console: Console, wanted: Sequence[Contest], recipients: int, results: Results, runs: int
) -> tuple[list[Contest], int]:
    """Without what the result files have already, of the same code and as good as it can be."""
    files, told = list(RESULTS.glob("*.json")), results.conditions
    left = [contest for contest in wanted if not has_measured(contest, told, runs, files)]
    console.print(f"{len(wanted) - len(left)} of {len(wanted)} shapes are measured already")
    if recipients and has_started_cold(recipients, told, runs, files):
        console.print(f"coldstart/{recipients:,} is measured already")
        recipients = 0
    return left, recipients


def cold_recipients(options: argparse.Namespace, words: Sequence[str]) -> int:
    """How large a cold start is wanted; 0 for none."""
    if options.recipients:
        return int(options.recipients)
    if words and not any("coldstart" in word for word in words):
        return 0
    return SHORT_RECIPIENTS if options.short else RECIPIENTS


def show_conditions(console: Console, results: Results) -> None:
    for name, value in results.conditions.items():
        console.print(f"{name:12} {value}")
    busy = busy_share(1.0)
    results.conditions["busy_before"] = busy
    if busy > BUSY:
        console.print(
            f"[yellow]This machine is not quiet ({busy:.0%} busy now): the figures will say more about that"
            " than about the servers, and the page prefers those of a quiet one.[/yellow]"
        )


class Session:
    """What one call of this program measures: kept on disk from the first contest on."""

    def __init__(self, console: Console, results: Results, path: Path | None) -> None:
        self.console, self.results, self._path = console, results, path

    def keep(self) -> None:
        if self._path is not None:
            write_results(self.results, self._path)

    def say_where(self) -> None:
        if self._path is not None and self._path.exists():
            self.console.print(f"\nwritten to {self._path}")


def run_all(
    options: argparse.Namespace, wanted: Sequence[Contest], recipients: int, session: Session
) -> None:
    """One contest after the other, with the time that is left; a failure is noted and the rest goes on."""
    runs, console, results = options.runs, session.console, session.results
    known = takes(RESULTS.glob("*.json"))
    parts = [seconds_of_runs(contest, runs, known) for contest in wanted]
    parts += [seconds_of_cold_start(recipients, runs)] if recipients else []
    plan = Plan(parts)
    console.print(f"{len(parts)} parts with {runs} runs each: about {said_time(plan.left())}")
    columns = TextColumn("{task.description:45}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True) as progress:
        total = runs * sum(len(contest.entries) for contest in wanted) + (runs if recipients else 0)
        task = progress.add_task("", total=total)
        for contest in wanted:
            step = Step(progress, task, contest)
            for figures in measure(contest, runs=runs, place=options.place, step=step):
                results.figures.append(figures)
                if figures.error:
                    console.print(f"[red]{figures.name}:[/red] {figures.error}")
            if any(entry.dkim is Dkim.RSA for entry in contest.entries) and not results.signatures:
                results.signatures = signatures_per_second(1 if options.short else 5)
                each = f"{results.signatures:,.0f} RSA-2048 signatures a second and processor"
                console.print(f"openssl speed -multi: {each}")
            session.keep()
            console.print(f"done: {contest.shape.group}/{contest.shape.name}, {plan.finish_one()}")
        if recipients:
            cold = measure_cold_start(
                recipients,
                runs=runs,
                place=options.place,
                step=lambda text: progress.update(task, description=text, advance=1 if "cold" in text else 0),
            )
            results.cold.append(cold)
            if cold.error:
                console.print(f"[red]cold start:[/red] {cold.error}")
            session.keep()
            console.print(f"done: coldstart/{recipients:,}, {plan.finish_one()}")


class Step:
    """Moves the bar before each run."""

    def __init__(self, progress: Progress, task: TaskID, contest: Contest) -> None:
        self._progress, self._task, self._contest = progress, task, contest

    def __call__(self, entry: Entry) -> None:
        name = self._contest.name(entry)
        self._progress.update(self._task, description=name, advance=1)


def show_results(console: Console, results: Results, *, judged: bool) -> None:
    if results.figures:
        console.print(figures_table(results.figures))
        console.print()
        console.print(shares_table(results.figures))
    if results.cold:
        console.print()
        console.print(cold_table(results.cold))
    if judged and (found := results.verdicts()):  # figures of a short run say nothing
        console.print()
        for line in results.yardsticks():
            console.print(line)
        console.print(verdict_table(found))


if __name__ == "__main__":
    sys.exit(main())
