from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.errors import RouteError
from mta.routing.mx import HOSTS_LIMIT, exchange_levels, is_forbidden, reason_forbidden, without_ourselves
from mta.routing.resolver import MxRecord


def levels(*records: tuple[int, str], seed: int = 1) -> list[list[str]]:
    return exchange_levels("a.example", [MxRecord(*record) for record in records], Random(seed))


def test_the_smaller_preference_comes_first() -> None:
    assert levels((20, "second"), (5, "first"), (30, "third")) == [["first"], ["second"], ["third"]]


def test_equal_preferences_are_shuffled() -> None:
    orders = {tuple(levels((10, "a"), (10, "b"), (10, "c"), (20, "z"), seed=seed)[0]) for seed in range(50)}
    assert len(orders) == 6


def test_null_mx_is_permanent() -> None:
    with pytest.raises(RouteError, match="null MX") as caught:
        levels((0, "."))
    assert (caught.value.temporary, caught.value.status) == (False, "5.1.10")


def test_null_mx_beside_real_hosts_is_ignored() -> None:
    assert levels((0, "."), (10, "mx")) == [["mx"]]


def test_hosts_written_as_addresses_are_ignored() -> None:
    assert levels((5, "192.0.2.1"), (5, "2001:db8::1"), (10, "mx")) == [["mx"]]
    with pytest.raises(RouteError) as caught:
        levels((5, "192.0.2.1"))
    assert (caught.value.temporary, caught.value.status) == (False, "5.4.4")


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 100)), min_size=1, max_size=300))
def test_a_thousand_hosts_are_cut_to_a_few_of_the_best(records: list[tuple[int, int]]) -> None:
    result = levels(*((preference, f"mx{number}") for preference, number in records))

    hosts = [host for level in result for host in level]
    assert 1 <= len(hosts) <= HOSTS_LIMIT
    assert len(hosts) == min(HOSTS_LIMIT, sum(len(set(level)) for level in by_preference(records)))
    assert all(level for level in result)


def by_preference(records: list[tuple[int, int]]) -> list[list[int]]:
    return [
        [number for preference, number in records if preference == wanted]
        for wanted in sorted({preference for preference, _ in records})
    ]


def test_our_own_level_and_everything_behind_it_is_left_out() -> None:
    found = [["better"], ["us", "peer"], ["worse"]]
    assert without_ourselves("a.example", found, {"us"}) == [["better"]]


def test_being_the_best_host_ourselves_is_a_loop() -> None:
    with pytest.raises(RouteError, match="loops back") as caught:
        without_ourselves("a.example", [["us"], ["other"]], {"us"})
    assert (caught.value.temporary, caught.value.status) == (False, "5.4.6")


@pytest.mark.parametrize(
    ("ip", "reason"),
    [
        ("127.0.0.1", "loopback"),
        ("127.9.9.9", "loopback"),
        ("::1", "loopback"),
        ("::ffff:127.0.0.1", "loopback"),
        ("64:ff9b::7f00:1", "loopback"),
        ("2002:7f00:1::1", "loopback"),
        ("0.0.0.0", "unspecified"),
        ("0.1.2.3", "unspecified"),
        ("::", "unspecified"),
        ("169.254.1.1", "link-local"),
        ("fe80::1", "link-local"),
        ("224.0.0.1", "multicast"),
        ("ff02::1", "multicast"),
        ("255.255.255.255", "reserved"),
        ("100.64.0.1", "private"),
        ("10.1.2.3", "private"),
        ("172.16.0.1", "private"),
        ("192.168.1.1", "private"),
        ("fd00::1", "private"),
        ("240.0.0.1", "reserved"),
    ],
)
def test_addresses_that_a_strangers_dns_may_not_lead_to(ip: str, reason: str) -> None:
    assert reason_forbidden(ip) == reason


@pytest.mark.parametrize(
    "ip", ["8.8.8.8", "2a00:1450::1", "100.128.0.1", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_ordinary_addresses_may_be_used(ip: str) -> None:
    assert not is_forbidden(ip)
