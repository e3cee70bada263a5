"""`python -m tests.fuzz --seconds N [--target X,Y] [--seed S]`: fuzz everything that meets foreign bytes.

Targets take turns of `--slice` CPU seconds until N CPU seconds are spent. With atheris (extra `fuzz`) the
runs are guided by coverage and carry on from what earlier ones found (build/fuzz/corpus); without it our own
mutation loop runs. An input that breaks a promise is written to build/fuzz/findings; give it to
`--replay FILE --target X`, repair what it shows, and keep it in tests/fuzz/corpus/X as a regression test.
The exit code is 1 when something was found.

With `--record` the CPU seconds of the run are added to tests/fuzz/spent.json, which the documentation quotes.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

from tests.fuzz.catalogue import TARGETS
from tests.fuzz.guided import write_words
from tests.fuzz.mutation import explore
from tests.fuzz.target import Target, quiet, timed

__all__ = ["SPENT", "corpus_of", "main", "record"]

CORPUS = Path(__file__).parent / "corpus"
SPENT = Path(__file__).parent / "spent.json"


def corpus_of(name: str) -> list[Path]:
    """The kept inputs of a target, in order."""
    return sorted(path for path in (CORPUS / name).glob("*") if path.is_file())


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="CPU seconds over all targets")
    parser.add_argument("--slice", type=float, default=10.0, help="CPU seconds of one turn")
    parser.add_argument("--target", default="", help="comma list of " + ", ".join(TARGETS))
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3), "big"))
    parser.add_argument("--output", type=Path, default=Path("build/fuzz"))
    parser.add_argument(
        "--plain", action="store_true", help="our own mutation loop even where atheris is there"
    )
    parser.add_argument("--record", action="store_true", help="add what was spent to tests/fuzz/spent.json")
    parser.add_argument("--replay", type=Path, help="run one input and show the error")
    options = parser.parse_args()
    wanted = [name for name in options.target.split(",") if name] or list(TARGETS)
    unknown = [name for name in wanted if name not in TARGETS]
    if unknown:
        parser.error(f"no target {unknown[0]}")
    if options.replay:
        for name in wanted[:1]:
            print(timed(TARGETS[name], options.replay.read_bytes()))
        return 0
    quiet()
    is_guided = not options.plain and importlib.util.find_spec("atheris") is not None
    print(
        f"seed={options.seed} engine={'atheris' if is_guided else 'mutation'} targets={len(wanted)}",
        flush=True,
    )
    (options.output / "findings").mkdir(parents=True, exist_ok=True)
    spent = dict.fromkeys(wanted, 0.0)
    try:
        return run(spent, options, is_guided)
    finally:
        if options.record:
            record(SPENT, "atheris" if is_guided else "mutation", spent)


def record(path: Path, engine: str, spent: dict[str, float]) -> None:
    """Add to what all runs before have spent, target by target."""
    book = json.loads(path.read_text()) if path.exists() else {"cpu_seconds": {}, "by_target": {}}
    whole, by_target = book["cpu_seconds"], book["by_target"]
    whole[engine] = round(whole.get(engine, 0.0) + sum(spent.values()))
    for name, seconds in spent.items():
        by_target[name] = round(by_target.get(name, 0.0) + seconds, 1)
    path.write_text(json.dumps(book, indent=1, sort_keys=True) + "\n")


def run(spent: dict[str, float], options: argparse.Namespace, is_guided: bool) -> int:
    """Turn after turn until the time is spent; what each came to goes into build/fuzz/report.json.

    `spent` has the targets that take turns, and gets their CPU seconds.
    """
    report, wanted = options.output / "report.json", list(spent)
    found: list[str] = []
    turn = 0
    while sum(spent.values()) < options.seconds:
        name = wanted[turn % len(wanted)]
        seconds = min(options.slice, max(1.0, options.seconds - sum(spent.values())))
        began = cpu()
        seed = options.seed + turn
        broken = (guided if is_guided else plain)(TARGETS[name], seconds, seed, options.output)
        spent[name] += max(cpu() - began, 0.01)
        found += broken
        for path in broken:
            print(f"FOUND {name}: {path}", flush=True)
        turn += 1
        facts = {
            "seed": options.seed,
            "engine": "atheris" if is_guided else "mutation",
            "cpu_seconds": round(sum(spent.values()), 1),
            "by_target": {key: round(value, 1) for key, value in spent.items()},
            "findings": found,
        }
        report.write_text(json.dumps(facts, indent=1) + "\n")
        print(
            f"{time.strftime('%H:%M:%S')} {facts['cpu_seconds']} s of CPU, {name}, findings={len(found)}",
            flush=True,
        )
    return 1 if found else 0


def cpu() -> float:
    """CPU seconds of this process and of the children that have ended."""
    usages = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def plain(target: Target, seconds: float, seed: int, output: Path) -> list[str]:
    """One turn of the mutation loop."""
    outcome = explore(target, seconds, seed, [path.read_bytes() for path in corpus_of(target.name)])
    paths = []
    for finding in outcome.findings:
        path = output / "findings" / f"{target.name}-{seed}"
        path.write_bytes(finding.data)
        print(finding.error, flush=True)
        paths.append(str(path))
    return paths


def guided(target: Target, seconds: float, seed: int, output: Path) -> list[str]:
    """One turn of atheris in a process of its own."""
    corpus = output / "corpus" / target.name
    corpus.mkdir(parents=True, exist_ok=True)
    for index, data in enumerate(target.seeds):
        (corpus / f"seed-{index}").write_bytes(data)
    words = output / "corpus" / f"{target.name}.dict"
    write_words(target.words, words)
    findings = output / "findings"
    before = set(findings.iterdir())
    kept = [str(CORPUS / target.name)] if corpus_of(target.name) else []
    command = [
        *(sys.executable, "-m", "tests.fuzz.guided", target.name),
        *(f"-max_total_time={max(1, round(seconds))}", f"-seed={1 + seed % 2**31}", f"-dict={words}"),
        # Slow by the clock may be a machine with other things to do; the target itself counts CPU seconds.
        *("-timeout=60", "-report_slow_units=60", "-rss_limit_mb=1024", "-verbosity=0"),
        f"-artifact_prefix={findings}/{target.name}-",
        *(str(corpus), *kept),
    ]
    ended = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if ended.returncode:
        (output / "last-error.txt").write_text(ended.stdout[-4000:] + ended.stderr[-8000:])
    new = sorted(str(path) for path in set(findings.iterdir()) - before)
    for path in new:
        Path(path + ".log").write_text(ended.stdout[-3000:] + ended.stderr[-6000:])
    if ended.returncode and not new:
        raise RuntimeError(f"atheris failed: {ended.stderr[-2000:]}")
    return new


if __name__ == "__main__":
    sys.exit(main())
