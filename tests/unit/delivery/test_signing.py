"""Which signatures a message gets, from memory, at once, from another process, or in a later turn."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import dkim
import pytest

from mta.config.load import load_text
from mta.config.snapshot import Snapshot
from mta.delivery import signing
from mta.delivery.keyring import KeyRing
from mta.delivery.signing import Signer, SigningJob
from mta.errors import ConfigError
from mta.message.domainkey import generate_private_key, private_pem, txt_record
from mta.message.envelope import Envelope, Recipient

MESSAGE = b"From: Alice <alice@example.com>\r\nSubject: hello\r\n\r\nbody\r\n"
SLOW, OTHER, CHEAP, EDWARDS = (
    generate_private_key("rsa", 2048),
    generate_private_key("rsa", 2048),
    generate_private_key("rsa", 1024),
    generate_private_key("ed25519"),
)
KEY_FILES = {"slow.pem": SLOW, "cheap.pem": CHEAP, "ed.pem": EDWARDS}
SIGN = "<domain *>\n dkim-sign yes\n</domain>\n"


class StandingClock:
    def now(self) -> float:
        return 1_795_219_200.0

    wall = now


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    for name, key in KEY_FILES.items():
        (tmp_path / name).write_bytes(private_pem(key))
        (tmp_path / name).chmod(0o600)
    return tmp_path


@pytest.fixture
def signers() -> Iterator[list[Signer]]:
    made: list[Signer] = []
    yield made
    for signer in made:
        signer.close()


def snapshot_of(text: str, directory: Path, epoch: int = 1) -> Snapshot:
    loaded = load_text(text.replace("KEYS", str(directory)), directory=directory, epoch=epoch)
    assert loaded.snapshot is not None, loaded.problems
    return loaded.snapshot


def signer_of(text: str, directory: Path, signers: list[Signer], spare: int = 1) -> Signer:
    signer = Signer(snapshot_of(text, directory), StandingClock(), asyncio.get_running_loop(), spare=spare)
    signers.append(signer)
    return signer


def envelope(domain: str = "example.net", vmta: str = "{default}", sign: bool = True) -> Envelope:
    recipients = (Recipient(f"bob@{domain}", domain),)
    return Envelope("q1", 0.0, "alice@example.com", vmta, recipients, sign=sign)


def values(fields: bytes | SigningJob, tag: str) -> list[str]:
    assert isinstance(fields, bytes)
    text = re.sub(r"\r\n\s+", " ", fields.decode())
    return re.findall(rf"[; ]{tag}=([^;]*)", text)


def ask(signer: Signer, done: Callable[[bytes], None], *, message: int = 1, body: bytes = MESSAGE) -> None:
    """`done` is called with the fields, now or later."""
    fields = signer.headers(envelope(), body, message)
    if isinstance(fields, bytes):
        done(fields)
    else:
        signer.prepare(fields, done)


async def prepared(signer: Signer, *, message: int = 1, body: bytes = MESSAGE) -> bytes:
    answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    ask(signer, answer.set_result, message=message, body=body)
    return await answer


async def test_cheap_keys_sign_at_once_and_verify(keys: Path, signers: list[Signer]) -> None:
    signer = signer_of(SIGN + "domain-key s1,example.com,KEYS/ed.pem", keys, signers)

    fields = signer.headers(envelope(), MESSAGE, 1)

    assert isinstance(fields, bytes)
    assert dkim.verify(
        fields + MESSAGE, dnsfunc=lambda name, timeout=5: "".join(txt_record(EDWARDS)).encode()
    )


async def test_slow_keys_ask_a_process_and_the_result_is_kept(keys: Path, signers: list[Signer]) -> None:
    signer = signer_of(SIGN + "domain-key s1,example.com,KEYS/slow.pem", keys, signers)

    assert isinstance(signer.headers(envelope(), MESSAGE, 1), SigningJob)
    fields = await prepared(signer)

    assert values(fields, "s") == ["s1"]
    assert signer.headers(envelope(), MESSAGE, 1) == fields
    assert dkim.verify(fields + MESSAGE, dnsfunc=lambda name, timeout=5: "".join(txt_record(SLOW)).encode())


async def test_many_messages_share_two_processes_and_each_gets_its_own_signature(
    keys: Path, signers: list[Signer]
) -> None:
    signer = signer_of(SIGN + "domain-key s1,example.com,KEYS/slow.pem", keys, signers, spare=2)
    answers: dict[int, bytes] = {}
    complete = asyncio.Event()

    def done(number: int, fields: bytes) -> None:
        answers[number] = fields
        if len(answers) == 100:
            complete.set()

    for number in range(100):
        body = MESSAGE + b"%d\r\n" % number
        ask(signer, partial(done, number), message=number, body=body)
    await complete.wait()

    assert len({values(fields, "bh")[0] for fields in answers.values()}) == 100
    assert signer.stats().waiting == 0
    assert signer.stats().signatures == 100


async def test_two_who_want_the_same_signature_wait_for_one(keys: Path, signers: list[Signer]) -> None:
    signer = signer_of(SIGN + "domain-key s1,example.com,KEYS/slow.pem", keys, signers)

    first, second = asyncio.create_task(prepared(signer)), asyncio.create_task(prepared(signer))

    assert await first == await second
    assert signer.stats().signatures == 1


async def test_what_a_lost_process_has_not_signed_is_signed_on_the_loop(
    keys: Path, signers: list[Signer]
) -> None:
    signer = signer_of(SIGN + "domain-key s1,example.com,KEYS/slow.pem", keys, signers)
    tasks = [asyncio.create_task(prepared(signer, message=number)) for number in range(8)]
    await asyncio.sleep(0)

    (pid,) = signer.processes
    os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(5.0):
        answers = [await task for task in tasks]

    assert [values(fields, "s") for fields in answers] == [["s1"]] * 8
    assert signer.processes == []
    # On the loop, until a new one may be started.
    assert isinstance(signer.headers(envelope(), MESSAGE, 9), bytes)


async def test_other_keys_after_a_reload_are_brought_to_the_processes(
    keys: Path, signers: list[Signer]
) -> None:
    signer = signer_of(SIGN + "domain-key s1,example.com,KEYS/slow.pem", keys, signers)
    (keys / "other.pem").write_bytes(private_pem(OTHER))
    (keys / "other.pem").chmod(0o600)

    async with asyncio.timeout(5.0):
        await prepared(signer, message=1)
        signer.reload(snapshot_of(SIGN + "domain-key s2,example.com,KEYS/other.pem", keys, epoch=2))
        fields = await prepared(signer, message=2)

    assert dkim.verify(fields + MESSAGE, dnsfunc=lambda name, timeout=5: "".join(txt_record(OTHER)).encode())


async def test_a_slow_and_a_cheap_key_of_one_domain_both_sign(keys: Path, signers: list[Signer]) -> None:
    text = SIGN + "domain-key e,example.com,KEYS/ed.pem\ndomain-key r,example.com,KEYS/slow.pem"
    signer = signer_of(text, keys, signers)

    async with asyncio.timeout(5.0):
        fields = await prepared(signer)

    assert values(fields, "a") == ["rsa-sha256", "ed25519-sha256"]


class TickingClock(StandingClock):
    """Four milliseconds pass between any two looks at it."""

    def __init__(self) -> None:
        self.at = 0.0

    def now(self) -> float:
        self.at += 0.004
        return self.at


async def test_without_a_free_processor_the_loop_signs_a_part_in_each_of_its_turns(
    keys: Path, signers: list[Signer]
) -> None:
    text = SIGN + "domain-key s1,example.com,KEYS/slow.pem"
    loop = asyncio.get_running_loop()
    signer = Signer(snapshot_of(text, keys), TickingClock(), loop)
    signers.append(signer)
    turns: list[int] = []  # in which each signature was ready
    turn = 0
    complete = asyncio.Event()

    def done(fields: bytes) -> None:
        assert values(fields, "s") == ["s1"]
        turns.append(turn)
        if len(turns) == 10:
            complete.set()

    def count_turns() -> None:
        nonlocal turn
        turn += 1
        if not complete.is_set():
            loop.call_soon(count_turns)

    for number in range(10):
        ask(signer, done, message=number)
    count_turns()
    async with asyncio.timeout(5.0):
        await complete.wait()

    # Ten milliseconds of each turn, at four for a signature: the third is the last that is begun.
    assert turns == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3]
    assert signer.stats().waiting == 0


async def test_a_message_too_large_to_be_hashed_on_the_loop_takes_a_thread_whatever_the_key(
    keys: Path, signers: list[Signer]
) -> None:
    signer = signer_of(SIGN + "domain-key s1,example.com,KEYS/ed.pem", keys, signers, spare=0)
    large = MESSAGE + b"line\r\n" * 50_000

    assert isinstance(signer.headers(envelope(), large, 1), SigningJob)
    async with asyncio.timeout(5.0):
        fields = await prepared(signer, body=large)

    assert dkim.verify(fields + large, dnsfunc=lambda name, timeout=5: "".join(txt_record(EDWARDS)).encode())


async def test_a_queue_that_does_not_sign_gets_nothing(keys: Path, signers: list[Signer]) -> None:
    text = "domain-key s1,*,KEYS/slow.pem\n<domain example.org>\ndkim-sign yes\n</domain>"
    signer = signer_of(text, keys, signers)

    assert signer.headers(envelope(), MESSAGE, 1) == b""
    assert signer.headers(envelope("example.org", sign=False), MESSAGE, 1) == b""
    assert isinstance(signer.headers(envelope("example.org"), MESSAGE, 1), SigningJob)
    assert signer.headers(envelope("example.org"), MESSAGE, 1, "example.net") == b""
    assert await prepared(signer) == b""


async def test_an_rsa_and_an_ed25519_key_of_one_domain_both_sign(keys: Path, signers: list[Signer]) -> None:
    text = SIGN + "domain-key e,example.com,KEYS/ed.pem\ndomain-key r,example.com,KEYS/cheap.pem"
    signer = signer_of(text, keys, signers)

    fields = signer.headers(envelope(), MESSAGE, 1)

    assert values(fields, "s") == ["r", "e"]
    assert values(fields, "a") == ["rsa-sha256", "ed25519-sha256"]


async def test_keys_are_searched_in_order_and_the_virtual_mta_comes_first(
    keys: Path, signers: list[Signer]
) -> None:
    text = (
        SIGN
        + "domain-key other,example.org,KEYS/ed.pem\ndomain-key parent,com,KEYS/ed.pem\n"
        + "domain-key all,*,KEYS/ed.pem\n"
        + "<virtual-mta v1>\nsmtp-source-host 127.0.0.2 a.example\n"
        + "domain-key own,*,KEYS/ed.pem\n</virtual-mta>"
    )
    signer = signer_of(text, keys, signers)

    plain = signer.headers(envelope(), MESSAGE, 1)
    own = signer.headers(envelope(vmta="v1"), MESSAGE, 2)

    assert (values(plain, "s"), values(plain, "d")) == (["parent"], ["com"])
    assert (values(own, "s"), values(own, "d")) == (["own"], ["example.com"])


async def test_sender_comes_before_from_and_no_fitting_key_means_no_signature(
    keys: Path, signers: list[Signer]
) -> None:
    signer = signer_of(SIGN + "domain-key s1,example.com,KEYS/ed.pem", keys, signers)

    assert signer.headers(envelope(), MESSAGE, 1) != b""
    assert signer.headers(envelope(), b"Sender: x@example.org\r\n" + MESSAGE, 2) == b""


async def test_a_claim_that_is_no_domain_is_not_signed_for(keys: Path, signers: list[Signer]) -> None:
    signer = signer_of(SIGN + "domain-key s1,*,KEYS/ed.pem", keys, signers)

    assert signer.headers(envelope(), MESSAGE.replace(b"example.com", b"exa=mple"), 1) == b""
    assert signer.headers(envelope(), b"Subject: no sender\r\n\r\n", 2) == b""


@pytest.mark.parametrize(
    ("identity", "domain", "tag"),
    [
        ("news@mail.example.org", "example.org", ["news@mail.example.org"]),
        ("@example.org", "example.org", ["@example.org"]),
        ("example.org", "example.org", []),
        ("sender-or-from", "example.com", []),
        ("Example.ORG", "example.org", []),
    ],
)
async def test_a_configured_identity_decides_on_key_and_tag(
    identity: str, domain: str, tag: list[str], keys: Path, signers: list[Signer]
) -> None:
    text = (
        f"<domain *>\ndkim-sign yes\ndkim-identity {identity}\n</domain>\n"
        "domain-key a,example.com,KEYS/ed.pem\ndomain-key b,example.org,KEYS/ed.pem"
    )
    fields = signer_of(text, keys, signers).headers(envelope(), MESSAGE, 1)

    assert values(fields, "d") == [domain]
    assert values(fields, "i") == tag


async def test_the_fallback_identity_signs_when_no_key_fits(keys: Path, signers: list[Signer]) -> None:
    text = (
        "<domain *>\ndkim-sign yes\ndkim-identity-fallback @esp.example\n</domain>\n"
        "domain-key s1,esp.example,KEYS/ed.pem"
    )
    fields = signer_of(text, keys, signers).headers(envelope(), MESSAGE, 1)

    assert values(fields, "d") == ["esp.example"]


async def test_the_second_signature_has_settings_of_its_own(keys: Path, signers: list[Signer]) -> None:
    text = (
        "<domain *>\ndkim-sign yes\ndkim-add-timestamp yes\nsecond-dkim-sign yes\n"
        "second-dkim-identity @esp.example\nsecond-dkim-body-canon simple\n</domain>\n"
        "domain-key s1,example.com,KEYS/ed.pem\ndomain-key s2,esp.example,KEYS/ed.pem"
    )
    fields = signer_of(text, keys, signers).headers(envelope(), MESSAGE, 1)

    assert values(fields, "d") == ["example.com", "esp.example"]
    assert values(fields, "c") == ["relaxed/relaxed", "relaxed/simple"]
    assert values(fields, "t") == ["1795219200", "1795219200"]


async def test_directives_reach_the_signature(keys: Path, signers: list[Signer]) -> None:
    text = (
        "<domain *>\ndkim-sign yes\ndkim-headers-canon simple\ndkim-body-canon simple\n"
        "dkim-headers X-One:, /^x-t/\ndkim-disallow-adding-headers x-three\ndkim-add-timestamp yes\n"
        "dkim-expire-after 1d\n</domain>\ndomain-key s1,example.com,KEYS/ed.pem"
    )
    fields = signer_of(text, keys, signers).headers(
        envelope(), b"X-One: 1\r\nX-Two: 2\r\nX-Four: 4\r\n" + MESSAGE, 1
    )

    assert values(fields, "c") == ["simple/simple"]
    assert values(fields, "x") == ["1795305600"]
    listed = re.sub(r"\s", "", values(fields, "h")[0]).split(":")
    assert {"x-one", "x-two", "x-three"} <= set(listed)
    assert "x-four" not in listed


async def test_signing_on_request_needs_the_header(keys: Path, signers: list[Signer]) -> None:
    text = "<domain *>\ndkim-sign if-x-dkim-options-present\n</domain>\ndomain-key s1,example.com,KEYS/ed.pem"
    signer = signer_of(text, keys, signers)

    assert signer.headers(envelope(), MESSAGE, 1) == b""
    assert signer.headers(envelope(), b"X-DKIM-Options: v\r\n" + MESSAGE, 2) != b""


async def test_memory_for_signatures_is_bounded(
    keys: Path, signers: list[Signer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signing, "KEPT_SIGNATURES", 2)
    signer = signer_of(SIGN + "domain-key s1,example.com,KEYS/ed.pem", keys, signers)

    for number in (1, 2, 3, 3, 1):
        signer.headers(envelope(), MESSAGE, number)

    assert signer.stats().signatures == 4
    assert signer.stats().from_memory == 1


async def test_a_reload_changes_keys_and_rules(keys: Path, signers: list[Signer]) -> None:
    signer = signer_of(SIGN + "domain-key s1,example.com,KEYS/ed.pem", keys, signers)
    before = signer.headers(envelope(), MESSAGE, 1)

    signer.reload(snapshot_of(SIGN + "domain-key s2,example.com,KEYS/ed.pem", keys, epoch=2))
    after = signer.headers(envelope(), MESSAGE, 1)

    assert values(before, "s") == ["s1"]
    assert values(after, "s") == ["s2"]


async def test_a_reload_with_a_bad_key_keeps_the_old_ones(keys: Path, signers: list[Signer]) -> None:
    signer = signer_of(SIGN + "domain-key s1,example.com,KEYS/ed.pem", keys, signers)
    (keys / "bad.pem").write_text("nonsense")

    with pytest.raises(ConfigError, match=r":4: .*bad\.pem can't be used"):
        signer.reload(snapshot_of(SIGN + "domain-key s2,example.com,KEYS/bad.pem", keys, epoch=2))

    assert values(signer.headers(envelope(), MESSAGE, 1), "s") == ["s1"]


async def test_a_closed_signer_answers_nobody(keys: Path, signers: list[Signer]) -> None:
    signer = signer_of(SIGN + "domain-key s1,example.com,KEYS/slow.pem", keys, signers)
    answers: list[bytes] = []

    ask(signer, answers.append)
    signer.close()
    await asyncio.sleep(0)

    assert answers == []


def test_every_unusable_key_is_named_with_its_line(keys: Path) -> None:
    (keys / "open.pem").write_bytes(private_pem(EDWARDS))
    (keys / "open.pem").chmod(0o644)
    (keys / "huge.pem").write_bytes(b"x" * 70_000)
    text = "domain-key a,*,KEYS/none.pem\ndomain-key b,*,KEYS/huge.pem\ndomain-key c,*,KEYS/open.pem"
    snapshot = snapshot_of(text, keys)

    problems = [str(problem).partition("<text>")[2] for problem in KeyRing.problems(snapshot)]

    assert problems[0].startswith(":1: error: the DKIM key")
    assert "No such file" in problems[0]
    assert problems[1].startswith(":2: error")
    assert problems[2].startswith(":3: warning: everybody can read")
    with pytest.raises(ConfigError, match=r"(?s)none\.pem.*huge\.pem"):
        KeyRing.load(snapshot)


def test_unchanged_files_are_not_read_again(keys: Path) -> None:
    snapshot = snapshot_of("domain-key a,x.example,KEYS/ed.pem\ndomain-key b,*,KEYS/ed.pem", keys)

    first = KeyRing.load(snapshot)
    again = KeyRing.load(snapshot, first)

    assert first.keys("{default}")[0].private is first.keys("{default}")[1].private
    assert again.keys("{default}")[0].private is first.keys("any")[0].private
    assert repr(again) == "<KeyRing files=1 vmtas=1>"
