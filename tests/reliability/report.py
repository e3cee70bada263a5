"""What all engines found, as text for people and as JSON for programs."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tests.reliability.plan import Findings

__all__ = ["as_text", "conditions", "shortened", "summary", "write"]

_LONGEST = 600


def conditions(seed: int, form: str) -> dict[str, object]:
    """What the figures depend on."""
    return {
        "seed": seed,
        "form": form,
        "python": platform.python_version(),
        "kernel": platform.release(),
        "processors": os.cpu_count(),
        "load average": round(os.getloadavg()[0], 1),
    }


def as_text(facts: dict[str, object], findings: Sequence[Findings]) -> str:
    """A page."""
    lines = [f"{name:14} {value}" for name, value in facts.items()]
    for one in findings:
        lines += ["", f"{one.engine}: {_verdict(one)}"]
        lines += [f"  {name:44} {value}" for name, value in one.figures.items()]
        lines += [f"  note: {note}" for note in one.notes]
        lines += [f"  warning: {warning}" for warning in one.warnings]
        lines += [f"  BREACH: {shortened(breach)}" for breach in one.breaches]
    return "\n".join(lines) + "\n"


def summary(findings: Sequence[Findings], seed: object) -> str:
    """One line for each engine, and one for the run: what is still to be seen at the end of a long output."""
    lines = []
    for one in findings:
        seconds = one.figures.get("seconds", 0)
        warnings = [f"warning: {warning}" for warning in one.warnings]
        words = [shortened(text) for text in (*one.breaches, *warnings, *one.notes)]
        lines.append(f"{one.engine:9} {seconds:7} s  {'; '.join([_verdict(one), *words])[:_LONGEST]}")
    broken = sum(not one.is_good for one in findings)
    total = sum(float(one.figures.get("seconds", 0)) for one in findings)
    lines.append(f"{'all':9} {total:7.1f} s  seed={seed}, {len(findings) - broken} kept, {broken} broken")
    return "\n".join(lines)


def _verdict(one: Findings) -> str:
    if not one.is_good:
        return "BROKEN"
    return "skipped: " + one.skipped if one.skipped else "kept"


def shortened(text: str) -> str:
    """One line of bearable length, of which the end says most; the JSON has all of it."""
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST // 3]} […] {line[-_LONGEST * 2 // 3 :]}"


def write(directory: Path, facts: dict[str, object], findings: Sequence[Findings]) -> Path:
    """`report.txt` and `report.json`; returns the path of the first."""
    directory.mkdir(parents=True, exist_ok=True)
    text = directory / "report.txt"
    text.write_text(as_text(facts, findings))
    body = {"conditions": facts, "engines": [asdict(one) for one in findings]}
    (directory / "report.json").write_text(json.dumps(body, indent=2, default=str) + "\n")
    return text
