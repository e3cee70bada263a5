"""What receivers say lands in the category that a bounce handler can act on."""

from __future__ import annotations

from pathlib import Path

import pytest

from mta.config.categories import default_categories, default_text
from mta.config.load import load_text
from mta.config.regex import Pattern, compile_pattern

REPLIES = Path(__file__).with_name("receiver_replies.txt")

#: Every category that accounting may show (docs/accounting.md).
CATEGORIES = {
    "bad-configuration",
    "bad-connection",
    "bad-domain",
    "bad-mailbox",
    "content-related",
    "inactive-mailbox",
    "invalid-sender",
    "message-expired",
    "no-answer-from-host",
    "other",
    "policy-related",
    "protocol-errors",
    "quota-issues",
    "relaying-issues",
    "routing-errors",
    "spam-related",
    "success",
    "virus-related",
}


def replies() -> list[tuple[str, str, str]]:
    """Expected category, status and reply of each line of receiver_replies.txt."""
    lines = (line for line in REPLIES.read_text().splitlines() if line and not line.startswith("#"))
    found = []
    for line in lines:
        category, status, reply = (part.strip() for part in line.split(" | ", 2))
        found.append((category, status, reply))
    return found


@pytest.fixture(scope="module")
def patterns() -> list[tuple[Pattern, str]]:
    return [(compile_pattern(found.regex), found.category) for found in default_categories()]


def category_of(patterns: list[tuple[Pattern, str]], subject: str) -> str:
    return next(category for pattern, category in patterns if pattern.search(subject))


def test_there_are_enough_replies_to_judge_by() -> None:
    assert len(replies()) >= 80
    assert {category for category, _, _ in replies()} == CATEGORIES


@pytest.mark.parametrize(("category", "status", "reply"), replies())
def test_reply_lands_in_its_category(
    patterns: list[tuple[Pattern, str]], category: str, status: str, reply: str
) -> None:
    assert category_of(patterns, f"{status};{reply}") == category


@pytest.mark.parametrize(("category", "status", "reply"), replies())
def test_prefix_that_accounting_puts_before_a_reply_changes_nothing(
    patterns: list[tuple[Pattern, str]], category: str, status: str, reply: str
) -> None:
    assert category_of(patterns, f"{status};smtp;{reply}") == category


def test_only_known_categories_are_given(patterns: list[tuple[Pattern, str]]) -> None:
    assert {category for _, category in patterns} == CATEGORIES


def test_every_default_pattern_runs_in_linear_time(patterns: list[tuple[Pattern, str]]) -> None:
    assert [pattern.source for pattern, _ in patterns if not pattern.is_linear] == []


def test_last_pattern_catches_everything_and_only_the_last(patterns: list[tuple[Pattern, str]]) -> None:
    catching = [index for index, (pattern, _) in enumerate(patterns) if pattern.search("")]

    assert catching == [len(patterns) - 1]
    assert patterns[-1][1] == "other"


@pytest.mark.parametrize(
    "reply",
    [
        "550 5.1.1 <jo@example.com>: Recipient address rejected",
        "550 5.7.1 No such user, by policy",
        "550 5.4.1 Recipient address rejected: Access denied",
    ],
)
def test_refusal_in_generic_words_is_still_a_bad_mailbox(
    patterns: list[tuple[Pattern, str]], reply: str
) -> None:
    status = reply.split()[1]

    assert category_of(patterns, f"{status};{reply}") == "bad-mailbox"


@pytest.mark.parametrize(
    "reply",
    [
        "550 5.7.1 Service unavailable, client [192.0.2.1] is on our block list (S3140)",
        "554 5.7.1 rejected: 192.0.2.1 is listed at dnsbl.example.net",
        "550 5.7.26 unauthenticated mail is not accepted",
        "550 5.2.1 receiving mail at a rate that prevents additional messages",
    ],
)
def test_refusal_of_the_sender_never_condemns_the_mailbox(
    patterns: list[tuple[Pattern, str]], reply: str
) -> None:
    status = reply.split()[1]

    assert category_of(patterns, f"{status};{reply}") not in {"bad-mailbox", "bad-domain", "inactive-mailbox"}


def test_the_default_list_can_be_copied_into_a_configuration() -> None:
    text = default_text()

    assert text.count("<bounce-category-patterns>") == 2  # once in the comment, once as the tag
    assert text.rstrip().endswith("</bounce-category-patterns>")
    hidden = [line for line in text.splitlines() if line.strip().startswith("/") and "#" in line]
    assert hidden == []  # a comment sign would cut the regex


def test_copied_list_reads_the_same_as_the_default() -> None:
    loaded = load_text(default_text())

    assert loaded.snapshot is not None
    assert [str(problem) for problem in loaded.problems] == []
    copied = [(found.regex, found.category) for found in loaded.snapshot.bounce_categories()]
    assert copied == [(found.regex, found.category) for found in default_categories()]
