"""The resolver against a real name server on this machine, honest and otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from mta.routing.resolver import MxRecord, Resolver, Status, system_nameservers
from mta.sink.nameserver import Nameserver
from mta.sink.zone import Zone
from tests.support.descriptors import no_free_descriptor
from tests.support.liar import Liar

pytestmark = pytest.mark.both_loops

ZONE = """
a.example        MX     10 mx1.a.example
a.example        MX     20 MX2.a.example
mx1.a.example 30 A      192.0.2.1
mx1.a.example    A      192.0.2.2
mx1.a.example    AAAA   2001:db8::1
six.example      AAAA   2001:db8::6
brief.example 0  A      192.0.2.9
alias.example    CNAME  a.example
far.example      CNAME  alias.example
loop1.example    CNAME  loop2.example
loop2.example    CNAME  loop1.example
null.example     MX     0 .
broken.example   SERVFAIL
refused.example  REFUSED
silent.example   TIMEOUT
big.example      TRUNCATE
big.example      MX     10 mx1.a.example
"""


class Time:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.current = 1_700_000_000.0

    def now(self) -> float:
        return self.current

    def wall(self) -> float:
        return self.current


@pytest.fixture
def clock() -> Time:
    return Time()


@pytest.fixture
async def server() -> AsyncIterator[Nameserver]:
    nameserver = Nameserver(Zone.from_text(ZONE), negative_ttl=60)
    await nameserver.start()
    yield nameserver
    nameserver.close()


def resolver_for(*servers: tuple[str, int], clock: Time, **options: float) -> Resolver:
    return Resolver(servers, clock=clock, deadline=2.0, try_timeout=0.2, **options)  # type: ignore[arg-type]


async def test_mx_and_addresses(server: Nameserver, clock: Time) -> None:
    resolver = resolver_for(server.address, clock=clock)

    mx = await resolver.mx("A.example.")
    addresses = await resolver.addresses("mx1.a.example")

    assert set(mx.mx) == {MxRecord(10, "mx1.a.example"), MxRecord(20, "mx2.a.example")}
    assert set(addresses.addresses) == {"192.0.2.1", "192.0.2.2"}
    assert (await resolver.mx("null.example")).mx == (MxRecord(0, "."),)


async def test_both_families_when_asked(server: Nameserver, clock: Time) -> None:
    resolver = resolver_for(server.address, clock=clock)

    both = await resolver.addresses("mx1.a.example", ipv6=True)
    six = await resolver.addresses("six.example", ipv6=True)

    assert both.addresses[0] == "2001:db8::1"
    assert len(both.addresses) == 3
    assert six.addresses == ("2001:db8::6",)
    assert (await resolver.addresses("six.example")).status is Status.NO_DATA
    assert (await resolver.addresses("gone.example", ipv6=True)).status is Status.NO_NAME
    assert (await resolver.addresses("broken.example", ipv6=True)).status is Status.FAILED


async def test_aliases_are_followed_and_loops_are_not(server: Nameserver, clock: Time) -> None:
    resolver = resolver_for(server.address, clock=clock)

    assert set((await resolver.mx("far.example")).mx) == set((await resolver.mx("a.example")).mx)
    looped = await resolver.mx("loop1.example")

    assert looped.status is Status.FAILED


async def test_what_is_not_there(server: Nameserver, clock: Time) -> None:
    resolver = resolver_for(server.address, clock=clock)

    assert (await resolver.mx("gone.example")).status is Status.NO_NAME
    assert (await resolver.mx("mx1.a.example")).status is Status.NO_DATA
    assert "gone.example" in (await resolver.mx("gone.example")).text


@pytest.mark.parametrize("name", ["broken.example", "refused.example", "silent.example"])
async def test_failures_are_failures_and_not_absences(server: Nameserver, clock: Time, name: str) -> None:
    answer = await resolver_for(server.address, clock=clock).mx(name)
    assert answer.status is Status.FAILED
    assert answer.text


async def test_a_cut_answer_is_asked_for_again_over_tcp(server: Nameserver, clock: Time) -> None:
    answer = await resolver_for(server.address, clock=clock).mx("big.example")

    assert answer.mx == (MxRecord(10, "mx1.a.example"),)
    assert [query.transport for query in server.queries] == ["udp", "tcp"]


async def test_a_thousand_who_want_one_name_send_one_question(server: Nameserver, clock: Time) -> None:
    # Time enough for one try, also while a thousand tasks are begun on a busy machine.
    resolver = Resolver([server.address], clock=clock, deadline=20.0, try_timeout=20.0)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(resolver.mx("a.example")) for _ in range(1000)]

    assert {task.result() for task in tasks} == {await resolver.mx("a.example")}
    assert len(server.queries) == 1
    assert (resolver.stats.misses, resolver.stats.shared, resolver.stats.hits) == (1, 999, 1)


async def test_when_the_one_who_asked_gives_up_the_others_still_get_their_answer(
    server: Nameserver, clock: Time
) -> None:
    server.delay = 0.05
    resolver = resolver_for(server.address, clock=clock)
    first = asyncio.create_task(resolver.mx("a.example"))
    await asyncio.sleep(0)
    others = [asyncio.create_task(resolver.mx("a.example")) for _ in range(5)]
    await asyncio.sleep(0)

    first.cancel()
    others[0].cancel()
    results = [await other for other in others[1:]]

    assert {result.status for result in results} == {Status.FOUND}
    assert first.cancelled() or first.done()
    assert not resolver._in_flight


async def test_answers_live_as_long_as_their_ttl(server: Nameserver, clock: Time) -> None:
    resolver = resolver_for(server.address, clock=clock)
    await resolver.addresses("mx1.a.example")
    clock.current += 29.0
    await resolver.addresses("mx1.a.example")
    assert len(server.queries) == 1

    clock.current += 1.0
    await resolver.addresses("mx1.a.example")
    assert len(server.queries) == 2


async def test_a_ttl_of_nothing_still_holds_for_a_moment(server: Nameserver, clock: Time) -> None:
    resolver = resolver_for(server.address, clock=clock)
    await resolver.addresses("brief.example")
    clock.current += 4.0
    await resolver.addresses("brief.example")
    assert len(server.queries) == 1


@pytest.mark.parametrize(("name", "holds"), [("gone.example", 60.0), ("broken.example", 10.0)])
async def test_absence_and_failure_are_remembered_for_a_while(
    server: Nameserver, clock: Time, name: str, holds: float
) -> None:
    resolver = resolver_for(server.address, clock=clock)
    await resolver.mx(name)
    asked = len(server.queries)
    clock.current += holds - 1.0
    await resolver.mx(name)
    assert len(server.queries) == asked

    clock.current += 1.0
    await resolver.mx(name)
    assert len(server.queries) > asked


async def test_an_old_answer_is_better_than_none(server: Nameserver, clock: Time) -> None:
    resolver = resolver_for(server.address, clock=clock)
    known = await resolver.mx("a.example")
    server.zone = Zone.from_text("a.example SERVFAIL")

    clock.current += 3600.0
    stale = await resolver.mx("a.example")
    assert (stale.status, stale.mx) == (Status.FOUND, known.mx)
    assert resolver.stats.stale == 1

    clock.current += 86400.0
    assert (await resolver.mx("a.example")).status is Status.FAILED


async def test_the_cache_is_bounded(server: Nameserver, clock: Time) -> None:
    resolver = Resolver([server.address], clock=clock, cache_limit=10)
    for number in range(30):
        await resolver.mx(f"n{number}.example")
    assert len(resolver) == 10
    resolver.flush()
    assert len(resolver) == 0


async def test_names_that_fit_into_no_packet_are_no_names(server: Nameserver, clock: Time) -> None:
    resolver = resolver_for(server.address, clock=clock)
    for name in ("a" * 64 + ".example", ".".join(["abcdefg"] * 40), "a..example", "\udcff.example"):
        assert (await resolver.mx(name)).status is Status.NO_NAME
    assert server.queries == []


# -- several servers ------------------------------------------------------------------------------------


async def test_servers_take_turns(clock: Time) -> None:
    async with Nameserver(Zone.from_text(ZONE)) as one, Nameserver(Zone.from_text(ZONE)) as two:
        resolver = resolver_for(one.address, two.address, clock=clock)
        for number in range(10):
            await resolver.mx(f"n{number}.example")
        assert len(one.queries) == len(two.queries) == 5


async def test_a_dead_server_is_left_alone_for_a_while(server: Nameserver, clock: Time) -> None:
    async with Nameserver(Zone.from_text("*.example TIMEOUT")) as dead:
        resolver = resolver_for(dead.address, server.address, clock=clock)
        for number in range(10):
            assert (await resolver.mx(f"n{number}.example")).status is Status.NO_NAME
        assert len(dead.queries) == 1

        clock.current += 60.0
        for number in range(10, 14):
            await resolver.mx(f"n{number}.example")
        assert len(dead.queries) == 2


async def test_a_server_that_is_not_there_is_skipped_at_once(server: Nameserver, clock: Time) -> None:
    async with Nameserver(Zone.from_text(ZONE)) as gone:
        address = gone.address
    resolver = resolver_for(address, server.address, clock=clock)
    for number in range(3):
        assert (await resolver.mx(f"n{number}.example")).status is Status.NO_NAME


async def test_everything_ends_at_the_deadline(clock: Time) -> None:
    async with Nameserver(Zone.from_text("*.example TIMEOUT")) as one:
        resolver = Resolver([one.address], clock=clock, deadline=0.2, try_timeout=10.0)
        async with asyncio.timeout(2.0):
            answer = await resolver.mx("n.example")
    assert (answer.status, answer.text) == (Status.FAILED, "no name server answers in time")


async def test_our_own_want_of_descriptors_is_soon_forgotten_and_blames_no_server(
    server: Nameserver, clock: Time
) -> None:
    resolver = resolver_for(server.address, clock=clock)
    with no_free_descriptor():
        answer = await resolver.mx("a.example")
    assert (answer.status, answer.is_local) == (Status.FAILED, True)
    assert resolver._resting == {}

    clock.current += 2.0
    assert (await resolver.mx("a.example")).status is Status.FOUND


# -- lies -----------------------------------------------------------------------------------------------


def with_another_id(query: dns.message.Message, answer: dns.message.Message) -> list[bytes]:
    answer.id = query.id ^ 1
    return [answer.to_wire()]


def with_another_question(query: dns.message.Message, answer: dns.message.Message) -> list[bytes]:
    other = dns.message.make_query("other.example", "MX", id=query.id)
    return [dns.message.make_response(other).to_wire()]


def with_garbage(query: dns.message.Message, answer: dns.message.Message) -> list[bytes]:
    return [b"", b"x", query.id.to_bytes(2, "big") + b"\xf5" * 40, answer.to_wire()[:20]]


def with_the_question_itself(query: dns.message.Message, answer: dns.message.Message) -> list[bytes]:
    return [query.to_wire()]


LIES = [with_another_id, with_another_question, with_garbage, with_the_question_itself]


@pytest.mark.parametrize("lie", LIES)
async def test_lies_alone_end_in_a_failure(lie: Callable[..., list[bytes]], clock: Time) -> None:
    async with Liar(lie) as liar:
        answer = await resolver_for(liar.address, clock=clock).mx("a.example")
    assert answer.status is Status.FAILED


@pytest.mark.parametrize("lie", LIES)
async def test_the_truth_behind_a_lie_is_heard(lie: Callable[..., list[bytes]], clock: Time) -> None:
    def lie_then_answer(query: dns.message.Message, answer: dns.message.Message) -> list[bytes]:
        truth = answer.to_wire()
        return [*lie(query, answer), truth]

    async with Liar(lie_then_answer) as liar:
        answer = await resolver_for(liar.address, clock=clock).mx("a.example")
    assert answer.mx == (MxRecord(10, "mx.liar.example"),)


async def test_records_of_other_names_are_not_believed(clock: Time) -> None:
    def poison(query: dns.message.Message, answer: dns.message.Message) -> list[bytes]:
        answer.answer.insert(0, dns.rrset.from_text("bank.example.", 300, "IN", "MX", "1 evil.example."))
        answer.additional.append(dns.rrset.from_text("bank.example.", 300, "IN", "A", "192.0.2.66"))
        return [answer.to_wire()]

    async with Liar(poison) as liar:
        resolver = resolver_for(liar.address, clock=clock)
        assert (await resolver.mx("a.example")).mx == (MxRecord(10, "mx.liar.example"),)
        assert resolver.cached(("bank.example", 15)) is None  # type: ignore[arg-type]


async def test_a_server_from_before_edns_is_asked_without_it(clock: Time) -> None:
    def old(query: dns.message.Message, answer: dns.message.Message) -> list[bytes]:
        if query.edns >= 0:
            answer.answer.clear()
            answer.use_edns(False)
            answer.set_rcode(dns.rcode.FORMERR)
        return [answer.to_wire()]

    async with Liar(old) as liar:
        assert (await resolver_for(liar.address, clock=clock).mx("a.example")).status is Status.FOUND


async def test_an_answer_cut_in_the_middle_of_a_record_is_asked_for_over_tcp(clock: Time) -> None:
    def cut(query: dns.message.Message, answer: dns.message.Message) -> list[bytes]:
        answer.flags |= dns.flags.TC
        return [answer.to_wire()[:-4]]

    async with Liar(cut) as liar:
        answer = await resolver_for(liar.address, clock=clock).mx("a.example")
    assert answer.status is Status.FAILED, "nobody listens on TCP there"


# -- the machine's name servers -------------------------------------------------------------------------


async def test_the_machines_name_servers(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    assert system_nameservers(path) == (("127.0.0.1", 53),)

    path.write_text("# c\nsearch example\nnameserver 192.0.2.1\nnameserver\nnameserver 2001:db8::1 # x\n")

    assert system_nameservers(path) == (("192.0.2.1", 53), ("2001:db8::1", 53))


async def test_a_resolver_without_servers_is_refused(clock: Time) -> None:
    with pytest.raises(ValueError, match="needs a name server"):
        Resolver([], clock=clock)
