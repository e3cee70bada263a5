from __future__ import annotations

from mta.config.load import load_text
from mta.config.snapshot import Snapshot
from mta.config.units import Rate
from mta.queue.policy import UNLIMITED, QueuePolicy, VmtaPolicy

CONFIG = """
<domain *>
    max-smtp-out 5
    max-msg-rate 100/h
    max-connect-rate 10/m
    retry-after 10m,20m,1h
    retry-recipients-after 5m
    bounce-after 2d
    max-msg-per-connection 50
    backoff-retry-after 90m
    backoff-max-smtp-out 2
    backoff-to-normal-after 3h
    source-ip-max-smtp-out 192.0.2.0/24 3
</domain>
<domain slow.example>
    backoff-max-msg-rate 1/m
    backoff-to-normal-after never
    max-retries 3
    initial-pts 30
    max-pts 120
    max-rcpt-per-message 0
</domain>
<virtual-mta v1>
    smtp-source-host 192.0.2.1 one.example
    smtp-source-host 192.0.2.2 two.example
    max-smtp-out 30
    max-smtp-msg-rate 1000/m
</virtual-mta>
<virtual-mta v2>
</virtual-mta>
"""


def snapshot() -> Snapshot:
    loaded = load_text(CONFIG)
    assert loaded.snapshot is not None, loaded.problems
    return loaded.snapshot


def test_a_queue_reads_its_effective_settings() -> None:
    policy = QueuePolicy.from_settings(snapshot().effective("a.example", "v1"))

    assert (policy.max_smtp_out, policy.max_msg_per_connection) == (5, 50)
    assert (policy.max_msg_rate, policy.max_connect_rate) == (Rate(100, 3600), Rate(10, 60))
    assert policy.retry_after == (600.0, 1200.0, 3600.0)
    assert (policy.retry_recipients_after, policy.bounce_after) == (300.0, 172800.0)
    assert policy.max_retries == 0
    assert policy.source_ip_max_smtp_out[0].limit == 3


def test_backoff_falls_back_on_the_normal_rates() -> None:
    policy = QueuePolicy.from_settings(snapshot().effective("a.example", "v1"))
    backoff = policy.in_backoff()

    assert (backoff.max_smtp_out, backoff.max_msg_rate) == (2, Rate(100, 3600))
    assert (backoff.retry_after, policy.backoff_to_normal_after) == ((5400.0,), 10800.0)


def test_backoff_may_have_rates_of_its_own() -> None:
    policy = QueuePolicy.from_settings(snapshot().effective("slow.example", "v1"))

    assert policy.in_backoff().max_msg_rate == Rate(1, 60)
    assert policy.backoff_to_normal_after is None


def test_penalties_replace_the_retry_list() -> None:
    policy = QueuePolicy.from_settings(snapshot().effective("slow.example", "v1"))

    assert policy.retry_after == (30.0, 60.0, 120.0)
    assert (policy.initial_pts, policy.max_pts, policy.max_retries) == (30.0, 120.0, 3)
    assert policy.max_rcpt_per_message == UNLIMITED


def test_defaults_are_those_of_the_table() -> None:
    loaded = load_text("")
    assert loaded.snapshot is not None
    assert QueuePolicy.from_settings(loaded.snapshot.effective("a.example", "{default}")) == QueuePolicy()


def test_a_virtual_mta_brings_its_sources_and_its_limits() -> None:
    policy = VmtaPolicy.from_vmta(snapshot().vmtas["v1"])

    assert [(source.ip, source.host_name) for source in policy.sources] == [
        ("192.0.2.1", "one.example"),
        ("192.0.2.2", "two.example"),
    ]
    assert (policy.max_smtp_out, policy.max_smtp_msg_rate) == (30, Rate(1000, 60))


def test_a_virtual_mta_without_sources_leaves_them_to_the_system() -> None:
    policy = VmtaPolicy.from_vmta(snapshot().vmtas["v2"])

    assert [source.ip for source in policy.sources] == [""]
    assert policy.max_smtp_out == UNLIMITED
