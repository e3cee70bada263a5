"""The head of a connection that goes through an HAProxy server (its PROXY protocol, versions 1 and 2).

The proxy is told from which of its addresses, and where to, it shall connect; everything behind that is the
SMTP dialogue with the receiver.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import struct
from collections.abc import Sequence
from typing import Any

from mta.config.proxy import Proxy
from mta.delivery.greeter import source_socket

__all__ = ["addresses_of", "connect_to_any", "proxy_header"]

_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_VERSION_2_PROXY = 0x21
_TCP4, _TCP6 = 0x11, 0x21


def proxy_header(proxy: Proxy, ip: str, port: int) -> bytes:
    """What to send first for a connection from the proxy's address to `ip:port`, both of one family.

    >>> proxy_header(Proxy("10.0.0.1", 80, "192.0.2.1", 0, "x"), "192.0.2.9", 25)
    b'PROXY TCP4 192.0.2.1 192.0.2.9 0 25\\r\\n'
    """
    source, destination = ipaddress.ip_address(proxy.client_ip), ipaddress.ip_address(ip)
    if source.version != destination.version:
        raise ValueError(f"{source} can't connect to {destination}")
    if proxy.version == 1:
        family = f"TCP{source.version}"
        return f"PROXY {family} {source} {destination} {proxy.client_port} {port}\r\n".encode("ascii")
    family_code = _TCP4 if source.version == 4 else _TCP6
    addresses = source.packed + destination.packed + struct.pack("!HH", proxy.client_port, port)
    return _SIGNATURE + struct.pack("!BBH", _VERSION_2_PROXY, family_code, len(addresses)) + addresses


async def addresses_of(proxy: Proxy, loop: asyncio.AbstractEventLoop) -> list[tuple[int, Any]]:
    """Family and address of all its addresses that can be reached from `proxy.local_ip`; never none.

    Raises OSError. A name may have addresses of both families: `localhost` has on most machines.
    """
    family = socket.AF_UNSPEC
    if proxy.local_ip:
        family = socket.AF_INET6 if ":" in proxy.local_ip else socket.AF_INET
    found = await loop.getaddrinfo(proxy.host, proxy.port, family=family, type=socket.SOCK_STREAM)
    return [(family, address) for family, _, _, _, address in found]


async def connect_to_any(
    addresses: Sequence[tuple[int, Any]], local_ip: str, loop: asyncio.AbstractEventLoop
) -> socket.socket:
    """A connection to the first of these that answers. Raises the OSError of the last one."""
    *others, last = addresses
    for family, address in others:
        try:
            return await _connect(family, address, local_ip, loop)
        except OSError:
            continue
    return await _connect(*last, local_ip, loop)


async def _connect(
    family: int, address: Any, local_ip: str, loop: asyncio.AbstractEventLoop
) -> socket.socket:
    sock = source_socket(family, local_ip)
    try:
        await loop.sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock
