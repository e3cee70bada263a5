"""How much a cold virtual MTA gets a day, over restarts, crashes and midnight."""

from __future__ import annotations

from datetime import datetime

from mta.ingress.cold import ColdQuota
from tests.support.cold_memory import ColdMemory


class Calendar:
    """Stands still until it is moved."""

    def __init__(self, moment: datetime) -> None:
        self._wall = moment.timestamp()

    def now(self) -> float:
        return self._wall

    wall = now

    def advance(self, seconds: float) -> None:
        self._wall += seconds


def test_numbers_survive_restarts_and_grow_by_the_day_s_entry() -> None:
    memory = ColdMemory()
    clock = Calendar(datetime(2026, 11, 21, 23, 0))
    choice = ("warm", ("cold",), "b.example", (1, 2))

    assert [ColdQuota(memory, clock).choose(*choice) for _ in range(3)] == ["cold", "", ""]
    clock.advance(2 * 3600)
    quota = ColdQuota(memory, clock)
    assert [quota.choose(*choice) for _ in range(3)] == ["cold", "cold", ""]
    clock.advance(10 * 86400)
    assert [quota.choose(*choice) for _ in range(3)] == ["cold", "cold", ""]


def test_crash_never_makes_a_number_larger() -> None:
    memory = ColdMemory()
    clock = Calendar(datetime(2026, 11, 21, 12, 0))
    taken = 0
    for _ in range(200):
        quota = ColdQuota(memory, clock)
        taken += sum(quota.choose("warm", ("cold",), "b.example", (100,)) == "cold" for _ in range(2))

    assert 20 <= taken <= 100


def test_workers_split_the_number() -> None:
    clock = Calendar(datetime(2026, 11, 21, 12, 0))
    quotas = [ColdQuota(ColdMemory(), clock, part=part, parts=3) for part in range(3)]

    counts = [sum(quota.choose("w", ("c",), "d", (10,)) == "c" for _ in range(10)) for quota in quotas]
    assert counts == [4, 3, 3]


def test_what_cannot_be_remembered_is_not_given_out() -> None:
    memory = ColdMemory()
    memory.fails = True
    clock = Calendar(datetime(2026, 11, 21, 12, 0))

    assert ColdQuota(memory, clock).choose("w", ("c",), "d", (10,)) == ""
