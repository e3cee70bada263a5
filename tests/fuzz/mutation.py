"""A mutation loop of our own: for machines without the coverage-guided runner.

It keeps inputs whose sketch of behaviour (what `Target.run` returns, or the error) has not been seen before,
and goes on from those. No tracing, so a run costs what the target costs.
"""

from __future__ import annotations

import random
import time
from collections.abc import Hashable
from dataclasses import dataclass, field

from tests.fuzz.target import Target, timed

__all__ = ["Finding", "Outcome", "explore", "mutated"]

#: Inputs kept; the oldest of the ordinary ones go first.
_KEPT = 500


@dataclass(frozen=True, slots=True)
class Finding:
    """An input and what it broke."""

    target: str
    data: bytes
    error: str


@dataclass(slots=True)
class Outcome:
    """What one exploration came to."""

    target: str
    runs: int = 0
    sketches: int = 0
    findings: list[Finding] = field(default_factory=list)


def explore(target: Target, seconds: float, seed: int, corpus: list[bytes] | None = None) -> Outcome:
    """Fuzz for about so many CPU seconds; stops at the first finding."""
    chance = random.Random(f"{target.name}{seed}")
    kept = [*target.seeds, *(corpus or [])]
    seen: set[Hashable] = set()
    outcome = Outcome(target.name)
    end = time.process_time() + seconds
    waiting = list(kept)
    while waiting or time.process_time() < end:
        data = waiting.pop() if waiting else mutated(target, chance.choice(kept), chance, kept)
        outcome.runs += 1
        try:
            sketch = timed(target, data)
        except Exception as error:
            outcome.findings.append(Finding(target.name, data, f"{type(error).__name__}: {error}"[:500]))
            break
        if sketch not in seen:
            seen.add(sketch)
            if len(kept) >= _KEPT:
                kept.pop(len(target.seeds))
            kept.append(data)
    outcome.sketches = len(seen)
    return outcome


def mutated(target: Target, data: bytes, chance: random.Random, others: list[bytes]) -> bytes:
    """The input with one to four changes."""
    octets = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4))):
        at = chance.randrange(len(octets) + 1)
        reach = at + chance.choice((1, 1, 2, 4, 16, 64))
        match chance.randrange(8):
            case 0:
                octets[at:at] = bytes(chance.randrange(256) for _ in range(chance.randrange(1, 5)))
            case 1:
                del octets[at:reach]
            case 2 if at < len(octets):
                octets[at] ^= 1 << chance.randrange(8)
            case 3 if target.words:
                octets[at:at] = chance.choice(target.words)
            case 4:
                octets[at:at] = octets[at:reach] * chance.choice((1, 2, 5, 50))
            case 5:
                other = chance.choice(others)
                octets[at:] = other[chance.randrange(len(other) + 1) :]
            case 6 if at < len(octets):
                octets[at] = chance.choice(b'\r\n\0 .<>@"\\\x7f\x80\xff09')
            case _ if target.words:
                octets[at:reach] = chance.choice(target.words)
    return bytes(octets[: target.largest])
