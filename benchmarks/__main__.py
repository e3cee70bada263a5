"""`python -m benchmarks`: how fast the whole server is, beside Postfix where that is installed.

Single functions are measured by `python -m benchmarks.micro`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.measure import Figures, measure
from benchmarks.processes import BenchError
from benchmarks.report import conditions, table, write_results
from benchmarks.scenarios import Scenario, chosen, scenarios
from benchmarks.servers import has_postfix
from benchmarks.tools import has_smtp_tools

__all__ = ["main"]

RUNS = 5


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what was asked for; 1 when a scenario could not be measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", action="append", default=[], metavar="WORD", help="names that contain WORD")
    parser.add_argument("--runs", type=int, default=0, help=f"runs of each scenario (default {RUNS})")
    parser.add_argument("--short", action="store_true", help="a tenth of the messages, one run")
    parser.add_argument("--no-write", action="store_true", help="leave benchmarks/results alone")
    parser.add_argument("--list", action="store_true", help="print the scenarios and stop")
    parser.add_argument("--place", type=Path, help="directory for spools: the disk that is measured")
    options = parser.parse_args(arguments)
    everything = scenarios(has_tools=has_smtp_tools(), has_postfix=has_postfix(), short=options.short)
    wanted = chosen(everything, options.only)
    if options.list or not wanted:
        print("\n".join(one.name for one in wanted) or "no scenario has such a name")
        return 0 if wanted else 1
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=150)
    facts = conditions((options.place or Path(tempfile.gettempdir())).resolve())
    for name, value in facts.items():
        if isinstance(value, tuple):
            console.print("\n".join(f"  {line}" for line in value))
        else:
            console.print(f"{name:12} {value}")
    figures = run_all(wanted, options.runs or (1 if options.short else RUNS), options.place, console)
    console.print(table(figures))
    if not options.no_write:
        console.print(f"\nwritten to {write_results(figures, facts)}")
    return 1 if any(one.error for one in figures) else 0


def run_all(wanted: Sequence[Scenario], runs: int, place: Path | None, console: Console) -> list[Figures]:
    """One after the other, with a progress bar; a failure is noted and the rest goes on."""
    found = []
    columns = TextColumn("{task.description:45}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=len(wanted) * runs)
        for number, scenario in enumerate(wanted, 1):
            progress.update(task, description=scenario.name)
            try:
                figures = measure(scenario, runs=runs, place=place, step=lambda: progress.advance(task))
            except BenchError as error:
                figures = Figures(scenario, error=str(error))
                console.print(f"[red]{scenario.name}:[/red] {error}")
            progress.update(task, completed=number * runs)
            found.append(figures)
    return found


if __name__ == "__main__":
    sys.exit(main())
