"""What an operator reads of a connection: whole lines, no passwords, no end of memory."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mta.clock import SystemClock
from mta.delivery.dialogue import LINE_LIMIT, LINES_LIMIT, Dialogue


def dialogue_of(*said: tuple[str, bytes], with_data: bool = False) -> Dialogue:
    dialogue = Dialogue(clock=SystemClock(), with_data=with_data)
    for who, octets in said:
        if who == "data":
            dialogue.begin_data()
        elif who == ">":
            dialogue.sent(octets)
        else:
            dialogue.received(octets)
    return dialogue


def texts(dialogue: Dialogue) -> list[str]:
    return [line.text for line in dialogue.lines]


def test_pieces_become_lines() -> None:
    said = dialogue_of(
        (">", b"MAIL FROM:<a@b>\r\nRC"), (">", b"PT TO:<c@d>\r\n"), ("<", b"250 o"), ("<", b"k\r\n")
    )
    assert texts(said) == [">>> MAIL FROM:<a@b>", ">>> RCPT TO:<c@d>", "<<< 250 ok"]


def test_the_message_is_counted_or_shown() -> None:
    talk = (
        (">", b"DATA\r\n"),
        ("<", b"354 go\r\n"),
        ("data", b""),
        (">", b"body\r\n"),
        (">", b".\r\n"),
        ("<", b"250 ok\r\n"),
    )
    assert texts(dialogue_of(*talk))[2:] == [">>> (9 octets of message, with the final dot)", "<<< 250 ok"]
    assert texts(dialogue_of(*talk, with_data=True))[2:] == [">>> body", ">>> .", "<<< 250 ok"]


def test_no_password_is_shown_whatever_the_way_to_log_in() -> None:
    plain = dialogue_of((">", b"AUTH PLAIN c2VjcmV0\r\n"), ("<", b"235 ok\r\n"), (">", b"MAIL FROM:<>\r\n"))
    assert texts(plain) == [">>> AUTH PLAIN (secret)", "<<< 235 ok", ">>> MAIL FROM:<>"]
    login = dialogue_of(
        (">", b"AUTH LOGIN\r\n"), ("<", b"334 VXNlcg==\r\n"), (">", b"bWU=\r\n"), ("<", b"334 UGFzcw==\r\n"),
        (">", b"c2VjcmV0\r\n"), ("<", b"535 no\r\n"), (">", b"QUIT\r\n"),
    )  # fmt: skip
    assert texts(login)[2] == texts(login)[4] == ">>> (secret)"
    assert texts(login)[-1] == ">>> QUIT"


def test_what_cannot_be_printed_is_written_out() -> None:
    assert texts(dialogue_of(("<", b"250 \x1b[2J\xff\r\n"))) == ["<<< 250 \\x1b[2J\\xff"]


@given(st.lists(st.tuples(st.sampled_from(["<", ">"]), st.binary(max_size=300)), max_size=50))
def test_any_noise_is_bounded_and_printable(said: list[tuple[str, bytes]]) -> None:
    for text in texts(dialogue_of(*said)):
        assert text.isprintable()
        assert len(text) <= LINE_LIMIT


def test_an_endless_receiver_is_cut() -> None:
    said = dialogue_of(*[("<", b"x" * 10_000)] * 20, *[("<", b"250-x\r\n")] * (LINES_LIMIT + 10))
    assert len(said.lines) == LINES_LIMIT + 1
    assert texts(said)[-1] == "(the rest is left out)"
