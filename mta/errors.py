"""Every error this program raises on purpose.

A class exists only where some caller reacts to it in its own way. Errors of other libraries are translated
where they enter. An unknown error is temporary: mail never bounces because of a bug of ours.
"""

from __future__ import annotations

import errno

__all__ = [
    "ConfigError",
    "ConnectError",
    "Contradiction",
    "DeadlineExceeded",
    "LocalProtocolError",
    "MtaError",
    "NetworkError",
    "NoDescriptors",
    "ProtocolError",
    "RemoteProtocolError",
    "RouteError",
    "SpoolBroken",
    "SpoolCorrupt",
    "SpoolError",
    "SpoolFull",
    "StreamError",
    "is_shortage",
]

#: What the kernel says when this process or machine has no room for one more socket.
_SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class MtaError(Exception):
    """The root: catching it catches what we foresaw and nothing else."""


class ConfigError(MtaError):
    """The configuration can't be used; the text names every file and line."""


class ProtocolError(MtaError):
    """Somebody broke a protocol."""


class LocalProtocolError(ProtocolError):
    """Our own side asked for something the protocol forbids."""


class RemoteProtocolError(ProtocolError):
    """The peer broke the protocol; `reply_code` is what to answer (servers) or to record (clients)."""

    def __init__(self, text: str, reply_code: int = 500) -> None:
        super().__init__(text)
        self.reply_code = reply_code


class NetworkError(MtaError):
    """The network, not the peer's program, is in the way."""


class ConnectError(NetworkError):
    """No connection came about."""


class StreamError(NetworkError):
    """A connection that stood has broken."""


class DeadlineExceeded(NetworkError):
    """The peer did not answer in time."""


class NoDescriptors(NetworkError):
    """No descriptor or memory for one more socket is left here: no peer is to blame, and it passes soon."""


class RouteError(MtaError):
    """A domain has no usable route.

    `temporary` says whether asking again may help; `status` is the enhanced status code (RFC 3463).
    """

    def __init__(self, text: str, *, temporary: bool, status: str) -> None:
        super().__init__(text)
        self.temporary = temporary
        self.status = status


class SpoolError(MtaError):
    """The spool can't do what was asked."""


class SpoolFull(SpoolError):
    """No room (bytes or inodes): refuse new mail with 452, keep what there is."""


class SpoolCorrupt(SpoolError):
    """One stored message is damaged; the others are fine."""


class SpoolBroken(SpoolError):
    """A write or sync failed: nothing may be acknowledged from this partition any more."""


class Contradiction(MtaError):
    """Our own state contradicts itself: leave, and let the logs decide what is true."""


def is_shortage(error: OSError) -> bool:
    """Whether a socket failed for want of descriptors or memory of our own, which is nobody else's fault."""
    return error.errno in _SHORTAGES
