"""Binding the listening sockets while we may still be root."""

from __future__ import annotations

import socket

from mta.config.snapshot import Snapshot
from mta.errors import ConfigError

__all__ = ["bind_listeners"]

BACKLOG = 1024


def bind_listeners(snapshot: Snapshot) -> list[socket.socket]:
    """One listening socket for each listener, in the configuration's order.

    Raises ConfigError that names the address which is taken, foreign or not allowed.
    """
    bound: list[socket.socket] = []
    for listener in snapshot.listeners:
        family = socket.AF_INET6 if ":" in listener.host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                # Each address family has a listener of its own, as the operator wrote it.
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((listener.host, listener.port))
            sock.listen(BACKLOG)
        except OSError as failure:
            sock.close()
            for other in bound:
                other.close()
            raise OSError(
                f"smtp-listener {listener.host}:{listener.port}: {failure.strerror or failure}"
            ) from None
        sock.setblocking(False)
        bound.append(sock)
    if not bound:
        raise ConfigError("no smtp-listener is configured: add 'smtp-listener 127.0.0.1:2525'")
    return bound
