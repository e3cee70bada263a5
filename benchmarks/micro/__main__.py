"""`python -m benchmarks.micro`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.interpreter import python_build
from benchmarks.micro.harness import Measurement, collect, measure, modules, table
from benchmarks.report import git


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what was asked for, print the table, and write JSON where --json points."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.micro", description=__doc__)
    parser.add_argument("words", nargs="*", help="only benchmarks whose name contains one of these")
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    parser.add_argument("--seconds", type=float, default=0.5, help="time for each benchmark (0.5)")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each benchmark (5)")
    parser.add_argument("--json", metavar="FILE", help="write the figures to FILE, - for standard output")
    options = parser.parse_args(arguments)
    benches = collect(modules(), options.words)
    if not benches:
        print("no benchmark has such a name", file=sys.stderr)
        return 1
    if options.list:
        print("\n".join(f"{bench.name:<40} {bench.about}" for bench in benches))
        return 0
    measurements: list[Measurement] = []
    for number, bench in enumerate(benches, 1):
        if sys.stderr.isatty():
            print(f"\r\x1b[K[{number}/{len(benches)}] {bench.name}", end="", file=sys.stderr, flush=True)
        measurements.append(measure(bench, seconds=options.seconds, repeats=options.repeats))
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr)
    if options.json != "-":
        print("\n".join(table(measurements)))
    if options.json:
        text = json.dumps({**conditions(), "figures": [asdict(one) for one in measurements]}, indent=1) + "\n"
        if options.json == "-":
            print(text, end="")
        else:
            Path(options.json).write_text(text, encoding="utf-8")
    return 0


def conditions() -> dict[str, object]:
    """What the figures depend on: the code and the machine."""
    return {
        "commit": git(Path(__file__).parent, "rev-parse", "--short", "HEAD"),
        "python": platform.python_version(),
        "python_build": python_build(),
        "machine": platform.machine(),
        "system": platform.release(),
        "cpus": os.cpu_count(),
    }


if __name__ == "__main__":
    sys.exit(main())
