"""Who guesses logins learns nothing from the time, and who talks before the greeting gains nothing."""

from __future__ import annotations

import time

import pytest

from tests.support.hostile_client import DATA, blob
from tests.support.inbound import Inbound

MESSAGE = b"From: a@b.example\r\nSubject: x\r\n\r\nText.\r\n.\r\n"
USERS = "".join(f"<smtp-user app{number}>\npassword s3cret\n</smtp-user>\n" for number in range(20))
GUARDED = "always-allow-relaying yes\nrequire-auth yes\nallow-unencrypted-plain-auth yes"
TRIES = 150
#: Of the Kolmogorov-Smirnov distance of two samples of TRIES from one distribution: chance exceeds it in one
#: of a thousand.
CRITICAL = 1.95 * (2 / TRIES) ** 0.5


def distance(first: list[float], second: list[float]) -> float:
    """The largest difference of two distributions' shares."""
    first, second = sorted(first), sorted(second)
    largest = 0.0
    for value in (*first, *second):
        below = sum(one <= value for one in first) / len(first)
        largest = max(largest, abs(below - sum(one <= value for one in second) / len(second)))
    return largest


async def guess(inbound: Inbound, guesses: list[bytes]) -> list[float]:
    """Seconds until the answer to each, on one connection."""
    took = []
    async with inbound.caller() as caller:
        await caller.hello()
        for one in guesses:
            began = time.perf_counter()
            assert (await caller.ask(b"AUTH PLAIN " + one)).startswith("535 5.7.8")
            took.append(time.perf_counter() - began)
    return took


async def test_a_wrong_name_and_a_wrong_password_take_the_same_time() -> None:
    async with Inbound(USERS, source=GUARDED) as inbound:
        for _ in range(3):  # a machine that is busy with one kind and not the other is chance too
            known: list[float] = []
            unknown: list[float] = []
            for number in range(TRIES):
                # Both kinds in both places of a connection, so that only the name differs.
                right = blob("", f"app{number % 20}", "wrong!")
                strange = blob("", f"foo{number % 20}", "s3cret")
                order = (right, strange) if number % 2 else (strange, right)
                took = dict(zip(order, await guess(inbound, list(order)), strict=True))
                known.append(took[right])
                unknown.append(took[strange])
            if distance(known, unknown) < CRITICAL:
                return
        raise AssertionError(f"distance {distance(known, unknown):.3f}, chance {CRITICAL:.3f}")


def test_the_distance_tells_a_tenth_of_a_millisecond_apart() -> None:
    """The negative control: a test that can't fail proves nothing."""
    steps = [0.001 + number * 1e-6 for number in range(TRIES)]

    assert distance(steps, steps) == 0.0
    assert distance(steps, [step + 0.0001 for step in steps]) > CRITICAL


async def test_talk_before_the_greeting_is_one_transaction_answered_in_order() -> None:
    async with Inbound() as inbound, inbound.caller(greeting=False) as caller:
        caller.send(DATA + MESSAGE + b"QUIT\r\n")
        codes = [reply[:3] for reply in await caller.replies(7)]

        assert codes == ["220", "250", "250", "250", "354", "250", "221"]
        assert await caller.is_closed()
        assert len(inbound.admitted) == 1


@pytest.mark.parametrize("talk", [DATA + MESSAGE, b"GET / HTTP/1.1\r\n\r\n", b"EHLO x\r\n" * 2000])
async def test_talk_before_a_refusal_is_not_read(talk: bytes) -> None:
    async with Inbound("total-max-smtp-in 1") as inbound, inbound.caller():
        async with inbound.caller(greeting=False) as early:
            early.send(talk)

            assert (await early.reply()).startswith("421 4.3.2")
            assert await early.is_closed()
        assert inbound.admitted == []


async def test_a_guesser_is_thrown_out_and_everybody_else_logs_in_meanwhile() -> None:
    right = blob("", "app0", "s3cret")
    async with Inbound(USERS, source=GUARDED) as inbound:
        for number in range(21):
            async with inbound.caller() as guesser, inbound.caller() as good:
                await guesser.hello()
                guesser.send((b"AUTH PLAIN " + blob("", "app0", f"guess{number}") + b"\r\n") * 5)
                await good.hello()
                assert (await good.ask(b"AUTH PLAIN " + right)).startswith("235")
                codes = [reply[:3] for reply in await guesser.replies(4)]
                assert codes == ["535", "535", "535", "421"]
