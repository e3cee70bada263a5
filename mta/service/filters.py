"""Which recipients an operator means: the filters of `list`, `delete` and `set priority`."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase

from mta.config.units import parse_interval
from mta.message.envelope import Envelope, Recipient
from mta.service.channel import CommandFailed

__all__ = ["FILTERS", "is_match", "youngest"]

#: What recipients are chosen by, beside their queue.
FILTERS = frozenset({"rcpt", "orig", "jobId", "envId", "olderThan"})


def is_match(envelope: Envelope, recipient: Recipient, filters: Mapping[str, str]) -> bool:
    """Whether all filters but that for age hold; addresses are globs in any case, ids are exact."""
    return (
        envelope.job_id == filters.get("jobId", envelope.job_id)
        and envelope.envelope_id == filters.get("envId", envelope.envelope_id)
        and fnmatchcase(recipient.address.lower(), filters.get("rcpt", "*").lower())
        and fnmatchcase(envelope.originator.lower(), filters.get("orig", "*").lower())
    )


def youngest(filters: Mapping[str, str], now: float) -> float:
    """The latest time of reception that these filters allow.

    Raises CommandFailed for a filter that nobody knows, ValueError for an age that can't be read.
    """
    unknown = set(filters) - FILTERS
    if unknown:
        raise CommandFailed(f"unknown filter {', '.join(sorted(unknown))}")
    return now - (parse_interval(filters.get("olderThan", "0")) or 0.0)
