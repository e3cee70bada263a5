"""Why a queue is not sending, or that it is: one sentence with the limit's name and when it lifts.

A `Reason` also names the directive that sets the limit and the scope to look for it in, so that whoever has
the configuration can say where it was written.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

from mta.config.units import Rate, format_interval, format_rate, format_size
from mta.queue.permits import Permits, source_free_at, usable_sources
from mta.queue.queue import DeliveryQueue, QueueMode
from mta.queue.timers import NEVER

__all__ = ["QUEUE", "TOP", "VMTA", "Reason", "explain", "moment"]

#: Where a directive is to be looked for: the queue's effective settings, its virtual MTA, the top level.
QUEUE, VMTA, TOP = "queue", "virtual-mta", "top"


class Reason(NamedTuple):
    """Why a queue waits; `directive` is "" when no directive makes it wait."""

    text: str
    directive: str = ""
    scope: str = QUEUE


def explain(queue: DeliveryQueue, permits: Permits, now: float) -> Reason:
    """One sentence about what holds the queue up, the strongest reason first."""
    if queue.is_paused:
        return Reason("Paused by the operator until it is resumed.")
    if not queue.waiting():
        if queue.in_flight:
            return Reason(f"Sending: {queue.in_flight} recipients are in flight, no other waits.")
        return Reason("Nothing waits.")
    if now < queue.retry_at:
        directive = name(queue, "retry-after")
        text = f"In retry{because(queue)}: {directive} ends {moment(queue.retry_at, now)}."
        return Reason(text, directive)
    if not len(queue.ready):
        due = queue.deferred.next_due() or now
        text = (
            f"All {len(queue.deferred)} recipients wait for their retry time, the first {moment(due, now)}."
        )
        return Reason(text, "retry-recipients-after")
    return limited(queue, permits, now) or Reason(sending(queue))


def limited(queue: DeliveryQueue, permits: Permits, now: float) -> Reason | None:
    """The limit that keeps the queue from sending (more) now; None when none does."""
    vmta, active = queue.vmta, queue.active
    if queue.message_window is not None and queue.message_window.available(now) <= 0:
        directive = name(queue, "max-msg-rate")
        return used_up(directive, active.max_msg_rate, queue.message_window.lifts_at(now), now)
    if queue.volume_lifts_at(now) > now:
        directive = name(queue, "max-data-volume-rate")
        text = volume_used_up(directive, active.max_data_volume_rate, queue.volume_lifts_at(now), now)
        return Reason(text, directive)
    if vmta.message_window is not None and vmta.message_window.available(now) <= 0:
        rate, whose = vmta.policy.max_smtp_msg_rate, f" of virtual MTA {vmta.name}"
        text = used_up("max-smtp-msg-rate", rate, vmta.message_window.lifts_at(now), now, whose).text
        return Reason(text, "max-smtp-msg-rate", VMTA)
    if queue.shared_lifts_at(now) > now:
        rate, directive = vmta.policy.max_smtp_data_volume_rate, "max-smtp-data-volume-rate"
        text = volume_used_up(f"{directive} of {vmta.name}", rate, queue.shared_lifts_at(now), now)
        return Reason(text, directive, VMTA)
    if queue.crowded_at:
        host = queue.crowded_at[0]
        text = f"{host.directive} {host.stated}: all connections to {host.name} are in use."
        return Reason(text, host.directive, TOP)
    if queue.slots >= active.max_smtp_out:
        directive = name(queue, "max-smtp-out")
        return Reason(f"{directive} {active.max_smtp_out}: all its connections are in use.", directive)
    if now < queue.open_after:
        text = f"No further connection{because(queue)} until {moment(queue.open_after, now)}."
        return Reason(text, name(queue, "retry-after"))
    if queue.connect_window is not None and queue.connect_window.available(now) <= 0:
        lifts_at = queue.connect_window.lifts_at(now)
        return used_up(name(queue, "max-connect-rate"), active.max_connect_rate, lifts_at, now)
    if not usable_sources(queue, vmta, now):
        free_at = source_free_at(queue, vmta, now)
        if queue.limits_addresses and not queue.disabled_sources:
            lifts = f"; the first lifts {moment(free_at, now)}" if free_at != NEVER else ""
            return Reason(
                f"The source-ip-* rates of all source addresses are used up{lifts}.", address_rate(queue)
            )
        until = f"; the first comes back {moment(free_at, now)}" if free_at != NEVER else ""
        return Reason(f"This queue may use no source address of virtual MTA {vmta.name}{until}.")
    if queue.slots:
        return None
    if not vmta.has_permit():
        text = f"max-smtp-out {vmta.policy.max_smtp_out} of virtual MTA {vmta.name} is used up by its queues."
        return Reason(text, "max-smtp-out", VMTA)
    if not permits.has_permit():
        return Reason(f"total-max-smtp-out {permits.total_max} is used up.", "total-max-smtp-out", TOP)
    return Reason("Waits for its turn to open a connection.")


def sending(queue: DeliveryQueue) -> str:
    """What a queue does that nothing holds up."""
    mode = " in backoff" if queue.mode is QueueMode.BACKOFF else ""
    return f"Sending{mode} over {queue.slots} connections: {len(queue.ready)} recipients are ready."


def name(queue: DeliveryQueue, directive: str) -> str:
    """The directive that holds in the queue's mode."""
    return f"backoff-{directive}" if queue.mode is QueueMode.BACKOFF else directive


def used_up(limit: str, rate: Rate | None, lifts_at: float, now: float, whose: str = "") -> Reason:
    text = f" {format_rate(rate)}" if rate is not None else ""
    return Reason(f"{limit}{text}{whose} is used up; it lifts {moment(lifts_at, now)}.", limit)


def volume_used_up(limit: str, rate: Rate | None, lifts_at: float, now: float) -> str:
    text = f"{format_size(rate.count)}/{format_interval(rate.per)}" if rate is not None else ""
    if lifts_at == NEVER:
        return f"{limit} {text} is taken up by messages on their way; it lifts when they have arrived."
    return f"{limit} {text} is used up; it lifts {moment(lifts_at, now)}."


def address_rate(queue: DeliveryQueue) -> str:
    """The directive with rates of single addresses that the queue has."""
    active = queue.active
    if active.source_ip_max_msg_rate:
        return "source-ip-max-msg-rate"
    return (
        "source-ip-max-connect-rate"
        if active.source_ip_max_connect_rate
        else "source-ip-max-data-volume-rate"
    )


def because(queue: DeliveryQueue) -> str:
    """The last error, as a clause."""
    return f" after {queue.errors[-1][1]!r}" if queue.errors else ""


def moment(when: float, now: float) -> str:
    """A time as people read it: `at 12:00:05 UTC, in 90s`."""
    wait = max(0.0, when - now)
    clock = datetime.fromtimestamp(when, UTC)
    form = "%H:%M:%S" if wait < 43200 else "%Y-%m-%d %H:%M:%S"
    return f"at {clock.strftime(form)} UTC, in {wait:.0f}s"
