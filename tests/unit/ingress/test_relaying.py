"""Who may send where: 40 ways to ask for a relay, and the settings of a source."""

from __future__ import annotations

import pytest

from mta.config.units import Rate
from mta.ingress.relaying import RECIPIENT_CEILING, RelayRules, SourcePolicy
from mta.smtp.address import parse_path, split_domain
from tests.support.inbound import snapshot_of

CLOSED = "always-allow-relaying no"

#: What testers of open relays send, as RCPT TO.
PROBES = [
    "<victim@example.net>",
    "<victim@EXAMPLE.NET>",
    "<victim@sub.example.net>",
    "<victim@[192.0.2.1]>",
    "<victim@[127.0.0.1]>",
    "<victim@[IPv6:2001:db8::1]>",
    '<"victim@example.net">',
    '<"victim@example.net"@relay.example>',
    '<"victim%example.net"@relay.example>',
    '<"example.net!victim"@relay.example>',
    '<"victim"@example.net>',
    "<victim%example.net@relay.example>",
    "<victim%example.net@mx.test>",
    "<victim%example.net@[127.0.0.1]>",
    "<victim%example.net>",
    "<example.net!victim>",
    "<example.net!victim@relay.example>",
    "<example.net!victim@mx.test>",
    "<example.net!victim%x@relay.example>",
    "<@relay.example:victim@example.net>",
    "<@mx.test:victim@example.net>",
    "<@relay.example,@mx.test:victim@example.net>",
    "<@[127.0.0.1]:victim@example.net>",
    "<@relay.example:victim%example.net@relay.example>",
    "<victim@example.net@relay.example>",
    "<victim@relay.example@example.net>",
    "<victim@example.net%relay.example>",
    "<victim@example.net.>",
    "<victim@relay.example.>",
    "<victim@.relay.example>",
    "<victim@xrelay.example>",
    "<victim@relay.example.example.net>",
    "<victim@relay.examplex>",
    "<victim >",
    "victim@example.net",
    "<>",
    "< victim@example.net>",
    "<victim@example.net",
    "<<victim@example.net>>",
    "<victim@example.net>\x00",
    "<relay.example@example.net>",
    "<victim\\@example.net@relay.example>",
]


@pytest.mark.parametrize("probe", PROBES)
def test_no_probe_finds_a_relay(probe: str) -> None:
    rules = RelayRules(snapshot_of("relay-domain relay.example", source=CLOSED))
    path = parse_path(probe.encode())

    if path is not None and path.address:
        refusal = rules.refusal(SourcePolicy(), path.address, split_domain(path.address))
        assert refusal is not None
        assert refusal.code == 550
        assert refusal.enhanced == "5.7.1"


@pytest.mark.parametrize(
    "address",
    ["user@relay.example", "User@Relay.Example", "user@mx.test", "boss@example.net", "vip7@example.org"],
)
def test_declared_domains_and_addresses_are_open_to_everybody(address: str) -> None:
    snapshot = snapshot_of(
        "relay-domain relay.example\nrelay-address boss@example.net\nrelay-address /^vip[0-9]+@/",
        source=CLOSED,
    )

    assert RelayRules(snapshot).refusal(SourcePolicy(), address, split_domain(address)) is None


def test_trusted_source_may_send_everywhere() -> None:
    rules = RelayRules(snapshot_of())

    for address in ("anybody@example.net", "a%b@example.net", "user@[192.0.2.1]"):
        assert rules.refusal(SourcePolicy(allow_relaying=True), address, split_domain(address)) is None
    refusal = rules.refusal(SourcePolicy(allow_relaying=True), "nodomain", "")
    assert refusal is not None
    assert refusal.enhanced == "5.1.2"


def test_nothing_configured_relays_nothing() -> None:
    policy = SourcePolicy.from_settings(snapshot_of(source="").source("127.0.0.1"))

    assert policy.allow_relaying is False
    assert RelayRules(snapshot_of(source="")).refusal(policy, "postmaster", "") is not None


def test_relay_debug_refuses_for_now_only() -> None:
    rules = RelayRules(snapshot_of("relay-debug yes", source=CLOSED))
    refusal = rules.refusal(SourcePolicy(), "a@example.net", "example.net")

    assert refusal is not None
    assert (refusal.code, refusal.enhanced) == (451, "4.7.1")


def test_policy_has_what_the_operator_wrote() -> None:
    source = """
        always-allow-relaying yes
        require-auth yes
        smtp-max-auth-failure-rate 5/10min
        max-message-size 10M
        max-rcpt-per-message 50
        max-message-hops 7
        smtp-command-timeout 30s
        smtp-data-timeout 1m
        default-virtual-mta vmta1
        process-x-virtual-mta yes
        process-x-job yes
        retain-x-job yes
        process-x-envid yes
        jobid-header X-Campaign:
        remove-received-headers yes
        hide-message-source yes
        add-date-header override
        suppress-local-dsn yes
    """
    policy = SourcePolicy.from_settings(
        snapshot_of("<virtual-mta vmta1>\n</virtual-mta>", source=source).source("192.0.2.1")
    )

    assert policy.require_auth
    assert policy.max_auth_failures == Rate(5, 600.0)
    assert policy.max_message_size == 10 * 1024 * 1024
    assert policy.max_recipients == 50
    assert policy.max_message_hops == 7
    assert (policy.command_timeout, policy.data_timeout) == (30.0, 60.0)
    assert policy.default_vmta == "vmta1"
    assert policy.job_header == "x-campaign"
    assert policy.hide_source
    assert policy.suppress_dsn
    assert policy.stripped == {b"x-virtual-mta", b"x-envid", b"received", b"date"}


def test_default_policy_is_that_of_an_empty_source() -> None:
    assert SourcePolicy.from_settings(snapshot_of(source="").source("192.0.2.1")) == SourcePolicy()


@pytest.mark.parametrize(
    ("written", "limit"),
    [("0", RECIPIENT_CEILING), ("unlimited", RECIPIENT_CEILING), ("999999", RECIPIENT_CEILING), ("3", 3)],
)
def test_recipients_always_have_a_ceiling(written: str, limit: int) -> None:
    settings = snapshot_of(source=f"max-rcpt-per-message {written}").source("192.0.2.1")

    assert SourcePolicy.from_settings(settings).max_recipients == limit
