from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.config.patterns import ReplyPattern, read_bounce_rule, read_reply_pattern
from mta.config.settings import Origin
from mta.queue.policy import QueuePolicy
from mta.queue.reaction import Measure, MeasureKind, Reaction, ReplyRules
from mta.smtp.reply import Reply
from mta.smtp.transaction import Stage

ORIGIN = Origin("test.conf", 1, "")
DELIVERED, FAILED = Reaction.DELIVERED, Reaction.FAILED
RETRY_RECIPIENT, RETRY_QUEUE = Reaction.RETRY_RECIPIENT, Reaction.RETRY_QUEUE


def rules(*patterns: str, **settings: bool) -> ReplyRules:
    return ReplyRules(
        QueuePolicy(**settings),  # type: ignore[arg-type]
        [read_reply_pattern("reply", pattern, ORIGIN) for pattern in patterns],
    )


@pytest.mark.parametrize(
    ("stage", "code", "reaction"),
    [
        (Stage.END, 250, DELIVERED),
        (Stage.RCPT, 550, FAILED),
        (Stage.MAIL, 553, FAILED),
        (Stage.END, 554, FAILED),
        (None, 554, FAILED),
        (Stage.RCPT, 450, RETRY_RECIPIENT),
        (Stage.DATA, 451, RETRY_RECIPIENT),
        (Stage.END, 452, RETRY_RECIPIENT),
        (Stage.MAIL, 451, RETRY_QUEUE),
        (None, 450, RETRY_QUEUE),
        (Stage.RCPT, 421, RETRY_QUEUE),
        (Stage.END, 421, RETRY_QUEUE),
    ],
)
def test_plain_replies(stage: Stage | None, code: int, reaction: Reaction) -> None:
    assert rules().judge(stage, Reply(code, "text")).reaction is reaction


def test_a_refusing_greeting_is_temporary_where_that_is_wanted() -> None:
    judgement = rules(bounce_upon_5xx_greeting=False).judge(None, Reply(554, "go away"))
    assert judgement.reaction is RETRY_QUEUE


def test_the_first_pattern_that_matches_decides() -> None:
    judge = rules("/too fast/ mode=backoff", "/./ bounce-rcpt").judge
    found = judge(Stage.RCPT, Reply(450, "4.2.1 You are TOO FAST"))

    assert found.reaction is RETRY_RECIPIENT
    assert found.measures == (Measure(MeasureKind.BACKOFF),)
    assert judge(Stage.RCPT, Reply(450, "busy")).reaction is FAILED


def test_actions_add_up_and_keep_their_lengths() -> None:
    found = rules(
        "/blocked/ mode=backoff,backoff-to-normal-after=2h,disable-source-ip,reenable-after=1d,defer-queue"
    ).judge(Stage.RCPT, Reply(550, "blocked"))

    assert found.reaction is RETRY_QUEUE
    assert found.measures == (
        Measure(MeasureKind.BACKOFF, 7200.0),
        Measure(MeasureKind.DISABLE_SOURCE, 86400.0),
    )


@pytest.mark.parametrize(
    ("action", "reaction", "kinds"),
    [
        ("mode=normal", RETRY_RECIPIENT, [MeasureKind.NORMAL]),
        ("bounce-queue", FAILED, [MeasureKind.BOUNCE_QUEUE]),
        ("bounce-rcpt", FAILED, []),
        ("defer-queue", RETRY_QUEUE, []),
        ("skip-mx", Reaction.RETRY_NOW, []),
    ],
)
def test_every_action_has_its_effect(action: str, reaction: Reaction, kinds: list[MeasureKind]) -> None:
    found = rules(f"/x/ {action}").judge(Stage.RCPT, Reply(450, "x"))

    assert found.reaction is reaction
    assert [measure.kind for measure in found.measures] == kinds
    assert found.skips_host is (action == "skip-mx")


def test_patterns_of_connections_see_errors_of_connections_only() -> None:
    patterns = [
        read_reply_pattern("connect", "/timed out/ mode=backoff", ORIGIN),
        read_reply_pattern("reply", "/./ bounce-rcpt", ORIGIN),
    ]
    judge = ReplyRules(QueuePolicy(), patterns)

    found = judge.judge_connection("connection timed out")
    assert (found.reaction, found.measures) == (RETRY_QUEUE, (Measure(MeasureKind.BACKOFF),))
    assert judge.judge_connection("refused").reaction is RETRY_QUEUE


@pytest.mark.parametrize(
    ("action", "reaction", "wants_dsn"),
    [
        ("delete", FAILED, False),
        ("bounce", FAILED, True),
        ("retry", RETRY_RECIPIENT, True),
        ("backoff", RETRY_RECIPIENT, True),
    ],
)
def test_bounce_rules_see_status_and_reply(action: str, reaction: Reaction, wants_dsn: bool) -> None:
    rule: ReplyPattern = read_bounce_rule(rf'"5\.2\.2" action {action}', ORIGIN)
    judge = ReplyRules(QueuePolicy(), (), [rule]).judge

    found = judge(Stage.RCPT, Reply(550, "5.2.2 mailbox full", "5.2.2"))
    assert (found.reaction, found.wants_dsn) == (reaction, wants_dsn)
    assert [measure.kind for measure in found.measures] == (
        [MeasureKind.BACKOFF] if action == "backoff" else []
    )
    assert judge(Stage.RCPT, Reply(550, "5.1.1 unknown", "5.1.1")).reaction is FAILED


def test_a_status_is_made_up_for_replies_without_one() -> None:
    rule = read_bounce_rule(r'"^5\.0\.0 550" action delete', ORIGIN)
    assert not ReplyRules(QueuePolicy(), (), [rule]).judge(Stage.RCPT, Reply(550, "no")).wants_dsn


@given(
    code=st.integers(400, 499),
    text=st.text(max_size=50),
    stage=st.sampled_from([None, Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.END]),
)
def test_a_temporary_reply_never_fails_anybody_by_itself(code: int, text: str, stage: Stage | None) -> None:
    assert rules().judge(stage, Reply(code, text)).reaction in (RETRY_RECIPIENT, RETRY_QUEUE)


@given(code=st.integers(0, 1000), text=st.text(max_size=50))
def test_a_code_out_of_range_is_temporary(code: int, text: str) -> None:
    found = rules().judge(Stage.RCPT, Reply(code, text))
    if not 200 <= code < 400 and not 500 <= code < 600:
        assert found.reaction in (RETRY_RECIPIENT, RETRY_QUEUE)
