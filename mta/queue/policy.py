"""What the configuration says about one queue and about one virtual MTA, ready for the scheduler.

A policy is a value: made once per queue and configuration epoch, never changed. `QueuePolicy.in_backoff`
is the policy that holds while the queue is in backoff, so that the code that keeps limits never asks which
mode it is in.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from mta.config.snapshot import EgressSource
from mta.config.units import Rate
from mta.config.values import NetworkLimit
from mta.queue.retry import penalty_ladder

if TYPE_CHECKING:
    from mta.config.settings import Settings
    from mta.config.snapshot import VirtualMta

__all__ = ["ANY_SOURCE", "EgressSource", "QueuePolicy", "VmtaPolicy"]

MINUTE = 60.0
HOUR = 3600.0
DAY = 86400.0

#: What stands for "no limit" where a number is easier than None.
UNLIMITED = 1 << 62


#: Whichever address the system takes.
ANY_SOURCE = EgressSource("", "")


@dataclass(frozen=True, slots=True)
class QueuePolicy:
    """The settings of one queue; field names are the directives', times are seconds.

    `backoff_reroute_to` are the virtual MTAs of `backoff-reroute-to-virtual-mta`, the members of a pool;
    `reroute_to` those of `reroute-to-virtual-mta`.
    A rate of None has no limit. `max_msg_per_connection`, `max_errors_per_connection` and `max_retries` of 0
    have none either. The `shared_*` are what workers that have a queue of the same name may open together.
    """

    max_smtp_out: int = 20
    max_msg_rate: Rate | None = None
    max_connect_rate: Rate | None = None
    max_data_volume_rate: Rate | None = None
    max_rcpt_per_message: int = 1000
    max_msg_per_connection: int = 0
    max_errors_per_connection: int = 0
    smtp_out_rampup_interval: float = 0.0
    queue_priority: int = 50
    allow_priority_interruption: bool = True
    allow_priority_interruption_during_transfer: bool = False
    retry_after: tuple[float, ...] = (10 * MINUTE,)
    retry_recipients_after: float = 10 * MINUTE
    retry_after_dns_error: float = MINUTE
    retry_upon_new_mail: bool = False
    bounce_after: float = 4.5 * DAY
    max_retries: int = 0
    initial_pts: float = 0.0
    max_pts: float = HOUR
    backoff_max_smtp_out: int = 20
    backoff_max_msg_rate: Rate | None = None
    backoff_max_connect_rate: Rate | None = None
    backoff_max_data_volume_rate: Rate | None = None
    backoff_retry_after: tuple[float, ...] = (HOUR,)
    backoff_to_normal_after: float | None = None
    backoff_to_normal_after_delivery: bool = False
    backoff_upon_all_sources_disabled: bool = False
    backoff_reroute_to: tuple[str, ...] = ()
    reroute_to: tuple[str, ...] = ()
    reenable_source_ip_after: float | None = None
    smtp_pattern_list: str = ""
    bounce_upon_5xx_greeting: bool = True
    source_ip_max_smtp_out: tuple[NetworkLimit, ...] = ()
    max_events_recorded: int = 10
    track_recipient_events: bool = False
    source_ip_max_msg_rate: tuple[NetworkLimit, ...] = ()
    source_ip_max_connect_rate: tuple[NetworkLimit, ...] = ()
    source_ip_max_data_volume_rate: tuple[NetworkLimit, ...] = ()
    shared_max_smtp_out: int = UNLIMITED
    backoff_shared_max_smtp_out: int = UNLIMITED
    shared_source_ip_max_smtp_out: tuple[NetworkLimit, ...] = ()

    @classmethod
    def from_settings(cls, settings: Settings) -> QueuePolicy:
        """Read the effective settings of one queue."""
        message_rate = settings.rate("max-msg-rate")
        connect_rate = settings.rate("max-connect-rate")
        initial = float(settings.integer("initial-pts"))
        most = max(initial, float(settings.integer("max-pts") or HOUR))
        retry_after = settings.intervals("retry-after") or (10 * MINUTE,)
        volume_rate = settings.rate("max-data-volume-rate")
        backoff_rate, backoff_connects, backoff_volume = message_rate, connect_rate, volume_rate
        if settings.is_set("backoff-max-msg-rate"):
            backoff_rate = settings.rate("backoff-max-msg-rate")
        if settings.is_set("backoff-max-connect-rate"):
            backoff_connects = settings.rate("backoff-max-connect-rate")
        if settings.is_set("backoff-max-data-volume-rate"):
            backoff_volume = settings.rate("backoff-max-data-volume-rate")
        return cls(
            max_smtp_out=settings.integer("max-smtp-out") or UNLIMITED,
            max_msg_rate=message_rate,
            max_connect_rate=connect_rate,
            max_data_volume_rate=volume_rate,
            max_rcpt_per_message=settings.integer("max-rcpt-per-message") or UNLIMITED,
            max_msg_per_connection=settings.integer("max-msg-per-connection"),
            max_errors_per_connection=settings.integer("max-errors-per-connection"),
            smtp_out_rampup_interval=seconds(settings, "smtp-out-rampup-interval", 0.0),
            queue_priority=settings.integer("queue-priority"),
            allow_priority_interruption=settings.boolean("allow-priority-interruption"),
            allow_priority_interruption_during_transfer=settings.boolean(
                "allow-priority-interruption-during-transfer"
            ),
            retry_after=penalty_ladder(initial, most) if initial else retry_after,
            retry_recipients_after=seconds(settings, "retry-recipients-after", 10 * MINUTE),
            retry_after_dns_error=seconds(settings, "retry-after-dns-error", MINUTE),
            retry_upon_new_mail=settings.boolean("retry-upon-new-mail"),
            bounce_after=seconds(settings, "bounce-after", 4.5 * DAY),
            max_retries=settings.integer("max-retries"),
            initial_pts=initial,
            max_pts=most,
            backoff_max_smtp_out=settings.integer("backoff-max-smtp-out") or UNLIMITED,
            backoff_max_msg_rate=backoff_rate,
            backoff_max_connect_rate=backoff_connects,
            backoff_max_data_volume_rate=backoff_volume,
            backoff_retry_after=settings.intervals("backoff-retry-after") or (HOUR,),
            backoff_to_normal_after=optional_seconds(settings, "backoff-to-normal-after"),
            backoff_to_normal_after_delivery=settings.boolean("backoff-to-normal-after-delivery"),
            backoff_upon_all_sources_disabled=settings.boolean("backoff-upon-all-sources-disabled"),
            backoff_reroute_to=tuple(filter(None, (settings.text("backoff-reroute-to-virtual-mta"),))),
            reroute_to=tuple(filter(None, (settings.text("reroute-to-virtual-mta"),))),
            reenable_source_ip_after=optional_seconds(settings, "reenable-source-ip-after"),
            smtp_pattern_list=settings.text("smtp-pattern-list")
            if settings.is_set("smtp-pattern-list")
            else "",
            bounce_upon_5xx_greeting=settings.boolean("bounce-upon-5xx-greeting"),
            max_events_recorded=settings.integer("max-events-recorded"),
            track_recipient_events=settings.boolean("track-recipient-events"),
            source_ip_max_smtp_out=network_limits(settings, "source-ip-max-smtp-out"),
            source_ip_max_msg_rate=network_limits(settings, "source-ip-max-msg-rate"),
            source_ip_max_connect_rate=network_limits(settings, "source-ip-max-connect-rate"),
            source_ip_max_data_volume_rate=network_limits(settings, "source-ip-max-data-volume-rate"),
        )

    @property
    def limits_addresses(self) -> bool:
        """Whether local addresses have rates of their own."""
        return bool(
            self.source_ip_max_msg_rate
            or self.source_ip_max_connect_rate
            or self.source_ip_max_data_volume_rate
        )

    def longest_wait(self) -> float:
        """No recipient waits longer than this for its next attempt."""
        waits = (*self.retry_after, *self.backoff_retry_after)
        penalty = self.max_pts if self.initial_pts else 0.0
        return max(*waits, self.retry_recipients_after, self.retry_after_dns_error, penalty)

    def in_backoff(self) -> QueuePolicy:
        """The same policy with the backoff-* values in the places of the normal ones."""
        return replace(
            self,
            max_smtp_out=self.backoff_max_smtp_out,
            shared_max_smtp_out=self.backoff_shared_max_smtp_out,
            max_msg_rate=self.backoff_max_msg_rate,
            max_connect_rate=self.backoff_max_connect_rate,
            max_data_volume_rate=self.backoff_max_data_volume_rate,
            retry_after=self.backoff_retry_after,
        )


@dataclass(frozen=True, slots=True)
class VmtaPolicy:
    """What holds for all queues of one virtual MTA together."""

    sources: tuple[EgressSource, ...] = field(default=(ANY_SOURCE,))
    max_smtp_out: int = UNLIMITED
    max_smtp_msg_rate: Rate | None = None
    max_smtp_data_volume_rate: Rate | None = None

    @classmethod
    def from_settings(cls, settings: Settings, sources: tuple[EgressSource, ...] = ()) -> VmtaPolicy:
        """Read a virtual MTA's own settings; without `sources` the system chooses the address."""
        return cls(
            sources=sources or (ANY_SOURCE,),
            max_smtp_out=settings.integer("max-smtp-out") or UNLIMITED,
            max_smtp_msg_rate=settings.rate("max-smtp-msg-rate"),
            max_smtp_data_volume_rate=settings.rate("max-smtp-data-volume-rate"),
        )

    @classmethod
    def from_vmta(cls, vmta: VirtualMta) -> VmtaPolicy:
        """Read a virtual MTA of the snapshot."""
        return cls.from_settings(vmta.settings, vmta.sources)


def seconds(settings: Settings, name: str, default: float) -> float:
    """The interval of that name; `default` stands in where nobody said and for `never`."""
    value = settings.interval(name)
    return default if value is None else float(value)


def optional_seconds(settings: Settings, name: str) -> float | None:
    """The interval of that name, None for `never`."""
    value = settings.interval(name)
    return None if value is None else float(value)


def network_limits(settings: Settings, name: str) -> tuple[NetworkLimit, ...]:
    """The lines of a `source-ip-*` directive."""
    lines = settings.limits(name)
    return tuple(line for line in lines if isinstance(line, NetworkLimit))
