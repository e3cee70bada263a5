"""Delivery policies from the configuration."""

from __future__ import annotations

from mta.config.load import load_text
from mta.delivery.policy import DeliveryPolicy


def policy_of(lines: str, domain: str = "example.net") -> DeliveryPolicy:
    loaded = load_text(f"<domain *>\n{lines}\n</domain>\n")
    assert loaded.snapshot is not None, loaded.problems
    return DeliveryPolicy.from_settings(loaded.snapshot.effective(domain, "v1"))


def test_the_defaults_of_the_table_are_those_of_the_class() -> None:
    assert policy_of("") == DeliveryPolicy()


def test_every_directive_finds_its_field() -> None:
    policy = policy_of(
        """
        connect-timeout 1s
        smtp-greeting-timeout 2s
        smtp-multiple-line-response-timeout 3s
        data-send-timeout 4s
        smtp-data-termination-timeout 5s
        connection-idle-timeout 6s
        max-errors-per-connection 7
        mx-connection-attempts 8
        ignore-8bitmime yes
        ignore-pipelining yes
        ignore-dsn yes
        auth-username user
        auth-password secret
        use-unencrypted-plain-auth yes
        bounce-upon-transfer-failure yes
        assume-delivery-upon-data-termination-timeout yes
        smtp-553-means-invalid-mailbox no
        smtp-421-means-mx-unavailable yes
        disable-acct-records d,tq
        """
    )

    assert policy == DeliveryPolicy(
        connect_timeout=1.0,
        greeting_timeout=2.0,
        command_timeout=3.0,
        data_send_timeout=4.0,
        data_termination_timeout=5.0,
        connection_idle_timeout=6.0,
        max_errors_per_connection=7,
        mx_connection_attempts=8,
        ignore_8bitmime=True,
        ignore_pipelining=True,
        ignore_dsn=True,
        auth_username="user",
        auth_password="secret",
        use_unencrypted_plain_auth=True,
        bounce_upon_transfer_failure=True,
        assume_delivery_upon_data_termination_timeout=True,
        bare_553_means_invalid_mailbox=False,
        mx_unavailable_on_421=True,
        disabled_records=frozenset({"d", "tq"}),
    )


def test_a_password_is_not_shown() -> None:
    assert "secret" not in repr(policy_of("auth-username user\nauth-password secret"))
