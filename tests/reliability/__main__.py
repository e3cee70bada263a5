"""`python -m tests.reliability`: hold the real service to what it promises, by force.

Options also come from the environment (ROUNDS, SEED, ENGINE, SHORT, MINUTES), as `make torture` passes them.
The exit code is 1 when a promise was broken. A run is repeated with its seed.

Each engine has its share of the run's time and begins no other round when that is over; what one does not
use is the next ones'. One that hangs is ended. The report is written after each engine, and also when the
run is told to stop. The short form is over in five minutes on any machine; what depends on how fast that is
(the window, the share of duplicates, how far it came) is a warning there and fails nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import uvloop

from tests.reliability.backstop import Backstop
from tests.reliability.controls import Controls
from tests.reliability.enumerator import Enumerator
from tests.reliability.faults import Faults
from tests.reliability.images import TornImages
from tests.reliability.kills import KillLoop
from tests.reliability.plan import Engine, Findings, Plan
from tests.reliability.powercuts import MeanDisk, PowerCuts
from tests.reliability.progress import Progress
from tests.reliability.report import as_text, conditions, summary, write
from tests.reliability.window import Window

__all__ = ["main"]

#: Minutes of each engine in the full and in the short form. What is used without other load is less.
_MINUTES = {
    "controls": (2.0, 0.2),
    "kill": (20.0, 0.6),
    "workers": (12.0, 0.4),
    "window": (2.0, 0.3),
    "images": (10.0, 0.2),
    "calls": (25.0, 0.6),
    "power": (15.0, 0.35),
    "meandisk": (5.0, 0.15),
    "faults": (8.0, 1.0),
}
#: What an engine may take after its time, to finish its last round and judge: half a million recipients with
#: three records each are not read in a moment where others work too.
_GRACE = 240.0
#: Seconds that the short form never exceeds, so that those who wait for it know; an engine that would
#: begin when less than `_LEAST` of them are left is passed over.
_SHORT_LIMIT, _LEAST = 285.0, 15.0


def engines() -> dict[str, Engine]:
    """All of them, in the order in which they run: first of all, do we see faults at all?"""
    found: list[Engine] = [
        Controls(),
        KillLoop(),
        KillLoop(workers=2),
        Window(),
        TornImages(),
        Enumerator(),
        PowerCuts(),
        MeanDisk(),
        Faults(),
    ]
    return {engine.name: engine for engine in found}


def main() -> int:
    known = engines()
    environment = os.environ
    parser = argparse.ArgumentParser(prog="python -m tests.reliability", description=__doc__)
    parser.add_argument(
        "--engine", default=environment.get("ENGINE", ""), help="comma list of " + ", ".join(known)
    )
    parser.add_argument("--rounds", type=int, default=int(environment.get("ROUNDS") or 0))
    parser.add_argument("--seed", type=int, default=int(environment.get("SEED") or random.randrange(10**6)))
    parser.add_argument("--short", action="store_true", default=environment.get("SHORT", "") not in ("", "0"))
    parser.add_argument(
        "--minutes",
        type=float,
        default=float(environment.get("MINUTES") or 0),
        help="for all engines together",
    )
    parser.add_argument("--output", type=Path, default=Path("build/torture"), help="where the report goes")
    parser.add_argument("--keep", action="store_true", help="leave spools and logs of a broken promise")
    parser.add_argument("--resume", action="store_true", help="go on where a run of many hours was stopped")
    options = parser.parse_args()
    options.started = time.monotonic()
    wanted = [name for name in options.engine.split(",") if name] or list(known)
    unknown = [name for name in wanted if name not in known]
    if unknown:
        parser.error(f"no engine {unknown[0]}; there are {', '.join(known)}")
    facts = conditions(options.seed, "short" if options.short else "full")
    print("  ".join(f"{name}={value}" for name, value in facts.items()), flush=True)
    findings: list[Findings] = []
    path = options.output / "report.txt"
    with Backstop(hard_limit(wanted, options)):
        for index, name in enumerate(wanted):
            if is_too_late(options, len(findings)):
                findings.append(Findings(name, warnings=["no time was left for it"]))
            else:
                findings.append(run(known[name], options, share(wanted[index:], wanted, options)))
            path = write(options.output, facts, findings)
            if findings[-1].is_stopped:
                break
    print(as_text(facts, findings) + f"\nwritten to {path}\n\n{summary(findings, options.seed)}")
    return 0 if all(one.is_good for one in findings) else 1


def minutes(names: list[str], options: argparse.Namespace) -> float:
    """What these engines may take together."""
    return sum(_MINUTES[name][options.short] for name in names)


def share(left: list[str], wanted: list[str], options: argparse.Namespace) -> float:
    """Seconds for the first of those that are left: its part of the time that is left."""
    if options.rounds and not options.minutes:
        return math.inf  # so many were asked for
    whole: float = options.minutes or minutes(wanted, options)
    remaining: float = whole * 60 - (time.monotonic() - options.started)
    return max(5.0, remaining * minutes(left[:1], options) / minutes(left, options))


def is_too_late(options: argparse.Namespace, done: int) -> bool:
    """Whether another engine would run beyond what was promised for the short form."""
    if not is_bounded(options) or not done:
        return False
    return time.monotonic() - options.started > _SHORT_LIMIT - _LEAST


def is_bounded(options: argparse.Namespace) -> bool:
    """Whether this is the short form as it stands, and nobody asked for more."""
    return bool(options.short) and not options.rounds and not options.minutes


def hard_limit(wanted: list[str], options: argparse.Namespace) -> float | None:
    """Seconds after which the run is ended from outside; None without a limit."""
    if options.rounds and not options.minutes:
        return None
    if is_bounded(options):
        return _SHORT_LIMIT + 5.0
    whole: float = options.minutes or minutes(wanted, options)
    return whole * 60 + 2 * _GRACE


async def within(engine: Engine, plan: Plan, ends_at: float = math.inf) -> Findings:
    """Let an engine do its work; it is cancelled when it does not end in time, or when the run is to stop.

    `ends_at` (monotonic) is when the whole run must be over: then it is not the engine's fault.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    is_cut = ends_at < plan.deadline + _GRACE
    left = min(plan.deadline + _GRACE, ends_at) - time.monotonic()
    findings = Findings(engine.name)
    try:
        async with asyncio.timeout(None if math.isinf(left) else left) as limit:
            return await engine.run(plan)
    except TimeoutError:
        if not limit.expired():
            raise  # of something that the engine waited for
        if is_cut:
            findings.warnings.append("the time of the whole run was up before it was judged")
        else:
            findings.breaches.append(f"the engine did not end {_GRACE:.0f} s after its time")
    except asyncio.CancelledError:
        task.uncancel()
        findings.is_stopped = True
        findings.breaches.append("the run was stopped")
    return findings


def run(engine: Engine, options: argparse.Namespace, seconds: float) -> Findings:
    """One engine in a directory of its own, which is gone afterwards."""
    directory = Path(tempfile.mkdtemp(prefix=f"torture-{engine.name}-"))
    state = options.output / "state" if options.resume else None
    started = time.monotonic()
    plan = Plan(directory, Progress(), options.seed, options.rounds, options.short, state, started + seconds)
    findings = Findings(engine.name)
    ends_at = options.started + _SHORT_LIMIT if is_bounded(options) else math.inf
    try:
        findings = uvloop.run(within(engine, plan, ends_at))
    except TimeoutError as error:
        findings.miss(f"not through in time: the engine waited in vain {error}".rstrip(), plan)
    except Exception as error:
        findings.breaches.append(f"the engine itself failed: {error!r}")
        if options.keep:
            raise
    finally:
        findings.figures["seconds"] = round(time.monotonic() - started, 1)
        if options.keep and not findings.is_good:
            print(f"kept: {directory}", flush=True)
        else:
            shutil.rmtree(directory, ignore_errors=True)
    return findings


if __name__ == "__main__":
    sys.exit(main())
