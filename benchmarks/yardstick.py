"""How fast the machine is right now, in figures that no server on the bench has a part in.

A virtual machine may change its speed by half within minutes. Two fixed pieces of work are timed before each
run, in CPU time: what they take says how much of a change in our figures is the machine's.
"""

from __future__ import annotations

import socket
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

__all__ = ["Reading", "read_yardstick"]

STEPS, ROUND_TRIPS = 3_000, 200
READINGS = 7
LINE = b"250 2.1.5 the same words in each step <rcpt@bench.example>"


class Reading(NamedTuple):
    """Microseconds of CPU: one fixed loop of pure Python, and one round trip over a socketpair."""

    loop_us: float
    ping_us: float


def read_yardstick() -> Reading:
    """Medians of a few readings; about 20 ms in all."""
    near, far = socket.socketpair()
    with near, far:
        pings = [cpu_us(lambda: ping_pong(near, far)) / ROUND_TRIPS for _ in range(READINGS)]
    loops = [cpu_us(python_loop) for _ in range(READINGS)]
    return Reading(round(statistics.median(loops), 1), round(statistics.median(pings), 3))


def cpu_us(work: Callable[[], object]) -> float:
    before = time.thread_time()
    work()
    return (time.thread_time() - before) * 1e6


def python_loop() -> int:
    """What an interpreter does all day: calls, look-ups, searching and cutting octets. Never change it."""
    counts: dict[int, int] = {}
    for number in range(STEPS):
        key = number & 63
        counts[key] = counts.get(key, 0) + len(word_of(LINE, key & 7))
    return len(counts)


def word_of(line: bytes, start: int) -> bytes:
    return line[start : line.find(b" ", start)]


def ping_pong(near: socket.socket, far: socket.socket) -> None:
    for _ in range(ROUND_TRIPS):
        near.send(b"p")
        far.recv(1)
        far.send(b"q")
        near.recv(1)
