"""Binding the listening sockets while we may still be root.

Several workers listen at the same address with a socket each (SO_REUSEPORT): the kernel deals connections out
by a hash of client and port, and no worker waits for another. Whoever may bind such a socket could take a
share of our connections, which the kernel allows to our own account only; that a second service of ours
does it by mistake is found out first.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence

from mta.config.snapshot import Listener, Snapshot
from mta.errors import ConfigError

__all__ = ["bind_listeners"]

BACKLOG = 1024


def bind_listeners(snapshot: Snapshot, workers: Sequence[bool] = (True,)) -> list[list[socket.socket]]:
    """For each worker that listens one socket for each listener, in the configuration's order.

    `workers` says for each whether it does; one that doesn't gets no sockets. Raises ConfigError without
    listeners, and OSError that names the address which is taken, foreign or not allowed.
    """
    if not snapshot.listeners:
        raise ConfigError("no smtp-listener is configured: add 'smtp-listener 127.0.0.1:2525'")
    bound: list[list[socket.socket]] = [[] for _ in workers]
    is_shared = sum(workers) > 1
    try:
        for listener in snapshot.listeners:
            if is_shared:
                _bind(listener, is_shared=False).close()
            for sockets, listens in zip(bound, workers, strict=True):
                if listens:
                    sockets.append(_bind(listener, is_shared=is_shared))
    except OSError:
        for sockets in bound:
            for sock in sockets:
                sock.close()
        raise
    return bound


def _bind(listener: Listener, *, is_shared: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in listener.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            # Each address family has a listener of its own, as the operator wrote it.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((listener.host, listener.port))
        sock.listen(BACKLOG)
    except OSError as failure:
        sock.close()
        raise OSError(
            f"smtp-listener {listener.host}:{listener.port}: {failure.strerror or failure}"
        ) from None
    sock.setblocking(False)
    return sock
