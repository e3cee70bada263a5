"""One transaction: what is written, which reply belongs to what, and what each recipient gets."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.errors import LocalProtocolError, RemoteProtocolError
from mta.smtp.extensions import PLAIN_SMTP, Extensions
from mta.smtp.reply import Reply
from mta.smtp.status import find_enhanced
from mta.smtp.transaction import Fate, Move, Outcome, Stage, Transaction, internal_reply

PIPELINING = Extensions(pipelining=True)
LOST = internal_reply(451, "4.4.2", "connection lost")


@dataclass
class Rcpt:
    address: str
    notify: int = 0
    orcpt: str = ""


@dataclass
class Env:
    originator: str = "a@example.com"
    envelope_id: str = ""
    ret: int = 0
    is_8bit: bool = False
    is_smtputf8: bool = False


def begin(
    *addresses: str, extensions: Extensions = PIPELINING, envelope: Env | None = None, size: int = 100
) -> Transaction:
    recipients = [Rcpt(address) for address in addresses or ("b@example.net",)]
    return Transaction(envelope or Env(), recipients, size, extensions)


def reply(line: str) -> Reply:
    code, _, text = line.partition(" ")
    return Reply(int(code), text, find_enhanced(text))


def drive(transaction: Transaction, *lines: str) -> list[Move]:
    """Start, feed the replies, and play the session's part (the body is written at once)."""
    transaction.start()
    moves = []
    for line in lines:
        moves.append(transaction.receive(reply(line)))
        if moves[-1] is Move.BODY:
            transaction.is_body_sent = True
    return moves


def fates(transaction: Transaction) -> list[str]:
    return [outcome.fate.value for outcome in transaction.outcomes]


# -- what is written ---------------------------------------------------------------------------------------


def test_with_pipelining_the_whole_envelope_is_one_write() -> None:
    transaction = begin("b@example.net", "c@example.net")

    assert transaction.start() == (
        b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.net>\r\nRCPT TO:<c@example.net>\r\nDATA\r\n"
    )


def test_without_pipelining_each_command_waits_for_the_reply_before() -> None:
    transaction = begin("b@example.net", "c@example.net", extensions=PLAIN_SMTP)

    assert transaction.start() == b"MAIL FROM:<a@example.com>\r\n"
    assert transaction.receive(reply("250 ok")) is Move.WRITE
    assert transaction.take_command() == b"RCPT TO:<b@example.net>\r\n"
    assert transaction.receive(reply("250 ok")) is Move.WRITE
    assert transaction.take_command() == b"RCPT TO:<c@example.net>\r\n"
    assert transaction.receive(reply("250 ok")) is Move.WRITE
    assert transaction.take_command() == b"DATA\r\n"
    assert transaction.receive(reply("354 go")) is Move.BODY


def test_parameters_are_given_when_offered() -> None:
    envelope = Env(envelope_id="Q 1+1", ret=2, is_8bit=True, is_smtputf8=True)
    offers = Extensions(has_size=True, eightbitmime=True, smtputf8=True, dsn=True, pipelining=True)
    recipients = [
        Rcpt("b@example.net", notify=2 | 4, orcpt="rfc822;b+x@example.net"),
        Rcpt("c@example.net", notify=1),
    ]
    transaction = Transaction(envelope, recipients, 1234, offers)

    assert transaction.start().decode() == (
        "MAIL FROM:<a@example.com> SIZE=1234 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=Q+201+2B1\r\n"
        "RCPT TO:<b@example.net> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;b+2Bx@example.net\r\n"
        "RCPT TO:<c@example.net> NOTIFY=NEVER\r\n"
        "DATA\r\n"
    )


def test_parameters_are_left_out_when_not_offered() -> None:
    envelope = Env(envelope_id="Q1", ret=1, is_8bit=True)
    transaction = Transaction(envelope, [Rcpt("b@example.net", 2, "rfc822;x@y")], 1234, PIPELINING)

    assert transaction.start() == b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.net>\r\nDATA\r\n"


def test_the_null_return_path_is_empty_brackets() -> None:
    assert begin(envelope=Env(originator="")).start().startswith(b"MAIL FROM:<>\r\n")


def test_internationalised_addresses_travel_as_utf8_where_it_is_offered() -> None:
    offers = Extensions(pipelining=True, smtputf8=True)

    assert (
        "MAIL FROM:<a@example.com> SMTPUTF8\r\nRCPT TO:<bö@example.net>".encode()
        in begin("bö@example.net", extensions=offers).start()
    )


@pytest.mark.parametrize("extensions", [PIPELINING, PLAIN_SMTP])
@pytest.mark.parametrize(
    "address", ["b@x\r\nRSET", "b@x\nDATA", "b@x>\r\nRCPT TO:<evil@x", "b\0@x", "b@x\r", "b@x\n\r"]
)
def test_an_address_can_not_carry_a_command(address: str, extensions: Extensions) -> None:
    with pytest.raises(LocalProtocolError):
        begin(address, extensions=extensions).start()
    with pytest.raises(LocalProtocolError):
        begin(envelope=Env(originator=address), extensions=extensions).start()


def test_a_message_over_the_offered_size_fails_without_being_tried() -> None:
    transaction = begin(extensions=Extensions(has_size=True, size=99, pipelining=True))

    assert transaction.start() == b""
    assert transaction.stage is Stage.DONE
    assert fates(transaction) == ["failed"]
    outcome = transaction.outcomes[0]
    assert outcome.reply.enhanced == "5.3.4"


def test_a_message_that_needs_smtputf8_fails_where_it_is_not_offered() -> None:
    for transaction in (begin("bö@example.net"), begin(envelope=Env(is_smtputf8=True))):
        assert transaction.start() == b""
        outcome = transaction.outcomes[0]
        assert (outcome.fate, outcome.reply.enhanced) == (Fate.FAILED, "5.6.7")


# -- which reply belongs to what ---------------------------------------------------------------------------


def test_a_plain_success_delivers_with_the_reply_to_the_dot() -> None:
    transaction = begin()

    moves = drive(transaction, "250 sender", "250 rcpt", "354 go", "250 2.0.0 queued")

    assert moves == [Move.WAIT, Move.WAIT, Move.BODY, Move.DONE]
    outcome = transaction.outcomes[0]
    assert outcome == Outcome(Fate.DELIVERED, reply("250 2.0.0 queued"), Stage.END)
    assert not transaction.needs_reset


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["250 m", "250 r", "250 r", "354 d", "250 q"], ["delivered", "delivered"]),
        (["250 m", "550 r", "250 r", "354 d", "250 q"], ["failed", "delivered"]),
        (["250 m", "250 r", "450 r", "354 d", "250 q"], ["delivered", "deferred"]),
        (["250 m", "251 r", "252 r", "354 d", "250 q"], ["delivered", "delivered"]),
        (["250 m", "550 r", "450 r", "354 d", "250 lone dot"], ["failed", "deferred"]),
        (["250 m", "550 r", "450 r", "354 d", "554 no recipients"], ["failed", "deferred"]),
        (["250 m", "550 r", "550 r", "503 d"], ["failed", "failed"]),
        (["250 m", "550 r", "250 r", "451 d"], ["failed", "deferred"]),
        (["250 m", "250 r", "450 r", "554 d"], ["failed", "deferred"]),
        (["250 m", "250 r", "250 r", "354 d", "451 q"], ["deferred", "deferred"]),
        (["250 m", "250 r", "550 r", "354 d", "550 q"], ["failed", "failed"]),
        (["451 m", "503 r", "503 r", "503 d"], ["deferred", "deferred"]),
        (["550 m", "503 r", "503 r", "503 d"], ["failed", "failed"]),
        (["550 m", "250 r", "250 r", "354 d", "250 lone dot"], ["failed", "failed"]),
        (["550 m", "421 r"], ["failed", "failed"]),
        (["250 m", "250 r", "452 4.5.3 too many", "354 d", "250 q"], ["delivered", "untried"]),
        (["250 m", "250 r", "552 too many", "354 d", "250 q"], ["delivered", "untried"]),
        (["250 m", "250 r", "552 5.2.2 full", "354 d", "250 q"], ["delivered", "failed"]),
        (["250 m", "250 r", "452 4.2.2 full", "354 d", "250 q"], ["delivered", "deferred"]),
        (["250 m", "452 4.5.3 too many", "250 r", "354 d", "250 q"], ["deferred", "delivered"]),
        (["250 m", "552 5.5.3 too many", "250 r", "354 d", "250 q"], ["deferred", "delivered"]),
        (["421 m"], ["deferred", "deferred"]),
        (["250 m", "550 r", "421 r"], ["failed", "deferred"]),
        (["250 m", "250 r", "421 r"], ["deferred", "deferred"]),
        (["250 m", "550 r", "250 r", "421 d"], ["failed", "deferred"]),
        (["250 m", "550 r", "250 r", "354 d", "421 q"], ["failed", "deferred"]),
    ],
)
def test_mixed_replies_give_each_recipient_its_own_result(lines: list[str], expected: list[str]) -> None:
    transaction = begin("b@example.net", "c@example.net")

    moves = drive(transaction, *lines)

    assert fates(transaction) == expected
    assert moves[-1] is Move.DONE
    assert transaction.stage is Stage.DONE


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["250 m", "250 r", "250 r", "354 d", "250 q"], ["delivered", "delivered"]),
        (["550 m"], ["failed", "failed"]),
        (["250 m", "550 r", "451 r"], ["failed", "deferred"]),
        (["250 m", "550 r", "250 r", "451 d"], ["failed", "deferred"]),
        (["250 m", "550 r", "250 r", "354 d", "250 q"], ["failed", "delivered"]),
        (["250 m", "421 r"], ["deferred", "deferred"]),
    ],
)
def test_results_are_the_same_without_pipelining(lines: list[str], expected: list[str]) -> None:
    transaction = begin("b@example.net", "c@example.net", extensions=PLAIN_SMTP)

    moves = drive(transaction, *lines)

    assert fates(transaction) == expected
    assert moves[-1] is Move.DONE


def test_nobody_accepted_but_354_is_answered_with_a_lone_dot() -> None:
    moves = drive(begin(), "250 m", "550 r", "354 d", "250 q")

    assert moves == [Move.WAIT, Move.WAIT, Move.LONE_DOT, Move.DONE]


@pytest.mark.parametrize(
    ("lines", "needs_reset"),
    [
        (["250 m", "250 r", "354 d", "550 q"], False),
        (["250 m", "550 r", "354 d", "250 q"], False),
        (["250 m", "550 r", "503 d"], True),
        (["250 m", "250 r", "451 d"], True),
        (["550 m", "503 r", "503 d"], True),
    ],
)
def test_a_transaction_without_a_dot_must_be_reset(lines: list[str], needs_reset: bool) -> None:
    transaction = begin()

    drive(transaction, *lines)

    assert transaction.needs_reset is needs_reset


@pytest.mark.parametrize(
    "lines",
    [
        ["354 m"],
        ["250 m", "354 r"],
        ["250 m", "250 r", "250 d"],
        ["250 m", "250 r", "334 d"],
        ["250 m", "250 r", "354 d", "354 q"],
        ["250 m", "250 r", "354 d", "250 q", "250 more"],
        ["250 m", "250 r", "354 d", "250 q", "421 more"],
        ["550 m", "503 r", "250 d"],
    ],
)
def test_a_reply_that_can_not_belong_to_its_command_breaks_the_connection(lines: list[str]) -> None:
    transaction = begin()

    with pytest.raises(RemoteProtocolError):
        drive(transaction, *lines)


CODES = [220, 250, 251, 354, 421, 450, 550]


@given(st.lists(st.sampled_from(CODES), min_size=3, max_size=3), st.integers(1, 2), st.booleans())
def test_short_cut_takes_exactly_what_one_by_one_would_lead_to_the_body(
    codes: list[int], count: int, pipelining: bool
) -> None:
    addresses = ["b@example.net", "c@example.net"][:count]
    offers = Extensions(pipelining=pipelining)
    quick, slow = begin(*addresses, extensions=offers), begin(*addresses, extensions=offers)
    replies = [Reply(code, "x") for code in codes]
    quick.start()

    if quick.receive_three(*replies):
        assert drive(slow, *map(str, replies)) == [Move.WAIT, Move.WAIT, Move.BODY]
        quick.is_body_sent = True
        assert (quick.stage, quick.receive(reply("250 2.0.0 ok"))) == (
            Stage.END,
            slow.receive(reply("250 ok")),
        )
        assert fates(quick) == fates(slow)
    else:
        assert (quick.stage, fates(quick)) == (Stage.MAIL, [])
        assert codes != [250, 250, 354] or count != 1 or not pipelining


def test_short_cut_is_for_the_beginning_only() -> None:
    transaction = begin()
    transaction.start()
    yes, go = Reply(250, "ok"), Reply(354, "go")
    assert transaction.receive_three(yes, yes, go)

    assert not transaction.receive_three(yes, yes, go)


def test_after_421_the_connection_closes() -> None:
    transaction = begin()

    drive(transaction, "250 m", "421 4.7.0 slow down")

    assert transaction.is_closing
    outcome = transaction.outcomes[0]
    assert outcome.reply.text == "4.7.0 slow down"


def test_a_refusal_in_the_middle_of_the_body_is_final_and_ends_the_connection() -> None:
    transaction = begin()
    drive(transaction, "250 m", "250 r", "354 d")
    transaction.is_body_sent = False

    assert transaction.receive(reply("552 5.3.4 too big")) is Move.DONE
    assert fates(transaction) == ["failed"]
    assert transaction.is_closing


def test_acceptance_in_the_middle_of_the_body_is_not_believed() -> None:
    transaction = begin()
    drive(transaction, "250 m", "250 r", "354 d")
    transaction.is_body_sent = False

    with pytest.raises(RemoteProtocolError):
        transaction.receive(reply("250 thanks"))


# -- when the connection goes ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], ["untried", "untried"]),
        (["250 m"], ["deferred", "deferred"]),
        (["250 m", "550 r"], ["failed", "deferred"]),
        (["250 m", "550 r", "250 r"], ["failed", "deferred"]),
        (["250 m", "550 r", "250 r", "354 d"], ["failed", "deferred"]),
        (["250 m", "550 r", "250 r", "354 d", "250 q"], ["failed", "delivered"]),
        (["550 m"], ["failed", "failed"]),
        (["250 m", "550 r", "550 r", "354 d"], ["failed", "failed"]),
    ],
)
def test_whoever_has_a_result_keeps_it_when_the_connection_goes(
    lines: list[str], expected: list[str]
) -> None:
    transaction = begin("b@example.net", "c@example.net")
    drive(transaction, *lines)

    transaction.lose(LOST, untried=True)

    assert fates(transaction) == expected
    assert transaction.stage is Stage.DONE


def test_a_fresh_connection_that_goes_without_a_word_counts_as_an_attempt() -> None:
    transaction = begin()
    drive(transaction)

    transaction.lose(LOST)

    assert fates(transaction) == ["deferred"]


def test_a_loss_after_the_dot_is_uncertain_and_before_it_is_not() -> None:
    for is_body_sent in (True, False):
        transaction = begin()
        drive(transaction, "250 m", "250 r", "354 d")
        transaction.is_body_sent = is_body_sent

        transaction.lose(LOST)

        outcome = transaction.outcomes[0]
        assert outcome == Outcome(Fate.DEFERRED, LOST, Stage.END, is_body_sent)


def test_the_operator_may_order_another_fate_for_a_loss_in_the_transfer() -> None:
    transaction = begin("b@example.net", "c@example.net")
    drive(transaction, "250 m", "250 r", "450 r", "354 d")

    transaction.lose(LOST, in_transfer=Fate.FAILED)

    assert fates(transaction) == ["failed", "deferred"]


# -- properties --------------------------------------------------------------------------------------------

CODES = st.sampled_from(
    [200, 220, 221, 250, 251, 252, 354, 334, 421, 450, 451, 452, 500, 503, 550, 552, 554, 571]
)


@given(st.integers(1, 4), st.booleans(), st.lists(CODES, max_size=9))
def test_any_replies_and_then_a_loss_give_everybody_exactly_one_result(
    recipients: int, pipelining: bool, codes: list[int]
) -> None:
    transaction = begin(
        *(f"r{n}@example.net" for n in range(recipients)), extensions=Extensions(pipelining=pipelining)
    )
    transaction.start()
    settled: dict[int, object] = {}
    for code in codes:
        try:
            move = transaction.receive(Reply(code, "x"))
        except RemoteProtocolError:
            break
        if move is Move.BODY:
            transaction.is_body_sent = True
        if move is Move.WRITE:
            assert transaction.take_command().endswith(b"\r\n")
        for index, outcome in enumerate(transaction.outcomes):
            assert settled.setdefault(index, outcome) == outcome
        if move is Move.DONE:
            break

    transaction.lose(LOST)

    assert len(transaction.outcomes) == recipients
    assert [settled.get(n, o) for n, o in enumerate(transaction.outcomes)] == transaction.outcomes


@given(st.lists(CODES, max_size=9))
def test_nothing_bounces_or_is_delivered_without_a_reply_that_says_so(codes: list[int]) -> None:
    transaction = begin("b@example.net", "c@example.net")
    transaction.start()
    try:
        for code in codes:
            if transaction.receive(Reply(code, "x")) is Move.BODY:
                transaction.is_body_sent = True
    except RemoteProtocolError:
        pass
    transaction.lose(LOST)

    for outcome in transaction.outcomes:
        if outcome.fate is Fate.FAILED:
            assert outcome.reply.is_permanent
        if outcome.fate is Fate.DELIVERED:
            assert outcome.reply.code // 100 == 2
            assert outcome.stage is Stage.END
        if outcome.reply.is_temporary:
            assert outcome.fate in (Fate.DEFERRED, Fate.UNTRIED)


@pytest.mark.parametrize("extensions", [PIPELINING, PLAIN_SMTP])
def test_in_chunks_the_content_follows_the_recipients_and_nobody_accepted_means_reset(
    extensions: Extensions,
) -> None:
    accepted = begin(extensions=extensions)
    accepted.in_chunks = True
    moves = drive(accepted, "250 ok", "250 ok", "250 2.0.0 done")
    refused = begin(extensions=extensions)
    refused.in_chunks = True
    drive(refused, "250 ok", "550 5.1.1 no")

    assert moves[1:] == [Move.BODY, Move.DONE]
    assert fates(accepted) == ["delivered"]
    assert b"DATA" not in begin_in_chunks(extensions)
    assert refused.needs_reset


def begin_in_chunks(extensions: Extensions) -> bytes:
    transaction = begin(extensions=extensions)
    transaction.in_chunks = True
    return transaction.start()
