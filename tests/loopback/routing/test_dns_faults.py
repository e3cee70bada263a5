"""What other people's DNS does to us: where mail goes then, or why it does not, for good or for now.

A row is a zone and what becomes of a message for x.example: the hosts that are tried, or the status with `T`
(tried again later) or `B` (returned). Letters and numbers are those of the project's catalogue of abuse.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from random import Random
from typing import NamedTuple

import dns.message
import dns.rrset
import pytest

from mta.clock import SystemClock
from mta.errors import RouteError
from mta.routing.policy import RoutePolicy
from mta.routing.resolver import Resolver, Status
from mta.routing.router import Router
from mta.sink.nameserver import Nameserver
from mta.sink.zone import Zone
from tests.support.liar import Liar

pytestmark = pytest.mark.both_loops


class Key(NamedTuple):
    domain: str
    vmta: str = "v1"


class Row(NamedTuple):
    case: str
    name: str
    zone: str
    expected: str
    policy: RoutePolicy = RoutePolicy()
    domain: str = "x.example"


def local(address: str) -> str:
    kind = "AAAA" if ":" in address else "A"
    return f"x.example MX 10 mx.x.example\nmx.x.example {kind} {address}\n"


V6 = RoutePolicy(use_ipv6=True)
CHAIN = "\n".join(f"c{n}.example CNAME c{n + 1}.example" for n in range(12))

CROWD = "\n".join(
    f"x.example MX 10 h{n}.example\nh{n}.example A 1.1.{n // 250}.{n % 250 + 1}" for n in range(300)
)
ROWS = [
    Row("D1", "no such domain", "y.example A 1.0.0.1", "B"),
    Row("D1", "server failure", "x.example SERVFAIL", "T"),
    Row("D1", "refused", "x.example REFUSED", "T"),
    Row("D1", "no answer", "x.example TIMEOUT", "T"),
    Row("D1", "nothing of use", "x.example TXT hello", "B"),
    Row("D1", "host: no such name", "x.example MX 10 gone.example", "B"),
    Row("D1", "host: server failure", "x.example MX 10 mx.example\nmx.example SERVFAIL", "T"),
    Row("D1", "host: no answer", "x.example MX 10 mx.example\nmx.example TIMEOUT", "T"),
    Row(
        "D1",
        "one host fails, one is there",
        "x.example MX 10 a.example\na.example SERVFAIL\nx.example MX 20 b.example\nb.example A 1.0.0.2",
        "b.example",
    ),
    Row(
        "D1",
        "one host fails, one is gone",
        "x.example MX 10 a.example\na.example SERVFAIL\nx.example MX 20 b.example",
        "T",
    ),
    Row("D2", "null MX", "x.example MX 0 .", "B 5.1.10"),
    Row("D2", "null MX beside an address", "x.example MX 0 .\nx.example A 1.0.0.1", "B 5.1.10"),
    Row(
        "D2",
        "null MX beside a host",
        "x.example MX 0 .\nx.example MX 10 mx.example\nmx.example A 1.0.0.1",
        "mx.example",
    ),
    Row("D3", "address without MX", "x.example A 1.0.0.1", "x.example"),
    Row(
        "D3",
        "MX at an alias",
        "x.example MX 10 a.example\na.example CNAME b.example\nb.example A 1.0.0.1",
        "a.example",
    ),
    Row(
        "D3",
        "domain is an alias",
        "x.example CNAME y.example\ny.example MX 10 mx.example\nmx.example A 1.0.0.1",
        "mx.example",
    ),
    Row("D3", "alias of itself", "x.example CNAME x.example", "T"),
    Row("D3", "aliases in a ring", "x.example CNAME y.example\ny.example CNAME x.example", "T"),
    Row(
        "D3",
        "a dozen aliases in one answer",
        "x.example CNAME c0.example\n" + CHAIN + "\nc12.example MX 1 mx.example\nmx.example A 1.0.0.1",
        "mx.example",
    ),
    Row("D3", "alias of nothing", "x.example CNAME gone.example", "B"),
    Row("D3", "MX at an alias of nothing", "x.example MX 10 a.example\na.example CNAME gone.example", "B"),
    Row("D3", "MX written as an address", "x.example MX 10 1.0.0.1", "B"),
    Row(
        "D3",
        "MX written as an address beside a host",
        "x.example MX 10 1.0.0.1\nx.example MX 20 b.example\nb.example A 1.0.0.2",
        "b.example",
    ),
    Row("D3", "MX at the domain itself", "x.example MX 10 x.example\nx.example A 1.0.0.1", "x.example"),
    *(
        Row("D4", f"MX at {address}", local(address), "B 5.4.4", V6 if ":" in address else RoutePolicy())
        for address in (
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "100.64.0.1",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
        )
    ),
    Row(
        "D4",
        "one forbidden, one good",
        local("127.0.0.1") + "x.example MX 20 b.example\nb.example A 1.0.0.2",
        "b.example",
    ),
    Row("D4", "MX at our own address", local("1.0.0.9"), "B 5.4.6"),
    Row("D4", "MX at our own name", "x.example MX 10 mail.us.example\nmail.us.example A 1.0.0.8", "B 5.4.6"),
    Row(
        "D4",
        "we are the backup",
        "x.example MX 10 a.example\na.example A 1.0.0.1\nx.example MX 20 mail.us.example",
        "a.example",
    ),
    Row("D4", "a literal that is forbidden", "", "B 5.4.4", domain="[127.0.0.1]"),
    Row("D5", "a thousand hosts", CROWD, "#20"),
    Row(
        "D5",
        "a hundred addresses",
        "x.example MX 10 mx.example\n" + "\n".join(f"mx.example A 1.0.0.{n}" for n in range(10, 110)),
        "#5",
    ),
    Row(
        "D6",
        "IPv6 alone for an IPv4 source",
        "x.example MX 10 six.example\nsix.example AAAA 2a00::6",
        "T 4.4.4",
    ),
    Row("D6", "IPv6 alone, and no MX, for an IPv4 source", "x.example AAAA 2a00::6", "T 4.4.4"),
    Row(
        "D6",
        "a forbidden IPv6 address alone",
        "x.example MX 10 six.example\nsix.example AAAA ::1",
        "B 5.4.4",
    ),
    Row(
        "D6",
        "IPv6 alone first, then both",
        "x.example MX 10 six.example\nsix.example AAAA 2a00::6\nx.example MX 20 four.example\n"
        "four.example A 1.0.0.4\nfour.example AAAA 2a00::4",
        "four.example",
    ),
    Row(
        "D6",
        "IPv6 alone for an IPv6 source",
        "x.example MX 10 six.example\nsix.example AAAA 2a00::6",
        "six.example",
        V6,
    ),
    Row("D7", "name of 255 octets", "", "B", domain=".".join(["a" * 63] * 4)),
    Row("D7", "label of 64 octets", "", "B", domain="a" * 64 + ".example"),
    Row("D7", "TTL of nothing", "x.example 0 MX 10 mx.example\nmx.example 0 A 1.0.0.1", "mx.example"),
    Row(
        "D7",
        "cut answer",
        "x.example TRUNCATE\nx.example MX 10 mx.example\nmx.example A 1.0.0.1",
        "mx.example",
    ),
    Row(
        "D7",
        "trailing dot",
        "x.example MX 10 mx.example\nmx.example A 1.0.0.1",
        "mx.example",
        domain="x.example.",
    ),
    Row(
        "D7",
        "punycode",
        "xn--bcher-kva.example MX 10 mx.example\nmx.example A 1.0.0.1",
        "mx.example",
        domain="xn--bcher-kva.example",
    ),
]


async def outcome(row: Row, server: Nameserver) -> str:
    clock = SystemClock()
    router = Router(
        Resolver([server.address], clock=clock, deadline=3.0, try_timeout=0.5),
        clock=clock,
        own_names={"mail.us.example"},
        own_addresses={("1.0.0.9", 25)},
        random=Random(7),
    )
    try:
        targets = await router.route(Key(row.domain), row.policy)
    except RouteError as error:
        kind = "T" if error.temporary else "B"
        return f"{kind} {error.status}" if " " in row.expected else kind
    if row.expected.startswith("#"):
        return f"#{len(targets)}"
    return " ".join(dict.fromkeys(target.host for target in targets))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.case} {row.name}")
async def test_dns_fault(row: Row) -> None:
    async with Nameserver(Zone.from_text(row.zone)) as server:
        assert await outcome(row, server) == row.expected


#: Packets of a server that answers any question, and what the resolver makes of them.
LIES = {
    "empty": (lambda query, answer: [b""], Status.FAILED),
    "one octet": (lambda query, answer: [b"\0"], Status.FAILED),
    "half a header": (lambda query, answer: [answer.to_wire()[:7]], Status.FAILED),
    "a header alone": (lambda query, answer: [answer.to_wire()[:12]], Status.FAILED),
    "the question again": (lambda query, answer: [query.to_wire()], Status.FAILED),
    "another number": (lambda query, answer: [b"\xff\xff" + answer.to_wire()[2:]], None),
    "65,000 octets": (lambda query, answer: [answer.to_wire() + bytes(60_000)], Status.FOUND),
    "rubbish behind": (lambda query, answer: [answer.to_wire() + b"\xc0\x0c" * 50], Status.FOUND),
    "pointer to itself": (
        lambda query, answer: [answer.to_wire()[:12] + b"\xc0\x0c\0\x0f\0\x01"],
        Status.FAILED,
    ),
    "a thousand copies": (lambda query, answer: [answer.to_wire()] * 1000, Status.FOUND),
    "a hundred forgeries first": (
        lambda query, answer: [bytes([n, n]) + answer.to_wire()[2:] for n in range(100)] + [answer.to_wire()],
        Status.FOUND,
    ),
    "a record of another name": (lambda query, answer: [other_name(query)], Status.NO_DATA),
}


def other_name(query: dns.message.Message) -> bytes:
    answer = dns.message.make_response(query)
    answer.answer.append(dns.rrset.from_text("evil.example.", 300, "IN", "MX", "10 evil.example."))
    return answer.to_wire()


@pytest.mark.parametrize("name", LIES)
async def test_packets_that_lie(name: str) -> None:
    lie, status = LIES[name]
    async with Liar(lie) as liar:
        resolver = Resolver([liar.address], clock=SystemClock(), deadline=1.5, try_timeout=0.4)
        answer = await resolver.mx("x.example")

    assert answer.status is (status or Status.FAILED)
    assert not any("evil" in record.host for record in answer.mx)


class StillClock:
    def __init__(self) -> None:
        self.current = 1_700_000_000.0

    def now(self) -> float:
        return self.current

    wall = now


@pytest.fixture
async def silent() -> AsyncIterator[Nameserver]:
    async with Nameserver(Zone.from_text("x.example SERVFAIL")) as server:
        yield server


async def test_a_dead_resolver_is_not_asked_again_and_again(silent: Nameserver) -> None:
    """D8: a thousand queues that want a route cost one question each time the failure is forgotten."""
    clock = StillClock()
    resolver = Resolver([silent.address], clock=clock, deadline=2.0, try_timeout=0.3)

    for _ in range(10):
        async with asyncio.TaskGroup() as company:
            asked = [company.create_task(resolver.mx("x.example")) for _ in range(100)]
        assert {task.result().status for task in asked} == {Status.FAILED}
    questions = resolver.stats.questions
    clock.current += 3600
    await resolver.mx("x.example")

    assert questions <= 4
    assert resolver.stats.questions <= 2 * questions
