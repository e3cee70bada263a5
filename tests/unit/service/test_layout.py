"""Owners of domains: every domain has one, the same everywhere, and claims come before slots."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.config.domainpattern import DomainPattern
from mta.config.load import load_text
from mta.config.snapshot import Snapshot
from mta.errors import ConfigError
from mta.message.envelope import Recipient
from mta.service.layout import SLOTS, Layout, Post, Role, parse_cpus, slot_of

DOMAINS = st.from_regex(r"[a-z0-9]{1,12}(\.[a-z0-9]{1,8}){1,3}", fullmatch=True)


def snapshot(text: str) -> Snapshot:
    loaded = load_text("smtp-listener 127.0.0.1:2525\nspool /tmp/spool\n" + text)
    assert loaded.snapshot is not None, loaded.problems
    return loaded.snapshot


def patterns(*texts: str) -> tuple[DomainPattern, ...]:
    return tuple(DomainPattern.parse(text) for text in texts)


@given(DOMAINS, st.integers(1, 64))
def test_every_domain_has_one_owner_and_it_is_the_same_in_every_process(domain: str, workers: int) -> None:
    one = Layout([Post(number) for number in range(workers)])
    other = Layout([Post(number) for number in range(workers)])

    assert 0 <= one.owner(domain) < workers
    assert one.owner(domain) == other.owner(domain) == one.owner(domain)


@given(st.lists(DOMAINS, min_size=1, max_size=6), st.integers(1, 3))
def test_recipients_have_a_sole_owner_when_all_their_domains_have_the_same(
    domains: list[str], workers: int
) -> None:
    layout = Layout([Post(number) for number in range(workers)])
    owners = {layout.owner(domain) for domain in domains}

    found = layout.sole_owner([Recipient(f"r@{domain}", domain) for domain in domains])

    assert found == (owners.pop() if len(owners) == 1 else None)


def test_slots_are_the_same_in_every_version() -> None:
    assert [slot_of(domain) for domain in ("example.com", "gmail.com", "münchen.example")] == [185, 223, 163]


@given(st.integers(1, 64))
def test_slots_are_spread_evenly(workers: int) -> None:
    layout = Layout([Post(number) for number in range(workers)])
    counts = Counter(layout.owner(domain) for domain in a_domain_in_each_slot())

    assert sum(counts.values()) == SLOTS
    assert max(counts.values()) - min(counts.values()) <= 1


def a_domain_in_each_slot() -> list[str]:
    found: dict[int, str] = {}
    number = 0
    while len(found) < SLOTS:
        found.setdefault(slot_of(f"d{number}.example"), f"d{number}.example")
        number += 1
    return list(found.values())


def test_the_most_specific_claim_wins() -> None:
    layout = Layout(
        [
            Post(0),
            Post(1, claims=patterns("[*.]big.example")),
            Post(2, claims=patterns("mail.big.example", "*.other.example")),
        ]
    )

    assert layout.owner("big.example") == 1
    assert layout.owner("a.big.example") == 1
    assert layout.owner("mail.big.example") == 2
    assert layout.owner("x.other.example") == 2
    assert layout.owner("other.example") == 0


def test_the_first_of_two_equal_claims_wins() -> None:
    layout = Layout([Post(0), Post(1, claims=patterns("a.example")), Post(2, claims=patterns("a.example"))])

    assert layout.owner("a.example") == 1


@given(st.lists(DOMAINS, min_size=1, max_size=50))
def test_a_worker_with_claims_gets_nothing_else(domains: list[str]) -> None:
    layout = Layout([Post(0), Post(1, claims=patterns("claimed.example")), Post(2)])

    assert {layout.owner(domain) for domain in domains if domain != "claimed.example"} <= {0, 2}


@given(st.lists(DOMAINS, min_size=1, max_size=50))
def test_a_worker_that_only_takes_mail_in_owns_nothing(domains: list[str]) -> None:
    layout = Layout([Post(0, Role.INGRESS), Post(1), Post(2, Role.DELIVERY)])

    assert {layout.owner(domain) for domain in domains} <= {1, 2}


def test_claims_know_domains_however_they_are_written() -> None:
    layout = Layout([Post(0), Post(1, claims=patterns("Example.COM", "münchen.example"))])

    assert layout.owner("example.com") == 1
    assert layout.owner("xn--mnchen-3ya.example") == 1


def test_a_configuration_says_how_many_and_who() -> None:
    found = snapshot(
        "workers 3\ndomain-macro big gmail.com, yahoo.com\n"
        "<worker 2>\n  cpus 0,2-3\n  domains $big\n  domains *.example.org\n  role delivery\n</worker>\n"
    )
    layout = Layout.of(found, cpus=8)

    assert len(layout) == 3
    assert layout.posts[2].cpus == {0, 2, 3}
    assert layout.posts[2].role is Role.DELIVERY
    assert layout.owner("yahoo.com") == layout.owner("a.example.org") == 2
    assert not layout.posts[2].listens
    assert layout.posts[0] == Post(0)


def test_one_worker_for_each_processor_is_the_default() -> None:
    assert len(Layout.of(snapshot(""), cpus=8)) == 8
    assert len(Layout.of(snapshot(""), cpus=500)) == 64
    assert len(Layout.of(snapshot("workers auto\n"), cpus=3)) == 3
    assert len(Layout.of(snapshot("workers 1\n"), cpus=8)) == 1


def test_blocks_with_names_take_the_numbers_that_are_free() -> None:
    found = snapshot("<worker gmail>\n domains gmail.com\n</worker>\n<worker 0>\n cpus 0\n</worker>\n")
    layout = Layout.of(found, cpus=2)

    assert len(layout) == 2
    assert layout.owner("gmail.com") == 1
    assert layout.posts[0].cpus == {0}


def test_a_running_service_keeps_its_number_of_workers() -> None:
    found = snapshot("workers 4\n<worker 3>\n domains gmail.com\n</worker>\n")

    assert len(Layout.of(found, cpus=8, count=2)) == 2
    assert Layout.of(found, cpus=8, count=2).owner("gmail.com") in (0, 1)


@pytest.mark.parametrize(
    "text",
    [
        "workers 2\n<worker 0>\nrole delivery\n</worker>\n<worker 1>\nrole delivery\n</worker>\n",
        "workers 1\n<worker 0>\nrole ingress\n</worker>\n",
        "workers 1\n<worker 0>\ndomains a.example\n</worker>\n",
        "workers 65\n",
        "<worker 0>\n</worker>\n<worker 00>\n</worker>\n",
        "<worker 0>\ncpus 3-1\n</worker>\n",
    ],
)
def test_a_layout_that_cannot_work_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        Layout.of(snapshot(text), cpus=2)


@pytest.mark.parametrize(
    ("text", "cpus"), [("", set()), ("0", {0}), ("0,2", {0, 2}), ("1-3, 8", {1, 2, 3, 8}), ("5-5", {5})]
)
def test_processors_are_written_as_taskset_has_them(text: str, cpus: set[int]) -> None:
    assert parse_cpus(text) == cpus


@pytest.mark.parametrize("text", ["x", "1-", "-1", "2-1", "0;1", "99999", "1-2-3"])
def test_processors_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="cpus"):
        parse_cpus(text)


@pytest.mark.parametrize(
    ("cpus", "available", "spare"),
    [
        ([""], 4, [3]),
        (["", ""], 2, [0, 0]),
        (["", ""], 8, [3, 3]),
        (["", "", ""], 4, [0, 0, 0]),  # a third of a processor each
        (["0", "1"], 2, [0, 0]),
        (["0-3", "4-7"], 8, [3, 3]),
        (["0", ""], 4, [0, 1]),
        (["0-1", "0-1"], 4, [0, 0]),
        (["0-63"], 2, [1]),  # more than this machine has
        (["", "", ""], 2, [0, 0, 0]),
    ],
)
def test_processors_beside_the_workers_own_are_counted(
    cpus: list[str], available: int, spare: list[int]
) -> None:
    layout = Layout([Post(number, cpus=parse_cpus(text)) for number, text in enumerate(cpus)])

    assert [layout.spare_processors(number, available) for number in range(len(cpus))] == spare
