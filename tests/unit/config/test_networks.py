"""Networks as operators write them."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.config.networks import EVERYTHING, NetworkTable, parse_address, parse_network


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("10/8", "10.0.0.0/8"),
        ("192.168/16", "192.168.0.0/16"),
        ("10.1.2.3/24", "10.1.2.0/24"),
        ("127.0.0.1", "127.0.0.1/32"),
        ("::1", "::1/128"),
        ("fd00::/8", "fd00::/8"),
        ("[10.0.0.0/8]", "10.0.0.0/8"),
    ],
)
def test_short_and_long_forms_are_the_same_network(text: str, network: str) -> None:
    assert parse_network(text) == (ipaddress.ip_network(network),)


@pytest.mark.parametrize("text", ["0/0", "*"])
def test_everything_includes_ipv6(text: str) -> None:
    assert parse_network(text) == EVERYTHING


@pytest.mark.parametrize("text", ["", "10.0.0.0/33", "10", "a.b.c.d", "1.2.3.4.5", "10.0.0.1-5"])
def test_other_texts_are_no_networks(text: str) -> None:
    with pytest.raises(ValueError):
        parse_network(text)


def test_a_client_on_a_dual_stack_socket_is_known_by_its_ipv4_address() -> None:
    assert str(parse_address("::ffff:192.0.2.1")) == "192.0.2.1"


ADDRESS = st.one_of(st.ip_addresses(), st.integers(0, 2**12).map(ipaddress.IPv4Address))


@given(st.lists(st.tuples(ADDRESS, st.integers(0, 128)), max_size=20), ADDRESS)
def test_the_table_finds_all_networks_of_an_address_shortest_prefix_first(
    entries: list[tuple[ipaddress.IPv4Address, int]], address: ipaddress.IPv4Address
) -> None:
    networks = [
        ipaddress.ip_network((base, min(length, base.max_prefixlen)), strict=False)
        for base, length in entries
    ]
    found = NetworkTable((network, network) for network in networks).matching(address)

    expected = [network for network in networks if network.version == address.version and address in network]
    assert sorted(map(str, found)) == sorted(map(str, expected))
    assert [network.prefixlen for network in found] == sorted(network.prefixlen for network in found)
