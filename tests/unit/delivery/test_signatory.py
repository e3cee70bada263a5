"""A process that signs: answers in order, keys are told once, and nothing is left over when it goes."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from mta.delivery import signatory as module
from mta.delivery.signatory import Signatory
from mta.message.domainkey import DkimKey, generate_private_key

KEYS = [DkimKey(f"s{bits}", "example.com", generate_private_key("rsa", bits)) for bits in (1536, 2048)]


@pytest.fixture
def lost() -> list[Signatory]:
    return []


@pytest.fixture
async def signatory(lost: list[Signatory]) -> Iterator[Signatory]:  # type: ignore[misc]
    made = Signatory(asyncio.get_running_loop(), lost.append)
    yield made
    made.close()


def is_signature(key: DkimKey, data: bytes, signature: bytes | None) -> bool:
    assert isinstance(key.private, rsa.RSAPrivateKey)
    assert signature is not None
    key.private.public_key().verify(signature, data, padding.PKCS1v15(), hashes.SHA256())
    return True


def asked(signatory: Signatory, key: DkimKey, data: bytes) -> asyncio.Future[bytes | None]:
    answer: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
    signatory.ask(key, hashlib.sha256(data).digest(), answer.set_result)
    return answer


@pytest.mark.both_loops
async def test_answers_come_in_the_order_of_the_questions(signatory: Signatory) -> None:
    questions = [(KEYS[number % 2], b"%d" % number) for number in range(30)]
    answers = [asked(signatory, key, data) for key, data in questions]
    assert signatory.load() == 30

    async with asyncio.timeout(10.0):
        signatures = [await answer for answer in answers]

    for (key, data), signature in zip(questions, signatures, strict=True):
        assert is_signature(key, data, signature)
    assert signatory.load() == 0


async def test_more_keys_than_the_line_holds_at_once_are_told_all(signatory: Signatory) -> None:
    keys = [DkimKey("s", "example.com", KEYS[0].private) for _ in range(400)]  # each is told for itself
    answers = [asked(signatory, key, b"x") for key in keys]

    async with asyncio.timeout(10.0):
        signatures = [await answer for answer in answers]

    assert len(set(signatures)) == 1
    assert is_signature(KEYS[0], b"x", signatures[0])


async def test_questions_to_a_process_that_is_killed_are_handed_back(
    signatory: Signatory, lost: list[Signatory]
) -> None:
    answers = [asked(signatory, KEYS[1], b"%d" % number) for number in range(5)]

    os.kill(signatory.pid, signal.SIGKILL)
    async with asyncio.timeout(5.0):
        assert [await answer for answer in answers] == [None] * 5

    assert lost == [signatory]


async def test_one_that_hangs_is_given_up(lost: list[Signatory], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    signatory = Signatory(asyncio.get_running_loop(), lost.append)
    os.kill(signatory.pid, signal.SIGSTOP)
    answer = asked(signatory, KEYS[1], b"x")

    async with asyncio.timeout(5.0):
        assert await answer is None

    assert lost == [signatory]


async def test_signals_that_end_a_service_leave_it_to_its_worker(signatory: Signatory) -> None:
    async with asyncio.timeout(5.0):
        await asked(signatory, KEYS[0], b"it is up")
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(signatory.pid, number)

        assert is_signature(KEYS[0], b"it still is", await asked(signatory, KEYS[0], b"it still is"))


async def test_closing_ends_the_process_and_answers_nobody(lost: list[Signatory]) -> None:
    signatory = Signatory(asyncio.get_running_loop(), lost.append)
    answer = asked(signatory, KEYS[0], b"x")

    signatory.close()
    await asyncio.sleep(0)

    with pytest.raises(ProcessLookupError):
        os.kill(signatory.pid, 0)
    assert not answer.done()
    assert lost == []
