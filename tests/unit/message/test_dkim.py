"""Signatures: what is in them, and that dkimpy and OpenDKIM accept them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import replace

import dkim
import pytest
from dkim.canonicalization import Relaxed, Simple
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mta.message import canonical as own
from mta.message.canonical import LARGEST_SHAPE, Canon, Signable
from mta.message.dkim import DkimSigner, SignPolicy
from mta.message.domainkey import DkimKey, generate_private_key, txt_record
from tests.support.opendkim import OpenDkim, find_library

NOW = 1_795_219_200.0  # 2026-11-21
KEYS = {
    "rsa": DkimKey("rsa", "example.com", generate_private_key("rsa", 2048)),
    "ed25519": DkimKey("ed25519", "example.com", generate_private_key("ed25519")),
}
RECORDS = {f"{name}._domainkey.example.com": "".join(txt_record(key.private)) for name, key in KEYS.items()}
MESSAGE = (
    b"Received: from a by b; Sat, 21 Nov 2026 00:00:00 +0000\r\n"
    b"From: Alice <alice@example.com>\r\n"
    b"To:   Bob <bob@example.net>,\r\n\tCarol <carol@example.net>\r\n"
    b"Subject: A  folded\r\n \t subject \r\n"
    b"Content-Type: text/plain; charset=utf-8\r\n"
    b"List-Unsubscribe: <https://example.com/u>\r\n"
    b"List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"
    b"X-Campaign: spring\r\n"
    b"\r\n"
    b"Hello  \t world \r\n\r\n..a dot\r\n...\r\n\r\n\r\n"
)
DEFAULT = SignPolicy()
POLICIES = [SignPolicy(header, body) for header in Canon for body in Canon]


def unstuff(message: bytes) -> bytes:
    """What arrives: an independent reading of RFC 5321 4.5.2."""
    lines = message.split(b"\r\n")
    return b"\r\n".join(line.removeprefix(b".") for line in lines)


def sign(message: bytes, policy: SignPolicy = DEFAULT, *, kind: str = "ed25519", identity: str = "") -> bytes:
    signer = DkimSigner(KEYS[kind], policy, domain="example.com", identity=identity)
    draft = signer.draft(Signable(message), NOW)
    return b"" if draft is None else draft.sealed()


def tags(signature: bytes) -> dict[str, str]:
    value = re.sub(r"\s+", "", signature.decode().partition(":")[2])
    return dict(tag.split("=", 1) for tag in value.split(";"))


def dkimpy_accepts(signed: bytes) -> bool:
    return bool(
        dkim.verify(signed, dnsfunc=lambda name, timeout=5: RECORDS[name.decode().rstrip(".")].encode())
    )


@pytest.fixture(scope="module")
def opendkim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenDkim]:
    if find_library() is None:
        pytest.skip("libopendkim is not installed")
    verifier = OpenDkim(RECORDS, tmp_path_factory.mktemp("opendkim"))
    yield verifier
    verifier.close()


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("kind", KEYS)
def test_dkimpy_accepts_every_canonicalisation_and_algorithm(policy: SignPolicy, kind: str) -> None:
    assert dkimpy_accepts(sign(MESSAGE, policy, kind=kind) + unstuff(MESSAGE))


@pytest.mark.peers
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("kind", KEYS)
def test_opendkim_accepts_every_canonicalisation_and_algorithm(
    policy: SignPolicy, kind: str, opendkim: OpenDkim
) -> None:
    assert opendkim.verify(sign(MESSAGE, policy, kind=kind) + unstuff(MESSAGE)) == ["pass"]


@pytest.mark.peers
def test_two_signatures_of_one_message_both_pass(opendkim: OpenDkim) -> None:
    signed = sign(MESSAGE, kind="rsa") + sign(MESSAGE) + unstuff(MESSAGE)

    assert opendkim.verify(signed) == ["pass", "pass"]


@pytest.mark.peers
@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        (b"Subject: A  folded", b"Subject: Another"),
        (b"Hello", b"Hallo"),
        (b"One-Click", b"No-Click"),
        (b"X-Campaign: spring\r\n", b"Reply-To: mallory@example.org\r\n"),
        (b"X-Campaign: spring\r\n", b"From: mallory@example.org\r\n"),
        (b"X-Campaign: spring\r\n", b"Content-Type: text/html\r\n"),
    ],
)
def test_a_change_or_an_added_field_breaks_the_signature(
    was: bytes, becomes: bytes, opendkim: OpenDkim
) -> None:
    changed = sign(MESSAGE) + unstuff(MESSAGE).replace(was, becomes)

    assert opendkim.verify(changed) != ["pass"]
    assert not dkimpy_accepts(changed)


names = st.sampled_from([b"From", b"from", b"To", b"Subject", b"Date", b"X-A", b"Received", b"Cc", b"Sender"])
texts = st.lists(
    st.sampled_from([b"a", b"bc", b" ", b"  ", b"\t", b"\r\n ", b"\r\n\t", b";", b":", b"\xc3\xa9"])
)
fields = st.lists(st.tuples(names, texts.map(b"".join)), max_size=6)
line = st.lists(st.sampled_from([b"a", b"b", b" ", b"  ", b"\t", b"..", b"\x0b", b"\xff"]), max_size=5)
bodies = st.lists(line.map(b"".join), max_size=8).map(
    lambda lines: b"".join(b"." * line.startswith(b".") + line + b"\r\n" for line in lines)
)


@given(fields, bodies, st.sampled_from(POLICIES))
def test_any_message_with_a_sender_verifies_in_dkimpy(
    parts: list[tuple[bytes, bytes]], body: bytes, policy: SignPolicy
) -> None:
    block = b"".join(b"%s: x%s\r\n" % part for part in [*parts, (b"From", b"@example.com")])
    message = block + b"\r\n" + body

    assert dkimpy_accepts(sign(message, policy) + unstuff(message))


@pytest.mark.peers
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=fields, body=bodies, policy=st.sampled_from(POLICIES))
def test_any_message_with_one_sender_verifies_in_opendkim(
    parts: list[tuple[bytes, bytes]], body: bytes, policy: SignPolicy, opendkim: OpenDkim
) -> None:
    # OpenDKIM demands the fields that RFC 5322 demands, once each.
    one = [part for part in parts if part[0] not in (b"From", b"from", b"Date")]
    block = b"".join(b"%s: x%s\r\n" % part for part in [*one, (b"From", b"@example.com"), (b"Date", b"y")])
    message = block + b"\r\n" + body

    assert opendkim.verify(sign(message, policy) + unstuff(message)) == ["pass"]


@given(
    st.lists(st.sampled_from([b" ", b"\t", b"a", b"\r\n", b"\r\n\r\n", b".", b"  "]), max_size=14).map(
        b"".join
    )
)
def test_body_hashes_agree_with_dkimpy_for_any_body(text: bytes) -> None:
    body = text + b"\r\n" if text else b""
    stuffed = b"\r\n".join(b"." * line.startswith(b".") + line for line in body.split(b"\r\n"))

    for canon, theirs in ((Canon.SIMPLE, Simple), (Canon.RELAXED, Relaxed)):
        expected = hashlib.sha256(theirs.canonicalize_body(body)).digest()
        assert own.hash_body(stuffed, 0, canon)[0] == expected


@pytest.mark.parametrize("canon", Canon)
def test_pieces_of_a_large_body_give_the_hash_of_the_whole(
    canon: Canon, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = b"line  one \r\n\r\n\r\n..dots\r\n\r\n" * 50 + b"\r\n" * 40
    whole = own.hash_body(body, 0, canon)

    for size in (1, 2, 3, 7, 40, 1000):
        monkeypatch.setattr(own, "PIECE", size)
        assert own.hash_body(body, 0, canon) == whole


def test_the_line_end_that_the_end_of_data_implies_is_hashed() -> None:
    assert own.hash_body(b"a ", 0, Canon.RELAXED) == own.hash_body(b"a\r\n", 0, Canon.RELAXED)


def test_the_field_list_names_repeated_fields_once_more_than_they_occur() -> None:
    listed = tags(sign(MESSAGE))["h"].split(":")

    assert listed.count("from") == 2
    assert listed.count("list-unsubscribe") == 2
    assert listed.count("cc") == 1
    assert "list-unsubscribe-post" in listed
    assert "received" not in listed
    assert "x-campaign" not in listed


def test_the_operator_adds_fields_by_name_and_by_pattern() -> None:
    message = b"X-One: 1\r\nX-Two: 2\r\nReceived: by x\r\n" + MESSAGE
    policy = SignPolicy(
        fields=frozenset((b"x-one",)), is_wanted=lambda name: name != b"x-one", oversigned=(b"x-three",)
    )

    signature = sign(message, policy)
    listed = tags(signature)["h"].split(":")

    assert listed.count("x-one") == listed.count("x-two") == listed.count("x-three") == 1
    assert "received" not in listed
    assert dkimpy_accepts(signature + unstuff(message))


def test_times_are_written_only_when_asked_for() -> None:
    assert "t" not in tags(sign(MESSAGE))
    assert "x" not in tags(sign(MESSAGE))

    timed = tags(sign(MESSAGE, SignPolicy(add_timestamp=True, expire_after=3600.0)))

    assert timed["t"] == "1795219200"
    assert timed["x"] == "1795222800"


def test_there_is_never_a_body_limit() -> None:
    assert "l" not in tags(sign(MESSAGE))


def test_identity_and_query_method_are_tags_of_their_own() -> None:
    signed = sign(MESSAGE, SignPolicy(query_method="dns/txt"), identity="a;b\xe9@news.example.com")

    assert tags(signed)["q"] == "dns/txt"
    assert "i=a=3Bb=C3=A9@news.example.com;" in signed.decode()
    assert dkimpy_accepts(signed + unstuff(MESSAGE))


@given(st.lists(st.from_regex(rb"X-[A-Za-z]{1,40}", fullmatch=True), max_size=30), st.booleans())
def test_no_line_of_the_signature_is_longer_than_78_octets(extra: list[bytes], timed: bool) -> None:
    message = b"".join(name + b": x\r\n" for name in extra) + MESSAGE
    policy = SignPolicy(fields=frozenset(name.lower() for name in extra), add_timestamp=timed)

    signature = sign(message, policy, kind="rsa", identity="alice@mail.example.com")

    assert max(len(row) for row in signature.split(b"\r\n")) <= 78
    assert signature.endswith(b"\r\n")


@pytest.mark.parametrize(
    "message", [b"", b"\r\n", b"Subject: x\r\n\r\nbody\r\n", b"no header\r\n", b"\r\nbody"]
)
def test_a_message_without_a_sender_gets_no_signature(message: bytes) -> None:
    assert sign(message) == b""


@given(st.binary(max_size=200))
def test_no_bytes_make_the_signer_fail(noise: bytes) -> None:
    sign(b"From: a@example.com\r\n" + noise)


def test_a_message_without_a_body_verifies() -> None:
    message = b"From: a@example.com\r\nSubject: x\r\n"

    assert dkimpy_accepts(sign(message) + message + b"\r\n")


@pytest.mark.parametrize("policy", POLICIES)
def test_messages_with_the_same_fields_get_signatures_of_their_own(policy: SignPolicy) -> None:
    signer = DkimSigner(KEYS["ed25519"], policy, domain="example.com")
    for number in range(3):
        message = MESSAGE.replace(b"spring", b"%d" % number).replace(b"folded", b"%d" % number)
        draft = signer.draft(Signable(message), NOW)
        assert draft is not None
        assert dkimpy_accepts(draft.sealed() + unstuff(message))


@pytest.mark.parametrize("policy", [replace(one, is_wanted=lambda name: True) for one in POLICIES])
@pytest.mark.parametrize(
    "block",
    [
        b"From: a@example.com\r\n",
        b"FROM: a@example.com\r\nfrom\r\nX-%s: 100%\r\nSubject:\r\n",
        b"From: a@example.com\r\nno field at all\r\nto\r\nTo: %d\r\n",
        b"".join(b"X-%d: %d\r\n" % (n, n) for n in range(3 * LARGEST_SHAPE)) + b"From: a@example.com\r\n",
    ],
)
def test_odd_fields_are_signed_as_they_are(block: bytes, policy: SignPolicy) -> None:
    signer = DkimSigner(KEYS["ed25519"], policy, domain="example.com")
    for _ in range(2):  # with a new plan, and with the one kept
        draft = signer.draft(Signable(block + b"\r\nbody\r\n"), NOW)
        assert draft is not None
        # Lines that are no fields do not count; dkimpy takes them for an error.
        sound = b"".join(line for line in block.splitlines(keepends=True) if b":" in line)
        assert dkimpy_accepts(draft.sealed() + sound + b"\r\nbody\r\n")


def test_a_line_without_a_colon_is_not_taken_for_a_field_of_that_name() -> None:
    signer = DkimSigner(KEYS["ed25519"], SignPolicy(), domain="example.com")
    assert signer.draft(Signable(b"From: a@example.com\r\nX: y\r\n\r\n"), NOW) is not None
    assert signer.draft(Signable(b"From\r\nX: y\r\n\r\n"), NOW) is None
    assert signer.draft(Signable(b"\r\nbody"), NOW) is None
    assert signer.draft(Signable(b""), NOW) is None
