"""What a client may do: the settings of its `<source>` as one value, and who may send where.

Nobody may relay unless the configuration says so: `always-allow-relaying` for the source, or a `relay-domain`
or `relay-address` for the recipient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import MappingProxyType

from mta.config.settings import Settings
from mta.config.snapshot import Snapshot
from mta.config.units import Rate
from mta.ingress.suppression import Suppression
from mta.smtp.data import LINE_LIMIT
from mta.smtp.reply import Reply

__all__ = ["RECIPIENT_CEILING", "RelayRules", "SourcePolicy"]

#: Recipients of one message when the operator sets no limit: what one session can hold in a few MB.
RECIPIENT_CEILING = 50_000

_DENIED = Reply(550, "5.7.1 Relaying denied", "5.7.1")
_DENIED_FOR_NOW = Reply(451, "4.7.1 Relaying denied (relay-debug)", "4.7.1")
_ROUTED = Reply(550, "5.7.1 Relaying denied: routing characters in the local part", "5.7.1")
_BAD_DOMAIN = Reply(550, "5.1.2 Bad destination system address", "5.1.2")

#: dsn-return-default as `message.envelope.Ret`.
_RET = MappingProxyType({"system": 0, "full": 1, "headers": 2})

#: What some servers read as "send it on to somebody else".
_ROUTING_CHARACTERS = frozenset('%!@"')


@dataclass(frozen=True, slots=True)
class SourcePolicy:
    """The `<source>` directives that hold for one client. Sizes in bytes, times in seconds; 0 or None:
    no limit.
    """

    allow_relaying: bool = False
    allow_auth: bool = True
    require_auth: bool = False
    allow_plain_auth: bool = False
    broken_auth_clients: bool = False
    allow_starttls: bool = False
    starttls_before_auth: bool = False
    max_auth_failures: Rate | None = None
    allow_chunking: bool = True
    offers_pipelining: bool = True
    allow_smtputf8: bool = True
    is_served: bool = True
    max_message_size: int | None = None
    max_message_hops: int = 100
    max_recipients: int = RECIPIENT_CEILING
    max_line: int = LINE_LIMIT
    command_timeout: float = 600.0
    data_timeout: float = 600.0
    group: str = ""
    default_vmta: str = ""
    reject_invalid_vmta: bool = True
    allow_empty_vmta_header: bool = False
    pattern_list: str = ""
    process_vmta: bool = False
    retain_vmta: bool = False
    process_job: bool = False
    retain_job: bool = False
    process_envid: bool = False
    process_schedule: bool = False
    retain_schedule: bool = False
    job_header: str = ""
    job_prefix: str = ""
    add_date: str = "no"
    dates_at_delivery: bool = False
    add_message_id: bool = False
    add_received: bool = True
    remove_received: bool = False
    hide_source: bool = False
    suppress_dsn: bool = False
    log_connections: bool = False
    log_commands: bool = False
    log_data: bool = False
    log_tls: bool = False
    hangs_up_on_4xx: bool = False
    qualifies_domains: bool = True
    process_dkim_options: bool = False
    retain_dkim_options: bool = False
    process_dkim_key: bool = False
    retain_dkim_key: bool = False
    allow_mailmerge: bool = False
    verp_default: bool = False
    bcc: str = ""
    rewrite_list: str = ""
    suppression_lists: tuple[str, ...] = ()
    accept_invalid: bool = False
    too_many_recipients_fail: bool = False
    add_vmta_header: bool = False
    ret_default: int = 0
    removed_headers: tuple[str, ...] = ()
    #: Whether a plain RCPT needs no further question, and whether mail of this client needs `treatment`.
    takes_plain_recipients: bool = field(init=False)
    is_treated: bool = field(init=False)
    #: Whether nobody looks at our replies on their way out.
    replies_directly: bool = field(init=False)
    #: Whether any control header is obeyed, and whether a Date or a Message-ID may have to be added.
    has_control_headers: bool = field(init=False)
    completes_header: bool = field(init=False)
    #: Whether nothing in a message, nor who it is for, changes how it goes on and what is noted of it.
    is_plain: bool = field(init=False)
    #: Names of header fields that are taken out, lower case; follows from the others.
    stripped: frozenset[bytes] = field(init=False)

    def __post_init__(self) -> None:
        names = {
            b"x-virtual-mta": self.process_vmta and not self.retain_vmta,
            b"x-job": self.process_job and not self.retain_job,
            b"x-envid": self.process_envid,
            b"x-schedule": self.process_schedule and not self.retain_schedule,
            b"x-dkim-options": self.process_dkim_options and not self.retain_dkim_options,
            b"x-dkim-key": self.process_dkim_key and not self.retain_dkim_key,
            b"received": self.remove_received,
            b"date": self.add_date == "override",
        }
        stripped = {name for name, is_out in names.items() if is_out}
        stripped.update(name.lower().encode("utf-8") for name in self.removed_headers)
        object.__setattr__(self, "stripped", frozenset(stripped))
        is_plain = self.allow_relaying and not self.suppression_lists
        object.__setattr__(self, "takes_plain_recipients", is_plain)
        is_treated = (
            self.allow_mailmerge
            or self.verp_default
            or bool(self.bcc)
            or bool(self.rewrite_list)
            or self.accept_invalid
            or self.add_vmta_header
        )
        object.__setattr__(self, "is_treated", is_treated)
        obeys = (
            self.process_vmta
            or self.process_job
            or bool(self.job_header)
            or self.process_envid
            or self.process_schedule
            or self.process_dkim_options
        )
        object.__setattr__(self, "has_control_headers", obeys)
        completes = self.add_message_id or (self.add_date != "no" and not self.dates_at_delivery)
        object.__setattr__(self, "completes_header", completes)
        is_looked_into = obeys or stripped or self.pattern_list or self.job_prefix or self.dates_at_delivery
        object.__setattr__(self, "is_plain", not (is_treated or is_looked_into))
        object.__setattr__(self, "replies_directly", not (self.log_data or self.hangs_up_on_4xx))

    @classmethod
    def from_settings(cls, settings: Settings) -> SourcePolicy:
        """Copy what is needed out of the merged `<source>` settings."""
        recipients = settings.integer("max-rcpt-per-message")
        return cls(
            allow_relaying=settings.boolean("always-allow-relaying"),
            allow_auth=settings.boolean("allow-auth"),
            require_auth=settings.boolean("require-auth"),
            allow_plain_auth=settings.boolean("allow-unencrypted-plain-auth"),
            broken_auth_clients=settings.boolean("broken-auth-clients"),
            allow_starttls=settings.boolean("allow-starttls"),
            starttls_before_auth=settings.boolean("require-starttls-before-auth"),
            max_auth_failures=settings.rate("smtp-max-auth-failure-rate"),
            allow_chunking=settings.boolean("allow-chunking"),
            allow_smtputf8=settings.boolean("allow-smtputf8"),
            is_served=settings.boolean("smtp-service"),
            max_message_size=settings.size("max-message-size"),
            max_message_hops=settings.integer("max-message-hops"),
            max_recipients=min(recipients or RECIPIENT_CEILING, RECIPIENT_CEILING),
            command_timeout=settings.interval("smtp-command-timeout") or 600.0,
            data_timeout=settings.interval("smtp-data-timeout") or 600.0,
            group=settings.text("source-group"),
            default_vmta=settings.text("default-virtual-mta"),
            reject_invalid_vmta=settings.boolean("reject-invalid-virtual-mta"),
            allow_empty_vmta_header=settings.boolean("allow-empty-x-virtual-mta"),
            pattern_list=settings.text("pattern-list"),
            process_vmta=settings.boolean("process-x-virtual-mta"),
            retain_vmta=settings.boolean("retain-x-virtual-mta"),
            process_job=settings.boolean("process-x-job"),
            retain_job=settings.boolean("retain-x-job"),
            process_envid=settings.boolean("process-x-envid"),
            process_schedule=settings.boolean("process-x-schedule"),
            retain_schedule=settings.boolean("retain-x-schedule"),
            job_header=settings.text("jobid-header").rstrip(":").lower(),
            job_prefix=settings.text("jobid-prefix"),
            add_date=settings.text("add-date-header"),
            dates_at_delivery=settings.text("date-header-time") == "delivery",
            add_message_id=settings.boolean("add-message-id-header"),
            add_received=settings.boolean("add-received-header"),
            remove_received=settings.boolean("remove-received-headers"),
            hide_source=settings.boolean("hide-message-source"),
            suppress_dsn=settings.boolean("suppress-local-dsn"),
            log_connections=settings.boolean("log-connections"),
            log_commands=settings.boolean("log-commands"),
            log_data=settings.boolean("log-data"),
            log_tls=settings.boolean("log-tls"),
            hangs_up_on_4xx=settings.boolean("disconnect-on-transient-error"),
            qualifies_domains=settings.boolean("auto-qualify-domain"),
            process_dkim_options=settings.boolean("process-x-dkim-options"),
            retain_dkim_options=settings.boolean("retain-x-dkim-options"),
            process_dkim_key=settings.boolean("process-x-dkim-key"),
            retain_dkim_key=settings.boolean("retain-x-dkim-key"),
            allow_mailmerge=settings.boolean("allow-mailmerge"),
            verp_default=settings.boolean("verp-default"),
            bcc=settings.text("bcc"),
            rewrite_list=settings.text("rewrite-list"),
            suppression_lists=settings.texts("suppression-lists"),
            accept_invalid=settings.boolean("accept-invalid-recipients"),
            too_many_recipients_fail=settings.boolean("too-many-rcpts-fails-message"),
            add_vmta_header=settings.boolean("add-x-virtual-mta-header"),
            ret_default=_RET[settings.text("dsn-return-default")],
            removed_headers=tuple(name.rstrip(": ") for name in settings.texts("remove-header")),
        )


class RelayRules:
    """Who may send to whom under one configuration."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._is_relay_domain: Callable[[str], bool] = snapshot.is_relay_domain
        self._is_relay_address: Callable[[str], bool] = snapshot.is_relay_address
        self._suppression = Suppression(snapshot)
        self._denial = _DENIED_FOR_NOW if snapshot.top.boolean("relay-debug") else _DENIED

    def refusal(self, policy: SourcePolicy, address: str, domain: str) -> Reply | None:
        """Why this client may not send to this recipient; None when it may.

        `domain` is the recipient's, lower case and ACE; "" for a bare `postmaster`, who is always reachable.
        """
        if policy.allow_relaying:
            return None if domain else _BAD_DOMAIN
        if not domain:
            return self._denial
        if not (self._is_relay_domain(domain) or self._is_relay_address(address)):
            return self._denial
        # For strangers only: the next server may read the local part as a route to somewhere else.
        local = address.rpartition("@")[0]
        if not _ROUTING_CHARACTERS.isdisjoint(local):
            return _ROUTED
        return None

    def suppressed(self, policy: SourcePolicy, address: str) -> Reply | None:
        """Why this client may not send to a recipient that it might send to otherwise."""
        if not policy.suppression_lists:
            return None
        return self._suppression.refusal(policy.suppression_lists, address)
