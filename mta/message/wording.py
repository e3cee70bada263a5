"""The operator's own words in the DSNs we write: senders, subjects and texts with `${variables}`.

    hostname      this server                     retryAfter    retry-after of the queue, as configured
    originator    the sender that is told         bounceAfter   bounce-after of the queue, as configured
    recipient     who did not get the message     date          now
    subject       the message's own subject       timeQueued    when the message came in
    response      what the receiver answered

A name that is none of these stands for nothing. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["VARIABLES", "Wording", "fill", "unknown_variables"]

VARIABLES = frozenset(
    {
        "bounceAfter",
        "date",
        "hostname",
        "originator",
        "recipient",
        "response",
        "retryAfter",
        "subject",
        "timeQueued",
    }
)

_VARIABLE = re.compile(r"\$\{([^${}]*)\}")


@dataclass(frozen=True, slots=True)
class Wording:
    """`sender` is the From of all DSNs, the others are templates for failures; "" stands for our words."""

    sender: str = ""
    failed_sender: str = ""
    failed_subject: str = ""
    failed_body: str = ""


def fill(template: str, variables: Mapping[str, str]) -> str:
    """The template with its variables filled in, once: what they bring is not looked at again."""
    return _VARIABLE.sub(lambda found: variables.get(found[1], ""), template)


def unknown_variables(template: str) -> list[str]:
    """Names in a template that stand for nothing."""
    return sorted(set(_VARIABLE.findall(template)) - VARIABLES)
