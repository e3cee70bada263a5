"""One way through an HAProxy server.

The address that receivers see is the one at the proxy. It is what a source is known by: in limits, in
accounting, and when it is taken out of use.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Proxy"]


class Proxy(NamedTuple):
    """One way through a proxy: connect from `local_ip` ('' = any) to `host:port`, and ask in version 1 or 2
    of the protocol for a connection from `client_ip:client_port` (0 = any port). `host_name` is for EHLO.
    """

    host: str
    port: int
    client_ip: str
    client_port: int
    host_name: str
    version: int = 1
    local_ip: str = ""
