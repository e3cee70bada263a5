from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.config.load import load_text
from mta.routing.policy import HostRoute, RoutePolicy, parse_hosts


@pytest.mark.parametrize(
    ("text", "levels"),
    [
        ("", ()),
        ("mx.example", ((HostRoute("mx.example"),),)),
        ("MX.Example.", ((HostRoute("mx.example"),),)),
        ("a.example:2525", ((HostRoute("a.example", 2525),),)),
        ("a.example, b; c", ((HostRoute("a.example"), HostRoute("b")), (HostRoute("c"),))),
        ("[192.0.2.1]:26", ((HostRoute("192.0.2.1", 26),),)),
        ("[IPv6:2001:DB8::1]:26", ((HostRoute("2001:db8::1", 26),),)),
        ("[2001:db8::1]", ((HostRoute("2001:db8::1"),),)),
        ("2001:db8::1", ((HostRoute("2001:db8::1"),),)),
        ("192.0.2.1:26", ((HostRoute("192.0.2.1", 26),),)),
        ("lookup-mx:example.com", ((HostRoute("example.com", 0, is_domain=True),),)),
        ("Lookup-MX:example.com:26;x", ((HostRoute("example.com", 26, is_domain=True),), (HostRoute("x"),))),
        ("bücher.example", ((HostRoute("xn--bcher-kva.example"),),)),
        ('"a.example;;b.example"', ((HostRoute("a.example"),), (HostRoute("b.example"),))),
    ],
)  # fmt: skip
def test_host_lists(text: str, levels: tuple[tuple[HostRoute, ...], ...]) -> None:
    assert parse_hosts(text) == levels


@pytest.mark.parametrize(
    "text",
    ["a:0", "a:65536", "a:x", "[192.0.2.1", "[192.0.2.1]26", "[nonsense]", "lookup-mx:", ":25", "1:2:x"],
)
def test_lists_that_cannot_be_read_are_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_hosts(text)


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        levels = parse_hosts(text)
    except ValueError:
        return
    assert all(host.host for level in levels for host in level)


def policy(text: str, *source_ips: str) -> RoutePolicy:
    loaded = load_text(text)
    assert loaded.snapshot is not None, loaded.problems
    return RoutePolicy.from_settings(loaded.snapshot.effective("a.example", "{default}"), source_ips)


def test_defaults() -> None:
    assert policy("") == RoutePolicy()


def test_settings_of_a_domain() -> None:
    found = policy(
        """
        <domain a.example>
            route [127.0.0.1]:2526
            default-smtp-port 2525
            allow-loopback-mx yes
            bounce-upon-no-mx yes
        </domain>
        """,
        "192.0.2.1",
        "2001:db8::1",
    )
    assert found == RoutePolicy(
        levels=((HostRoute("127.0.0.1", 2526),),),
        port=2525,
        allow_local=True,
        use_ipv6=True,
        bounce_upon_no_mx=True,
    )


def test_an_age_for_domains_without_mx_does_not_bounce_at_once() -> None:
    aged = policy("<domain a.example>\nbounce-upon-no-mx 2h\n</domain>")
    assert not aged.bounce_upon_no_mx
    assert aged.no_mx_age == 7200.0
