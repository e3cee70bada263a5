"""Lines about HAProxy servers (`<proxy>`, use-proxy, smtp-proxy-source-host) to their values."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from mta.config.draft import Draft
from mta.config.kinds import Scope
from mta.config.networks import parse_address, parse_network
from mta.config.problems import Problems
from mta.config.proxy import Proxy
from mta.config.quoting import split_words
from mta.config.settings import Layer
from mta.config.values import HostPort, parse_host_port

__all__ = ["named_proxies", "proxy_source", "used_proxies"]


def named_proxies(draft: Draft, problems: Problems) -> Mapping[str, Proxy]:
    """Every `<proxy>` by name; one without server or client is left out."""
    found = {}
    for block in draft.of(Scope.PROXY):
        layer = block.layer
        server, client, version = (layer.get(name) for name in ("server", "client", "protocol-version"))
        if server is None or client is None:
            lacking = "server HOST:PORT" if server is None else "client IP NAME"
            problems.warning(block.origin, f"<proxy {block.argument}> can't be used without {lacking}")
            continue
        words = [str(word) for word in client.value]
        try:
            if len(words) != 2:
                raise ValueError("client needs an address and a name: client 192.0.2.1 out.example.com")
            address = _client(words[0])
            number = int(version.value) if version is not None else 1
            found[block.argument] = Proxy(*_server(server.value), *address, words[1], number)
        except ValueError as error:
            problems.error(client.lines[-1].origin, f"<proxy {block.argument}>: {error}")
    return MappingProxyType(found)


def proxy_source(text: str, version: int) -> Proxy:
    """`LOCAL-IP PROXY:PORT CLIENT-IP[:PORT] NAME`; ValueError for the operator.

    A range of local addresses leaves the choice to the system.
    """
    words = split_words(text)
    if len(words) != 4:
        raise ValueError(f"{text!r} is not LOCAL-IP PROXY:PORT CLIENT-IP NAME")
    local = ""
    if "/" not in words[0]:
        local = str(parse_address(words[0]))
    elif parse_network(words[0])[0].num_addresses == 1:
        local = str(parse_network(words[0])[0].network_address)
    return Proxy(*_server(parse_host_port(words[1])), *_client(words[2]), words[3], version, local)


def used_proxies(layer: Layer, known: Mapping[str, Proxy], problems: Problems) -> tuple[Proxy, ...]:
    """What `use-proxy` names, in order; unknown names are reported."""
    setting = layer.get("use-proxy")
    if setting is None:
        return ()
    names = setting.value
    for name in names:
        if name not in known:
            problems.error(setting.lines[-1].origin, f"use-proxy: there is no <proxy {name}>")
    return tuple(known[name] for name in names if name in known)


def _server(address: HostPort) -> HostPort:
    if not address.port:
        raise ValueError(f"the proxy {address.host} needs a port: {address.host}:PORT")
    return address


def _client(text: str) -> tuple[str, int]:
    host, port = parse_host_port(text)
    return str(parse_address(host)), port
