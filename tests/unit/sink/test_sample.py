"""The demonstration's mail."""

from __future__ import annotations

import email
import email.policy
from collections import Counter
from datetime import UTC, datetime

from mta.sink.sample import DOMAINS, make_message, sample_messages


def test_same_numbers_give_the_same_messages() -> None:
    when = datetime(2026, 11, 21, tzinfo=UTC)

    assert list(sample_messages(30, when=when)) == list(sample_messages(30, when=when))


def test_every_domain_gets_about_its_share() -> None:
    counted = Counter(
        recipient.rpartition("@")[2] for message in sample_messages(2000) for recipient in message.recipients
    )

    total = sum(counted.values())
    for domain in DOMAINS:
        assert abs(counted[domain.name] / total - domain.share / 100) < 0.02
    assert sum(domain.share for domain in DOMAINS) == 100


def test_recipients_are_all_different() -> None:
    everybody = [recipient for message in sample_messages(2000) for recipient in message.recipients]

    assert len(everybody) == len(set(everybody)) > 2200


def test_messages_differ_in_size_audience_and_alphabet() -> None:
    messages = list(sample_messages(400))

    assert {len(message.recipients) for message in messages} == {1, 2, 3, 4, 5}
    assert max(len(message.content) for message in messages) > 300_000
    assert min(len(message.content) for message in messages) < 2_000
    assert 0 < sum(message.needs_smtputf8 for message in messages) < 40


def test_wire_form_is_clean_and_parses() -> None:
    for message in sample_messages(60):
        assert b"\n" not in message.content.replace(b"\r\n", b"")
        assert b"\r" not in message.content.replace(b"\r\n", b"")
        assert max(map(len, message.content.split(b"\r\n"))) < 998
        parsed = email.message_from_bytes(message.content, policy=email.policy.SMTPUTF8)
        assert parsed["Message-ID"] == message.message_id
        assert parsed["Subject"]


def test_digest_is_that_of_the_body_alone() -> None:
    one, other = make_message(7, "a date"), make_message(7, "another date")

    assert one.content != other.content
    assert one.digest == other.digest
