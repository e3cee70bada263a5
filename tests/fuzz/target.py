"""One thing to fuzz: a function that takes any octets and says by exception that a promise was broken.

A target's `run` holds what it feeds against an oracle: the same input in other pieces, the same thing read
back, another implementation. What it returns is a sketch of the behaviour it saw; the mutation loop keeps
inputs with a new sketch, the coverage-guided runner looks at the code instead.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass

__all__ = ["CPU_LIMIT", "Broken", "Target", "pieces", "quiet", "sentence", "timed"]

#: CPU seconds that no single input may take.
CPU_LIMIT = 1.0


class Broken(AssertionError):
    """An input broke a promise."""


@dataclass(frozen=True, slots=True)
class Target:
    """`seeds` are good inputs to start from, `words` what the format is made of, `largest` a length."""

    name: str
    run: Callable[[bytes], Hashable]
    seeds: tuple[bytes, ...]
    words: tuple[bytes, ...] = ()
    largest: int = 4096


def quiet() -> None:
    """No log lines: damage is reported, and there is nothing but damage here."""
    logging.disable(logging.CRITICAL)


def sentence(error: Exception, *, may_quote: bool = False) -> str:
    """An error's text, after a look at it: it goes to a peer, or to an operator whose words it may quote."""
    text = str(error)
    assert text
    assert may_quote or text.isprintable(), text
    return text[:30]


def timed(target: Target, data: bytes, limit: float = CPU_LIMIT) -> Hashable:
    """Run it once; Broken when it takes too long."""
    began = time.process_time()
    seen = target.run(data)
    spent = time.process_time() - began
    if spent > limit:
        raise Broken(f"{target.name}: {len(data)} octets took {spent:.2f} s")
    return seen


def pieces(data: bytes, seed: int = 0) -> Iterator[bytes]:
    """The same octets in another segmentation, which depends on them alone."""
    chance = random.Random(len(data) * 31 + seed + sum(data[:16]))
    position = 0
    while position < len(data):
        size = chance.choice((1, 1, 2, 3, 5, 8, 40))
        yield data[position : position + size]
        position += size
