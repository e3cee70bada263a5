"""What the figures are held against: limits that the project has set itself, each with its sum."""

from __future__ import annotations

import os
import re
import shutil
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.measure import Figures
from benchmarks.scenarios import Dkim, Server

__all__ = ["SHOWS", "Verdict", "said_yardsticks", "shape_of", "shows_of", "signatures_per_second", "verdicts"]

#: Limits by their number: which entries they need.
SHOWS = {
    1: ("size/10KB-",),
    2: ("size/1KB-20 ", "size/100KB", "domains/1,000 ", "latency/final", "latency/every"),
    3: ("workers/",),
    4: ("sync/",),
    5: ("dkim/",),
    6: ("coldstart/",),
}
MOST_CPU = 180.0
RATIOS = {
    "size/10KB-20": (1, 6.0),
    "size/10KB-200": (1, 8.0),
    "size/1KB-20": (2, 8.0),
    "size/100KB-20": (2, 2.5),
    "domains/1,000": (2, 6.0),
}
#: Shapes whose CPU a message is held against MOST_CPU.
COSTS = "size/10KB-20", "size/10KB-200"
RATES = {"latency/final dot": 900.0, "latency/every reply": 850.0}
SCALING, SYNCED, RSA, ED25519 = 1.6, 0.8, 0.75, 0.6
#: The drain that says how far two workers scale: the receiver takes a small part of its CPU.
SCALING_SHAPE = "workers/drain 10 KB rsa"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One limit, what was measured, and how it was worked out."""

    show: int
    text: str
    value: float
    limit: float
    sum: str = ""
    is_most: bool = False  # the limit is the most there may be, not the least

    @property
    def is_kept(self) -> bool:
        return self.value <= self.limit if self.is_most else self.value >= self.limit


def shows_of(number: int) -> tuple[str, ...]:
    """Words for `chosen`: what has to be measured for one limit."""
    return SHOWS[number]


def verdicts(all_figures: Sequence[Figures], *, cpus: int, signatures: float = 0.0) -> list[Verdict]:
    """Every limit of which everything it needs was measured. `signatures`: RSA-2048 a second by one."""
    shapes: dict[str, dict[str, Figures]] = {}
    for one in all_figures:
        if one.runs and not one.error:
            shapes.setdefault(f"{one.shape.group}/{one.shape.name}", {})[one.entry.label] = one
    found = [
        *beside_postfix(shapes),
        *slow_receivers(shapes),
        *scaling(shapes),
        *durability(shapes),
        *signing(shapes, cpus, signatures),
    ]
    return sorted(found, key=lambda verdict: verdict.show)


Shapes = dict[str, dict[str, Figures]]


def beside_postfix(shapes: Shapes) -> list[Verdict]:
    found = []
    for name, (show, limit) in RATIOS.items():
        entries = shapes.get(name, {})
        ours = entries.get("mta")
        peers = [one for one in entries.values() if one.entry.server is Server.POSTFIX]
        if ours and peers:
            best = max(peers, key=lambda one: one.median("rate"))
            rates = ours.median("rate"), best.median("rate")
            text = f"{name}: times Postfix"
            sum_ = f"{rates[0]:,.0f} / {rates[1]:,.0f} ({best.entry.label}, the better one here)"
            found.append(Verdict(show, text, rates[0] / rates[1], limit, sum_))
        if ours and name in COSTS:
            text = f"{name}: CPU µs a message, all our processes"
            found.append(Verdict(1, text, ours.median("cpu_us"), MOST_CPU, is_most=True))
    return found


def slow_receivers(shapes: Shapes) -> list[Verdict]:
    found = []
    for name, limit in RATES.items():
        if ours := shapes.get(name, {}).get("mta"):
            rate = ours.median("rate")
            sum_ = f"100 connections / 0.1 s = 1,000/s at most; {rate / 10:.0f} % of it"
            found.append(Verdict(2, f"{name}: messages a second", rate, limit, sum_))
    return found


def scaling(shapes: Shapes) -> list[Verdict]:
    entries = shapes.get(SCALING_SHAPE, {})
    one, two = entries.get("1 w"), entries.get("2 w")
    if not one or not two:
        return []
    rates = two.median("rate"), one.median("rate")
    sum_ = f"{rates[0]:,.0f} / {rates[1]:,.0f}; processors busy: {shares(one)} | {shares(two)}"
    return [
        Verdict(3, f"{SCALING_SHAPE}: two pinned workers against one", rates[0] / rates[1], SCALING, sum_)
    ]


def shares(figures: Figures) -> str:
    """How many processors each process kept busy, in the run with the median rate."""
    run = sorted(figures.runs, key=lambda run: run.rate)[len(figures.runs) // 2]
    return ", ".join(f"{name} {share:.2f}" for name, share in run.shares.items() if share >= 0.01)


def durability(shapes: Shapes) -> list[Verdict]:
    entries = shapes.get("sync/10KB-200", {})
    synced, loose = entries.get("synced"), entries.get("not synced")
    if not synced or not loose:
        return []
    rates = synced.median("rate"), loose.median("rate")
    sum_ = f"{rates[0]:,.0f} / {rates[1]:,.0f}"
    return [Verdict(4, "sync/10KB-200: durable against not synced", rates[0] / rates[1], SYNCED, sum_)]


def signing(shapes: Shapes, cpus: int, signatures: float) -> list[Verdict]:
    """RSA against the bound that CPU sets: all processors, what unsigned mail takes of them, a signature.

    Of each kind the better number of workers counts.
    """
    entries = shapes.get("dkim/10KB-200", {}).values()

    def best(kind: Dkim) -> Figures | None:
        of_kind = [one for one in entries if one.entry.dkim is kind]
        return max(of_kind, key=lambda one: one.median("rate"), default=None)

    unsigned, rsa, ed25519 = best(Dkim.OFF), best(Dkim.RSA), best(Dkim.ED25519)
    found = []
    if unsigned and rsa and signatures:
        cost, whole = 1e6 / signatures, unsigned.median("machine_us")
        bound = cpus * 1e6 / (whole + cost)
        sum_ = (
            f"{cpus} x 1,000,000 µs / ({whole:.0f} µs that an unsigned message takes of the whole machine"
            f" + {cost:.0f} µs a signature by openssl speed) = {bound:,.0f}/s;"
            f" measured {rsa.median('rate'):,.0f} ({rsa.entry.label}, the best of its kind)"
        )
        share = rsa.median("rate") / bound
        found.append(Verdict(5, "dkim/10KB-200: RSA-2048, part of the bound", share, RSA, sum_))
    if unsigned and ed25519:
        rates = ed25519.median("rate"), unsigned.median("rate")
        sum_ = f"{rates[0]:,.0f} ({ed25519.entry.label}) / {rates[1]:,.0f} ({unsigned.entry.label})"
        text = "dkim/10KB-200: Ed25519 against unsigned"
        found.append(Verdict(5, text, rates[0] / rates[1], ED25519, sum_))
    return found


def signatures_per_second(seconds: int = 3) -> float:
    """RSA-2048 signatures that each processor makes when all do, by `openssl speed`; 0 without openssl.

    All at once, as the bound has it: where two processors are threads of one core, one alone is quicker.
    """
    openssl = shutil.which("openssl")
    if openssl is None:
        return 0.0
    cpus = len(os.sched_getaffinity(0))
    done = subprocess.run(
        [openssl, "speed", "-multi", str(cpus), "-seconds", str(seconds), "rsa2048"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return parse_speed(done.stdout) / cpus


def parse_speed(text: str) -> float:
    """The `sign/s` of the line `rsa 2048 bits 0.000307s 0.000009s 3257.0 110769.2`."""
    line = re.search(r"^rsa\s+2048 bits\s+\S+\s+\S+\s+(\S+)", text, re.MULTILINE)
    return float(line[1]) if line else 0.0


def said_yardsticks(all_figures: Sequence[Figures]) -> list[str]:
    """A sentence for each shape whose cost is judged: the machine, Postfix on it, our cost in those units."""
    found = []
    for shape in COSTS:
        entries = [one for one in all_figures if one.runs and not one.error and shape_of(one) == shape]
        ours = next((one for one in entries if one.entry.server is Server.MTA), None)
        if ours is None or not ours.median("loop_us"):
            continue
        readings = [run for one in entries for run in one.runs]
        loops, pings = [run.loop_us for run in readings], [run.ping_us for run in readings]
        text = f"{shape}, the machine meanwhile: fixed Python loop {said_spread(loops)} us,"
        text += f" socketpair round trip {said_spread(pings)} us"
        cost = ours.median("cpu_us")
        units = [f"{cost / statistics.median(loops):.3f} loops"]
        units.append(f"{cost / statistics.median(pings):.1f} round trips")
        peers = [one for one in entries if one.entry.server is Server.POSTFIX]
        if peers:
            peer = max(peers, key=lambda one: one.median("rate")).median("cpu_us")
            text += f", Postfix {peer:,.0f} us of CPU a message"
            units.append(f"{cost / peer:.3f} of Postfix's")
        found.append(f"{text}. Ours costs {cost:,.0f} us = {' = '.join(units)}.")
    return found


def shape_of(figures: Figures) -> str:
    """The name of its shape: group/name."""
    return f"{figures.shape.group}/{figures.shape.name}"


def said_spread(values: Sequence[float]) -> str:
    middle, low, high = statistics.median(values), min(values), max(values)
    digits = 0 if middle >= 100 else 2
    return f"{middle:,.{digits}f} ({low:,.{digits}f}-{high:,.{digits}f})"
