"""`python -m tests.reliability`: hold the real service to what it promises, by force.

Options also come from the environment (ROUNDS, SEED, ENGINE, SHORT), as `make torture` passes them. The exit
code is 1 when a promise was broken. A run is repeated with its seed.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import uvloop

from tests.reliability.controls import Controls
from tests.reliability.enumerator import Enumerator
from tests.reliability.faults import Faults
from tests.reliability.images import TornImages
from tests.reliability.kills import KillLoop
from tests.reliability.plan import Engine, Findings, Plan
from tests.reliability.powercuts import MeanDisk, PowerCuts
from tests.reliability.progress import Progress
from tests.reliability.report import as_text, conditions, write

__all__ = ["main"]


def engines() -> dict[str, Engine]:
    """All of them, in the order in which they run."""
    found: list[Engine] = [
        KillLoop(),
        TornImages(),
        Enumerator(),
        PowerCuts(),
        MeanDisk(),
        Faults(),
        Controls(),
    ]
    return {engine.name: engine for engine in found}


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything is cleaned up
    known = engines()
    environment = os.environ
    parser = argparse.ArgumentParser(prog="python -m tests.reliability", description=__doc__)
    parser.add_argument(
        "--engine", default=environment.get("ENGINE", ""), help="comma list of " + ", ".join(known)
    )
    parser.add_argument("--rounds", type=int, default=int(environment.get("ROUNDS") or 0))
    parser.add_argument("--seed", type=int, default=int(environment.get("SEED") or random.randrange(10**6)))
    parser.add_argument("--short", action="store_true", default=environment.get("SHORT", "") not in ("", "0"))
    parser.add_argument("--output", type=Path, default=Path("build/torture"), help="where the report goes")
    parser.add_argument("--keep", action="store_true", help="leave spools and logs of a broken promise")
    parser.add_argument("--resume", action="store_true", help="go on where a run of many hours was stopped")
    options = parser.parse_args()
    wanted = [name for name in options.engine.split(",") if name] or list(known)
    unknown = [name for name in wanted if name not in known]
    if unknown:
        parser.error(f"no engine {unknown[0]}; there are {', '.join(known)}")
    facts = conditions(options.seed, "short" if options.short else "full")
    print("  ".join(f"{name}={value}" for name, value in facts.items()), flush=True)
    findings = [run(known[name], options) for name in wanted]
    path = write(options.output, facts, findings)
    print(as_text(facts, findings) + f"\nwritten to {path}")
    return 0 if all(one.is_good for one in findings) else 1


def run(engine: Engine, options: argparse.Namespace) -> Findings:
    """One engine in a directory of its own, which is gone afterwards."""
    directory = Path(tempfile.mkdtemp(prefix=f"torture-{engine.name}-"))
    state = options.output / "state" if options.resume else None
    plan = Plan(directory, Progress(), options.seed, options.rounds, options.short, state)
    started = time.monotonic()
    findings = Findings(engine.name)
    try:
        findings = uvloop.run(engine.run(plan))
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
