"""The first words: what is said to which greeting and which answer, in whatever pieces they come."""

from __future__ import annotations

import pytest

from mta.smtp.extensions import PLAIN_SMTP
from mta.smtp.opening import REMEMBERED, REMEMBERED_LENGTH, Offers, Opening

ANSWER = b"250-mx.example.net at your service\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250 DSN\r\n"


def opening(offers: Offers | None = None) -> Opening:
    return Opening("out.example.com", Offers() if offers is None else offers)


@pytest.mark.parametrize("greeting", [b"220 hi\r\n", b"220-a\r\n220 b\r\n", b"220\r\n", b"220 \xff\xfe\r\n"])
def test_any_220_is_answered_with_our_name(greeting: bytes) -> None:
    one = opening()

    assert one.receive(greeting) == b"EHLO out.example.com\r\n"
    assert (one.awaits, one.is_ready) == ("EHLO", False)


@pytest.mark.parametrize("step", [1, 3, 1000])
def test_offers_are_understood_in_any_pieces(step: int) -> None:
    one = opening()
    sent = b"".join(one.receive(b"220 hi\r\n"[at : at + step]) for at in range(0, 8, step))
    sent += b"".join(one.receive(ANSWER[at : at + step]) for at in range(0, len(ANSWER), step))

    assert sent == b"EHLO out.example.com\r\n"
    assert one.is_ready
    assert one.extensions.offered == "PIPELINING,SIZE,DSN"


def test_what_was_said_before_is_recognised() -> None:
    offers = Offers()
    first, second = opening(offers), opening(offers)
    for one in (first, second):
        one.receive(b"220 hi\r\n")
        one.receive(ANSWER)

    assert second.is_ready
    assert second.extensions is first.extensions


def test_an_answer_in_pieces_is_not_remembered_as_its_end() -> None:
    offers = Offers()
    one = opening(offers)
    for piece in (b"220 hi\r\n", b"250-x\r\n", b"250 DSN\r\n"):
        one.receive(piece)

    assert one.is_ready
    assert len(offers) == 0


def test_memory_of_answers_is_bounded() -> None:
    offers = Offers()
    for number in range(REMEMBERED + 5):
        offers.keep(b"%d" % number, PLAIN_SMTP)
    offers.keep(b"x" * (REMEMBERED_LENGTH + 1), PLAIN_SMTP)

    assert len(offers) == REMEMBERED
    assert offers.get(b"4") is None
    assert offers.get(b"5") is PLAIN_SMTP


def test_helo_is_for_servers_that_know_no_ehlo() -> None:
    one = opening()
    one.receive(b"220 hi\r\n")

    assert one.receive(b"502 5.5.1 what?\r\n") == b"HELO out.example.com\r\n"
    assert one.receive(b"250 fine\r\n") == b""
    assert one.is_ready
    assert one.extensions is PLAIN_SMTP


@pytest.mark.parametrize(
    ("words", "failure", "is_refusal"),
    [
        ([b"554 5.7.1 blocked\r\n"], "554 5.7.1 blocked", True),
        ([b"421 4.7.0 busy\r\n250 x\r\n"], "421 4.7.0 busy", False),
        ([b"250 hi\r\n"], "451 4.5.0 [internal] protocol error: 250 hi", False),
        ([b"SSH-2.0\r\n"], "451 4.5.0 [internal] protocol error: not a reply: 'SSH-2.0'", False),
        ([b"220 a\r\n250 evil\r\n"], "451 4.4.2 [internal] the server spoke out of turn", False),
        ([b"220-a\r\n220 b\r\n2"], "451 4.4.2 [internal] the server spoke out of turn", False),
        ([b"220 a\r\n", b"451 4.3.0 later\r\n"], "451 4.3.0 later", False),
        ([b"220 a\r\n", b"354 go\r\n"], "451 4.5.0 [internal] protocol error: 354 go", False),
        ([b"220 a\r\n", b"550 no\r\n", b"550 5.7.1 never\r\n"], "550 5.7.1 never", False),
        ([b"220 a\r\n", b"500 no\r\n500 no\r\n"], "451 4.4.2 [internal] the server spoke out of turn", False),
        ([b"220 a\r\n", b"250 x\r\n", b"2"], "451 4.4.2 [internal] the server spoke out of turn", False),
    ],
)
def test_anything_else_is_a_failure(words: list[bytes], failure: str, is_refusal: bool) -> None:
    one = opening()
    sent = [one.receive(word) for word in words]

    assert str(one.failure) == failure
    assert one.is_refusal is is_refusal
    assert not one.is_ready
    assert sent[-1] == b""


@pytest.mark.parametrize("name", ["a\r\nMAIL FROM:<>", "bücher.example"])
def test_a_name_that_would_be_another_command_or_none_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no host name"):
        Opening(name, Offers())


def test_its_status_line_says_how_far_it_is() -> None:
    one = opening()
    assert repr(one) == "<Opening: greeting>"
    one.receive(b"220 hi\r\n")
    assert repr(one) == "<Opening: EHLO>"
    one.receive(ANSWER)
    assert repr(one) == "<Opening: ready>"
    one.receive(b"x")
    assert repr(one) == "<Opening: failed: 451 4.4.2 [internal] the server spoke out of turn>"
