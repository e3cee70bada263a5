"""What is shipped about receivers: it loads, nothing in it is hidden, and it reacts as they ask for."""

from __future__ import annotations

from pathlib import Path

import pytest

from mta.config.load import load_text
from mta.config.rollups import match_rollup
from mta.config.shadows import hidden_patterns, rollups_without_way
from mta.config.snapshot import Snapshot

CONF = Path(__file__).resolve().parents[3] / "conf"


@pytest.fixture(scope="module")
def snapshot() -> Snapshot:
    loaded = load_text(f"include {CONF}/replies.conf\ninclude {CONF}/providers.conf\n")
    assert loaded.snapshot is not None, loaded.problems
    assert [str(problem) for problem in loaded.problems] == []
    return loaded.snapshot


def reaction(snapshot: Snapshot, reply: str) -> list[str]:
    """The actions of the first line that matches."""
    for entry in snapshot.reply_patterns("replies"):
        if entry.regex.search(reply):
            return [action.name for action in entry.actions]
    return []


def test_no_line_is_hidden_and_every_roll_up_has_a_way(snapshot: Snapshot) -> None:
    assert [problem.text for problem in hidden_patterns(snapshot)] == []
    assert [problem.text for problem in rollups_without_way(snapshot)] == []


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (
            "421 4.7.28 Our system has detected an unusual rate of mail originating from your IP address",
            "mode=backoff",
        ),
        ("550 5.7.1 Unfortunately, messages from [192.0.2.1] weren't sent (S3150).", "disable-source-ip"),
        ("451 4.7.650 The mail server [192.0.2.1] has been temporarily rate limited", "mode=backoff"),
        ("421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred", "mode=backoff"),
        ("553 5.7.1 [BL21] Connections will not be accepted", "disable-source-ip"),
        ("554 5.7.1 Service unavailable; blocked using zen.spamhaus.org", "disable-source-ip"),
        ("421 4.7.0 mx.example Error: too many connections from 192.0.2.1", "mode=backoff"),
    ],
)
def test_blocks_and_limits_slow_the_queue_or_rest_the_address(
    snapshot: Snapshot, reply: str, expected: str
) -> None:
    assert reaction(snapshot, reply)[:1] == [expected]


@pytest.mark.parametrize(
    "reply",
    [
        "550 5.1.1 The email account that you tried to reach does not exist",
        "452 4.2.2 The recipient's inbox is out of storage space",
        "450 4.2.1 The user you are trying to contact is receiving mail too quickly",
        "450 4.2.0 Recipient address rejected: Greylisted",
    ],
)
def test_a_word_about_one_mailbox_changes_nothing_for_the_others(snapshot: Snapshot, reply: str) -> None:
    assert reaction(snapshot, reply) == []


def test_a_limit_that_comes_as_a_permanent_code_is_tried_again(snapshot: Snapshot) -> None:
    assert "defer-queue" in reaction(snapshot, "550 Ip frequency limited. http://service.mail.qq.com")


def test_no_reaction_fails_a_recipient_or_a_queue(snapshot: Snapshot) -> None:
    names = {action.name for entry in snapshot.reply_patterns("replies") for action in entry.actions}

    assert names <= {"mode=backoff", "disable-source-ip", "defer-queue"}


@pytest.mark.parametrize(
    ("host", "name", "connections"),
    [
        ("gmail-smtp-in.l.google.com", "google.rollup", 5),
        ("aspmx.l.google.com", "google.rollup", 5),
        ("hotmail-com.olc.protection.outlook.com", "outlook.rollup", 5),
        ("mta5.am0.yahoodns.net", "yahoo.rollup", 10),
        ("mx01.mail.icloud.com", "apple.rollup", 10),
        ("smtp-in.orange.fr", "orange.rollup", 2),
        ("mx00.gmx.net", "gmx.rollup", 4),
    ],
)
def test_domains_are_rolled_up_by_their_hosts_with_limits_of_their_own(
    snapshot: Snapshot, host: str, name: str, connections: int
) -> None:
    rollup = match_rollup(snapshot.rollups, [host])

    assert rollup is not None
    assert rollup.name == name
    settings = snapshot.effective(name, "{default}")
    assert settings.integer("max-smtp-out") == connections
    assert settings.text("smtp-pattern-list") == "replies"


def test_tenants_of_a_shared_service_keep_their_own_queues(snapshot: Snapshot) -> None:
    for host in ("example-com.mail.protection.outlook.com", "mx1.example.pphosted.com"):
        assert match_rollup(snapshot.rollups, [host]) is None
