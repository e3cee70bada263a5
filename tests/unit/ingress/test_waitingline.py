"""The order in which those who wait come in."""

from __future__ import annotations

from mta.ingress.relaying import SourcePolicy
from mta.ingress.waitingline import WaitingLine

TRUSTED = SourcePolicy(allow_relaying=True)


def line_of(*guests: tuple[str, str], places: int = 10, of_one: int = 10) -> WaitingLine[str]:
    line: WaitingLine[str] = WaitingLine()
    for guest, ip in guests:
        line.join(guest, ip, TRUSTED, places=places, of_one=of_one)
    return line


def test_who_came_first_is_first_unless_that_one_may_not_enter() -> None:
    line = line_of(("a", "192.0.2.1"), ("b", "192.0.2.2"), ("c", "192.0.2.1"))

    assert line.first(lambda ip, policy: True) == "a"
    assert line.first(lambda ip, policy: ip != "192.0.2.1") == "b"
    assert line.first(lambda ip, policy: False) is None


def test_places_are_counted_in_all_and_for_each_address() -> None:
    line = line_of(("a", "192.0.2.1"), ("b", "192.0.2.1"), ("c", "192.0.2.2"), ("d", "192.0.2.3"), places=3)
    assert list(line) == ["a", "b", "c"]

    line = line_of(("a", "192.0.2.1"), ("b", "192.0.2.1"), ("c", "192.0.2.2"), of_one=1)
    assert list(line) == ["a", "c"]


def test_who_leaves_gives_the_place_free_and_leaving_twice_does_nothing() -> None:
    line = line_of(("a", "192.0.2.1"), of_one=1)
    line.leave("a")
    line.leave("a")

    assert (len(line), repr(line)) == (0, "<WaitingLine waiting=0>")
    assert line.join("b", "192.0.2.1", TRUSTED, places=1, of_one=1)
