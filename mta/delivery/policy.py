"""What the configuration says about the wire between one queue and its receivers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mta.delivery.tls import TlsPolicy
from mta.delivery.wirelog import WireLog

if TYPE_CHECKING:
    from mta.config.settings import Settings

__all__ = ["DeliveryPolicy"]

MINUTE = 60.0


@dataclass(frozen=True, slots=True)
class DeliveryPolicy:
    """The directives that connections follow; lengths of time in seconds.

    `command_timeout` (smtp-multiple-line-response-timeout) holds for one reply as a whole, however slowly its
    bytes come in; its default is RFC 5321 4.5.3.2's for MAIL and RCPT. `auth_username` "" means no login.
    """

    connect_timeout: float = 2 * MINUTE
    greeting_timeout: float = 5 * MINUTE
    command_timeout: float = 5 * MINUTE
    data_send_timeout: float = 3 * MINUTE
    data_termination_timeout: float = 10 * MINUTE
    connection_idle_timeout: float = 0.0
    max_errors_per_connection: int = 0
    mx_connection_attempts: int = 10
    ignore_8bitmime: bool = False
    ignore_pipelining: bool = False
    ignore_dsn: bool = False
    tls: TlsPolicy = field(default_factory=TlsPolicy)
    auth_username: str = ""
    auth_password: str = field(default="", repr=False)
    use_unencrypted_plain_auth: bool = False
    bounce_upon_transfer_failure: bool = False
    assume_delivery_upon_data_termination_timeout: bool = False
    bare_553_means_invalid_mailbox: bool = True
    mx_unavailable_on_421: bool = False
    disabled_records: frozenset[str] = frozenset()
    removed_headers: frozenset[bytes] = frozenset()
    bcc_upon_delivery: str = ""
    type: str = "smtp"
    file_format: str = "newfile-plain"
    file_destination: str = ""
    command: str = ""
    keeps_case: bool = False
    discard_as_bounce: bool = False
    http_url: str = ""
    http_extra_headers: str = ""
    log: WireLog = field(default_factory=WireLog)
    allow_cancel_during_transfer: bool = True
    replaces_421: bool = False
    check_spf_outbound: bool = False
    ignore_chunking: bool = True
    pix_bug_workaround: bool = True
    bounce_upon_pix_transfer_failure: bool = False

    @classmethod
    def from_settings(cls, settings: Settings) -> DeliveryPolicy:
        """Read the effective settings of one queue."""

        def seconds(name: str, default: float) -> float:
            value = settings.interval(name)
            return default if value is None else float(value)

        return cls(
            connect_timeout=seconds("connect-timeout", 2 * MINUTE),
            greeting_timeout=seconds("smtp-greeting-timeout", 5 * MINUTE),
            command_timeout=seconds("smtp-multiple-line-response-timeout", 5 * MINUTE),
            data_send_timeout=seconds("data-send-timeout", 3 * MINUTE),
            data_termination_timeout=seconds("smtp-data-termination-timeout", 10 * MINUTE),
            connection_idle_timeout=seconds("connection-idle-timeout", 0.0),
            max_errors_per_connection=settings.integer("max-errors-per-connection"),
            mx_connection_attempts=max(1, settings.integer("mx-connection-attempts")),
            ignore_8bitmime=settings.boolean("ignore-8bitmime"),
            ignore_pipelining=settings.boolean("ignore-pipelining"),
            ignore_dsn=settings.boolean("ignore-dsn"),
            tls=TlsPolicy.from_settings(settings),
            auth_username=settings.text("auth-username"),
            auth_password=settings.text("auth-password"),
            use_unencrypted_plain_auth=settings.boolean("use-unencrypted-plain-auth"),
            bounce_upon_transfer_failure=settings.boolean("bounce-upon-transfer-failure"),
            assume_delivery_upon_data_termination_timeout=settings.boolean(
                "assume-delivery-upon-data-termination-timeout"
            ),
            bare_553_means_invalid_mailbox=settings.boolean("smtp-553-means-invalid-mailbox"),
            mx_unavailable_on_421=settings.boolean("smtp-421-means-mx-unavailable"),
            disabled_records=frozenset(settings.texts("disable-acct-records")),
            removed_headers=frozenset(
                name.rstrip(": ").lower().encode("utf-8") for name in settings.texts("remove-header")
            ),
            bcc_upon_delivery=settings.text("bcc-upon-delivery"),
            type=settings.text("type"),
            file_format=settings.text("file-format"),
            file_destination=settings.text("file-destination"),
            command=settings.text("command"),
            keeps_case=settings.boolean("macro-variables-preserve-case"),
            discard_as_bounce=settings.boolean("discard-as-bounce"),
            http_url=settings.text("http-delivery-url"),
            http_extra_headers=settings.text("http-delivery-extra-headers"),
            log=WireLog.from_settings(settings),
            allow_cancel_during_transfer=settings.boolean("allow-cancel-during-transfer"),
            ignore_chunking=settings.boolean("ignore-chunking"),
            check_spf_outbound=settings.boolean("check-spf-outbound"),
            pix_bug_workaround=settings.boolean("pix-bug-workaround"),
            bounce_upon_pix_transfer_failure=settings.boolean("bounce-upon-pix-transfer-failure"),
            replaces_421=settings.boolean("replace-smtp-421-service-response"),
        )
