"""Routes as they come out of a real name server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from random import Random
from typing import NamedTuple

import pytest

from mta.errors import RouteError
from mta.routing.policy import RoutePolicy, parse_hosts
from mta.routing.resolver import Resolver
from mta.routing.router import ADDRESSES_LIMIT, Router, Target
from mta.sink.nameserver import Nameserver
from mta.sink.zone import Zone
from tests.support.descriptors import no_free_descriptor

pytestmark = pytest.mark.both_loops

# 1.0.0.0/8 and 2a00::/12 are ordinary addresses; nothing here connects to them.
ZONE = """
a.example        MX    10 mx1.a.example
a.example        MX    10 mx2.a.example
a.example        MX    20 backup.a.example
mx1.a.example    A     1.0.0.1
mx1.a.example    AAAA  2a00::1
mx2.a.example    A     1.0.0.2
backup.a.example A     1.0.0.3
nullmx.example   MX    0 .
implicit.example A     1.0.0.4
empty.example    TXT   nothing
broken.example   SERVFAIL
local.example    MX    10 trap.example
local.example    MX    20 lan.example
trap.example     A     127.0.0.1
lan.example      A     10.0.0.1
mixed.example    MX    10 trap.example
mixed.example    MX    20 mx1.a.example
deadend.example  MX    10 gone.example
halfdead.example MX    10 gone.example
halfdead.example MX    20 mx2.a.example
unsure.example   MX    10 gone.example
unsure.example   MX    20 broken.example
self.example     MX    10 mail.us.example
backed.example   MX    10 mx1.a.example
backed.example   MX    20 mail.us.example
backed.example   MX    30 mx2.a.example
mail.us.example  A     1.0.0.9
ournode.example  MX    10 alias-of-us.example
alias-of-us.example A  1.0.0.9
v6only.example   MX    10 six.example
six.example      AAAA  2a00::6
many.example     MX    10 crowd.example
crowd.example    A     1.0.1.1
crowd.example    A     1.0.1.2
crowd.example    A     1.0.1.3
crowd.example    A     1.0.1.4
crowd.example    A     1.0.1.5
crowd.example    A     1.0.1.6
xn--bcher-kva.example MX 10 mx1.a.example
"""


class Key(NamedTuple):
    domain: str
    vmta: str = "v1"


class Time:
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
    async with Nameserver(Zone.from_text(ZONE)) as nameserver:
        yield nameserver


@pytest.fixture
def router(server: Nameserver, clock: Time) -> Router:
    return Router(
        Resolver([server.address], clock=clock, deadline=2.0, try_timeout=0.3),
        clock=clock,
        own_names={"mail.us.example."},
        own_addresses={("1.0.0.9", 25), ("1.0.0.1", 2525)},
        random=Random(7),
    )


def hosts(targets: tuple[Target, ...]) -> list[str]:
    return [target.host for target in targets]


async def refusal(router: Router, domain: str, policy: RoutePolicy | None = None) -> tuple[str, bool]:
    with pytest.raises(RouteError) as caught:
        await router.route(Key(domain), policy or RoutePolicy())
    assert domain.partition(".")[0] in str(caught.value)
    return caught.value.status, caught.value.temporary


async def test_hosts_by_preference_and_in_turns_among_equals(router: Router) -> None:
    orders = {tuple(hosts(await router.route(Key("a.example"), RoutePolicy()))) for _ in range(50)}

    assert orders == {
        ("mx1.a.example", "mx2.a.example", "backup.a.example"),
        ("mx2.a.example", "mx1.a.example", "backup.a.example"),
    }
    targets = await router.route(Key("a.example"), RoutePolicy(port=2626))
    assert targets[-1] == Target("backup.a.example", "1.0.0.3", 2626, 1)


async def test_a_route_is_known_until_its_answers_run_out(
    router: Router, server: Nameserver, clock: Time
) -> None:
    key, policy = Key("a.example"), RoutePolicy()
    assert router.cached(key, policy) is None
    await router.route(key, policy)
    asked = len(server.queries)

    assert set(router.cached(key, policy) or ()) == set(await router.route(key, policy))
    assert len(server.queries) == asked
    assert repr(router) == "<Router 1 routes>"
    clock.current += 300.0
    assert router.cached(key, policy) is None
    await router.route(key, policy)
    assert len(server.queries) > asked
    router.flush()
    assert router.cached(key, policy) is None


async def test_a_domain_without_mx_is_its_own_host(router: Router) -> None:
    policy = RoutePolicy()
    assert await router.route(Key("implicit.example"), policy) == (
        Target("implicit.example", "1.0.0.4", 25, 0),
    )
    strict = RoutePolicy(bounce_upon_no_mx=True)
    assert await refusal(router, "implicit.example", strict) == ("5.4.4", False)


async def test_an_age_for_mail_without_mx_only_matters_where_there_is_none(router: Router) -> None:
    aged = RoutePolicy(no_mx_age=3600.0)
    for domain in ("implicit.example", "a.example"):
        await router.route(Key(domain), aged)

    assert router.no_mx_age(Key("implicit.example"), aged) == 3600.0
    assert router.no_mx_age(Key("a.example"), aged) is None
    assert router.no_mx_age(Key("implicit.example"), RoutePolicy()) is None
    assert router.no_mx_age(Key("never.asked.example"), aged) is None


async def test_a_domain_that_does_not_exist_is_named_once(router: Router) -> None:
    with pytest.raises(RouteError) as caught:
        await router.route(Key("nowhere.example"), RoutePolicy())

    assert str(caught.value) == "nowhere.example does not exist"


async def test_permanent_and_temporary_reasons(router: Router) -> None:
    assert await refusal(router, "nowhere.example") == ("5.1.2", False)
    assert await refusal(router, "nullmx.example") == ("5.1.10", False)
    assert await refusal(router, "empty.example") == ("5.4.4", False)
    assert await refusal(router, "deadend.example") == ("5.4.4", False)
    assert await refusal(router, "broken.example") == ("4.4.3", True)
    assert await refusal(router, "unsure.example") == ("4.4.3", True)


async def test_a_fault_of_our_own_is_not_said_to_be_one_of_the_dns(router: Router) -> None:
    with no_free_descriptor():
        assert await refusal(router, "a.example") == ("4.3.0", True)


async def test_one_host_with_an_address_is_enough(router: Router) -> None:
    assert hosts(await router.route(Key("halfdead.example"), RoutePolicy())) == ["mx2.a.example"]


async def test_local_addresses_are_refused_unless_the_operator_allows_them(router: Router) -> None:
    assert await refusal(router, "local.example") == ("5.4.4", False)
    assert hosts(await router.route(Key("mixed.example"), RoutePolicy())) == ["mx1.a.example"]

    targets = await router.route(Key("local.example"), RoutePolicy(allow_local=True))
    assert [target.ip for target in targets] == ["127.0.0.1", "10.0.0.1"]


async def test_loops_are_refused_by_name_and_by_address(router: Router) -> None:
    assert await refusal(router, "self.example") == ("5.4.6", False)
    assert await refusal(router, "ournode.example") == ("5.4.6", False)
    assert hosts(await router.route(Key("backed.example"), RoutePolicy())) == ["mx1.a.example"]
    other_port = RoutePolicy(port=2626)
    assert hosts(await router.route(Key("ournode.example"), other_port)) == ["alias-of-us.example"]


async def test_explicit_hosts_are_used_as_written(router: Router) -> None:
    levels = parse_hosts("mx1.a.example,[127.0.0.1]:2526;mx2.a.example:26")

    targets = await router.route(Key("whatever.example"), RoutePolicy(levels=levels))

    assert set(targets[:2]) == {
        Target("mx1.a.example", "1.0.0.1", 25, 0),
        Target("127.0.0.1", "127.0.0.1", 2526, 0),
    }
    assert targets[2:] == (Target("mx2.a.example", "1.0.0.2", 26, 1),)


async def test_addresses_alone_need_no_name_server(router: Router, server: Nameserver) -> None:
    policy = RoutePolicy(levels=parse_hosts("[127.0.0.1]:2526"))
    assert await router.route(Key("a.example"), policy) == (Target("127.0.0.1", "127.0.0.1", 2526, 0),)
    assert server.queries == []


async def test_the_mx_of_another_domain(router: Router) -> None:
    policy = RoutePolicy(levels=parse_hosts("lookup-mx:a.example:2626;mx1.a.example"))

    targets = await router.route(Key("b.example"), policy)

    assert sorted(hosts(targets)[:2]) == ["mx1.a.example", "mx2.a.example"]
    assert [(target.host, target.port) for target in targets[2:]] == [
        ("backup.a.example", 2626),
        ("mx1.a.example", 25),
    ]
    with pytest.raises(RouteError, match="nowhere"):
        await router.route(Key("b.example"), RoutePolicy(levels=parse_hosts("lookup-mx:nowhere.example")))


async def test_an_explicit_route_to_ourselves_is_a_loop(router: Router) -> None:
    policy = RoutePolicy(levels=parse_hosts("[1.0.0.1]:2525"))
    assert await refusal(router, "a.example", policy) == ("5.4.6", False)


async def test_explicit_hosts_that_are_nowhere(router: Router) -> None:
    policy = RoutePolicy(levels=parse_hosts("gone.example"))
    assert await refusal(router, "a.example", policy) == ("5.4.4", False)


async def test_address_literals(router: Router) -> None:
    assert await router.route(Key("[1.0.0.7]"), RoutePolicy()) == (Target("[1.0.0.7]", "1.0.0.7", 25, 0),)
    (target,) = await router.route(Key("[IPv6:2a00::7]"), RoutePolicy())
    assert (target.ip, target.is_ipv6) == ("2a00::7", True)
    assert await refusal(router, "[127.0.0.1]") == ("5.4.4", False)
    assert await refusal(router, "[nonsense]") == ("5.1.2", False)
    assert await refusal(router, "[1.0.0.9]") == ("5.4.6", False)


async def test_ipv6_only_where_there_is_a_source_for_it(router: Router) -> None:
    assert await refusal(router, "v6only.example") == ("4.4.4", True)
    with pytest.raises(RouteError, match="only IPv6 addresses, and no source address is one"):
        await router.route(Key("v6only.example"), RoutePolicy())
    targets = await router.route(Key("v6only.example"), RoutePolicy(use_ipv6=True))
    assert targets == (Target("six.example", "2a00::6", 25, 0),)
    both = await router.route(Key("backed.example"), RoutePolicy(use_ipv6=True))
    assert [target.ip for target in both] == ["2a00::1", "1.0.0.1"]


async def test_a_crowd_of_addresses_is_cut(router: Router) -> None:
    assert len(await router.route(Key("many.example"), RoutePolicy())) == ADDRESSES_LIMIT


async def test_international_names_go_as_ace(router: Router) -> None:
    assert hosts(await router.route(Key("xn--bcher-kva.example"), RoutePolicy())) == ["mx1.a.example"]
