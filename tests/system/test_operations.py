"""A steady message does not cost more byte-code operations than it did.

When this fails because a message has to do more from now on, and that is worth its price:

    python -m benchmarks.operations -m 240 --top 0 --json > tests/system/operations.json
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.operations import growth

ROOT = Path(__file__).parents[2]
#: What was counted when the hot path last changed for good.
BEFORE = json.loads(Path(__file__).with_name("operations.json").read_text())
#: The count moves by some percent with the machine's load, by which batches are larger or smaller.
ALLOWANCE = 1.10


def minor(version: str) -> str:
    return version.rpartition(".")[0]


@pytest.mark.skipif(
    minor(platform.python_version()) != minor(BEFORE["python"]),
    reason="another version of the interpreter has other operations",
)
def test_a_message_costs_no_more_operations_than_before() -> None:
    most = BEFORE["operations"] * ALLOWANCE

    now = counted()
    for _ in range(2):
        if now["operations"] > most:  # on a machine full of other work batches are small
            now = min(now, counted(), key=lambda one: float(one["operations"]))

    assert now["operations"] <= most, "\n".join(
        [f"more than {most:,.0f} operations a message; by module:", *growth(BEFORE, now)]
    )


def counted() -> dict[str, Any]:
    """What a program of its own counts now."""
    command = [sys.executable, "-m", "benchmarks.operations", "-m", "240", "--top", "0", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60.0, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found
