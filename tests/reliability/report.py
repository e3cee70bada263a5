"""What all engines found, as text for people and as JSON for programs."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tests.reliability.plan import Findings

__all__ = ["as_text", "conditions", "shortened", "write"]

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
        verdict = "skipped: " + one.skipped if one.skipped else "kept" if one.is_good else "BROKEN"
        lines += ["", f"{one.engine}: {verdict}"]
        lines += [f"  {name:44} {value}" for name, value in one.figures.items()]
        lines += [f"  note: {note}" for note in one.notes]
        lines += [f"  BREACH: {shortened(breach)}" for breach in one.breaches]
    return "\n".join(lines) + "\n"


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
