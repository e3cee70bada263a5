"""What may stand in a request to the control socket, by the name of the argument.

The socket is the operator's, but scripts and other people's programs write to it: what comes from there is
checked here once, so that the processes behind can rely on it. Which command takes which argument is the
command's own business.
"""

from __future__ import annotations

from typing import Any, Final

from mta.service.channel import CommandFailed

__all__ = ["checked"]

FLAGS: Final = frozenset(
    {
        "connect",
        "connected",
        "dryRun",
        "dumpPackets",
        "dsn",
        "errors",
        "logData",
        "logResolution",
        "noAccounting",
        "paused",
        "retryRecipients",
        "tcp",
        "toLog",
    }
)
NUMBERS: Final = frozenset({"maxitems", "priority"})

#: Nobody lists more rows, and no name that we know is longer.
_MAX_NUMBER: Final = 1_000_000_000
_MAX_TEXT: Final = 1000


def checked(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments as they may be passed on: null ones left out; raises CommandFailed for others.

    Flags are booleans, `maxitems` and `priority` are numbers, everything else is a text on one line.
    """
    found: dict[str, Any] = {}
    for name, value in arguments.items():
        if value is None:
            continue
        if name in FLAGS:
            if not isinstance(value, bool):
                raise CommandFailed(f"{name[:40]} must be true or false")
        elif name in NUMBERS:
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MAX_NUMBER:
                raise CommandFailed(f"{name[:40]} must be a number from 0 on")
        elif not isinstance(value, str) or len(value) > _MAX_TEXT or not value.isprintable():
            raise CommandFailed(f"{name[:40]!r} must be a text of at most {_MAX_TEXT} printable characters")
        found[name] = value
    return found
