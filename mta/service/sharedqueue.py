"""The limits of a queue that several workers have: each keeps to its part, so that they hold in sum.

All queues of a domain are at one worker, but a roll-up's queue gathers mail of domains with different
owners, and so there is one at each of them. What nobody can have less of than one (a connection) each may
have one of; a limit smaller than the number of workers is lent as places beside that (`shared_*` of the
policy, `places.py`).
"""

from __future__ import annotations

from dataclasses import replace

from mta.config.rollups import SUFFIX
from mta.config.units import Rate
from mta.config.values import NetworkLimit
from mta.queue.key import QueueKey
from mta.queue.policy import UNLIMITED, QueuePolicy

__all__ = ["is_shared", "own_number", "own_policy", "part_of"]


def is_shared(key: QueueKey) -> bool:
    """Whether other workers have a queue of that name too."""
    return key.domain.endswith(SUFFIX)


def part_of(rate: Rate, parts: int) -> Rate:
    """An equal part of a rate; of less than one for each, one in a longer time."""
    if rate.count >= parts:
        return Rate(rate.count // parts, rate.per)
    return Rate(1, rate.per * parts / max(1, rate.count))


def own_number(limit: int, parts: int, part: int) -> int:
    """The share number `part` (from 0) of a limit: what can't be divided goes to the first ones."""
    if limit >= UNLIMITED:
        return limit
    return max(1, limit // parts + (part < limit % parts)) if limit else limit


def own_policy(policy: QueuePolicy, parts: int, part: int) -> QueuePolicy:
    """What worker number `part` of `parts` may do in a queue of that policy."""

    def rate(whole: Rate | None) -> Rate | None:
        return None if whole is None else part_of(whole, parts)

    def lines(limits: tuple[NetworkLimit, ...]) -> tuple[NetworkLimit, ...]:
        return tuple(line._replace(limit=own_limit(line.limit, parts, part)) for line in limits)

    return replace(
        policy,
        max_smtp_out=own_number(policy.max_smtp_out, parts, part),
        backoff_max_smtp_out=own_number(policy.backoff_max_smtp_out, parts, part),
        max_msg_rate=rate(policy.max_msg_rate),
        max_connect_rate=rate(policy.max_connect_rate),
        max_data_volume_rate=rate(policy.max_data_volume_rate),
        backoff_max_msg_rate=rate(policy.backoff_max_msg_rate),
        backoff_max_connect_rate=rate(policy.backoff_max_connect_rate),
        backoff_max_data_volume_rate=rate(policy.backoff_max_data_volume_rate),
        source_ip_max_smtp_out=lines(policy.source_ip_max_smtp_out),
        source_ip_max_msg_rate=lines(policy.source_ip_max_msg_rate),
        source_ip_max_connect_rate=lines(policy.source_ip_max_connect_rate),
        source_ip_max_data_volume_rate=lines(policy.source_ip_max_data_volume_rate),
        shared_max_smtp_out=policy.max_smtp_out,
        backoff_shared_max_smtp_out=policy.backoff_max_smtp_out,
        shared_source_ip_max_smtp_out=policy.source_ip_max_smtp_out,
    )


def own_limit(limit: int | Rate | None, parts: int, part: int) -> int | Rate | None:
    """A part of whatever it is."""
    if limit is None:
        return None
    return own_number(limit, parts, part) if isinstance(limit, int) else part_of(limit, parts)
