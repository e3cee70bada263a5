"""What an engine is told, and what it gives back."""

from __future__ import annotations

import math
import random
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tests.reliability.progress import Progress

__all__ = ["Engine", "Findings", "Plan"]


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to do and with which dice. `rounds` 0 means as many as the engine thinks right.

    `state` is where an engine that can be resumed keeps what it has done; None: it begins anew. No round
    begins after `deadline` (monotonic): an engine ends by itself and says how far it came.
    """

    directory: Path
    progress: Progress
    seed: int = 1
    rounds: int = 0
    is_short: bool = False
    state: Path | None = None
    deadline: float = math.inf

    def dice(self, purpose: str) -> random.Random:
        """Dice that fall alike for one seed and purpose, whatever other engines did."""
        return random.Random(f"{self.seed}/{purpose}")

    def is_time_up(self) -> bool:
        """Whether no other round may begin."""
        return time.monotonic() >= self.deadline

    def choose(self, full: int, short: int) -> int:
        """How many rounds: as asked for, or by the form."""
        return self.rounds or (short if self.is_short else full)


@dataclass(slots=True)
class Findings:
    """What an engine found: figures for the report, and every breach of a promise in words.

    `warnings` are targets that were missed where the machine may be the reason. `skipped` says why nothing
    was done at all; `is_stopped` that somebody wants the whole run to end.
    """

    engine: str
    figures: dict[str, Any] = field(default_factory=dict)
    breaches: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    skipped: str = ""
    is_stopped: bool = False

    def stop_early(self, done: int, wanted: int, plan: Plan) -> None:
        """Time was up before everything was done."""
        if done < wanted:
            self.notes.append(f"time was up after {done} of {wanted}")
        if not done:
            self.miss("nothing was done at all before time was up", plan)

    def miss(self, words: str, plan: Plan) -> None:
        """A target of speed was missed: a breach in the full form, which wants a machine to itself, and a
        warning in the short one, which runs beside whatever else there is."""
        (self.warnings if plan.is_short else self.breaches).append(words)

    @property
    def is_good(self) -> bool:
        return not self.breaches


class Engine(Protocol):
    """One way to hold the service to its promises."""

    name: str

    async def run(self, plan: Plan) -> Findings:
        """Do what the plan says; cleans up after itself, also when it is cancelled."""
        ...
