"""The variables in `file-destination` and `command`: `$to`, `$from` and their kin, also written `${to}`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import formatdate

from mta.message.envelope import Envelope

__all__ = ["file_name", "substitute", "variables"]

_VARIABLE = re.compile(r"\$(?:\{([a-z]+)\}|([a-z]+))")


def variables(envelope: Envelope, index: int, now: float, *, keeps_case: bool = False) -> Mapping[str, str]:
    """What the variables stand for; `now` is epoch seconds."""
    to, sender = envelope.recipients[index].address, envelope.originator
    if not keeps_case:
        to, sender = to.lower(), sender.lower()
    user, _, domain = to.rpartition("@")
    moment = datetime.fromtimestamp(now, UTC)
    return {
        "to": to,
        "from": sender,
        "user": user,
        "domain": domain,
        "envid": envelope.envelope_id,
        "bodytype": "8BITMIME" if envelope.is_8bit else "7BIT",
        "ctime": moment.ctime(),
        "isodate": moment.strftime("%Y%m%dT%H%M%SZ"),
        "timet": str(int(now)),
        "rfctime": formatdate(now),
    }


def substitute(text: str, values: Mapping[str, str], form: Callable[[str], str] = lambda value: value) -> str:
    """The text with its variables replaced by their values in a certain form; unknown ones stay."""

    def value(match: re.Match[str]) -> str:
        found = values.get(match[1] or match[2])
        return match[0] if found is None else form(found)

    return _VARIABLE.sub(value, text)


def file_name(value: str) -> str:
    """A value as part of a path: it can't leave its directory, nor be hidden in it."""
    name = value.replace("/", "_").replace("\0", "_")
    return f"_{name[1:]}" if name.startswith(".") else name
