"""Shares: nobody is lost or doubled by dividing, and frames survive any cutting of the stream."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.errors import RemoteProtocolError
from mta.message.envelope import Envelope, Personal, Recipient, decode_envelope, encode_envelope
from mta.service.share import (
    Frame,
    FrameReader,
    Kind,
    Share,
    decode_head,
    divide,
    encode_answer,
    encode_head,
    encode_header,
    encode_taken,
    name_of,
    numbers_taken,
    share_of,
)
from mta.spool.stored import Waiting

DOMAINS = ("a.example", "b.example", "c.example")


def envelope(*domains: str, queue_id: str = "Q1") -> Envelope:
    recipients = tuple(Recipient(f"r{index}@{domain}", domain) for index, domain in enumerate(domains))
    return Envelope(queue_id, 1.0, "s@example.org", "v1", recipients, job_id="j", captured={"x": "y"})


def owner(domain: str) -> int:
    return DOMAINS.index(domain)


@given(st.lists(st.sampled_from(DOMAINS), min_size=1, max_size=30))
def test_dividing_gives_every_recipient_to_its_owner_and_to_nobody_else(domains: list[str]) -> None:
    whole = envelope(*domains)
    encoded = encode_envelope(whole)
    parts = divide(whole, owner)

    shares = {number: share_of(whole, encoded, [b"body"], indices) for number, indices in parts.items()}
    assert sorted(r.address for share in shares.values() for r in share.envelope.recipients) == sorted(
        r.address for r in whole.recipients
    )
    for number, share in shares.items():
        assert {owner(recipient.queue_domain) for recipient in share.envelope.recipients} == {number}
        assert decode_envelope(share.encoded) == share.envelope
        assert (share.envelope.queue_id, share.envelope.job_id) == ("Q1", "j")


def test_a_message_of_one_owner_is_not_encoded_again() -> None:
    whole = envelope("a.example", "a.example")
    encoded = encode_envelope(whole)

    share = share_of(whole, encoded, [b"x"], [0, 1])

    assert share.encoded is encoded
    assert share.envelope is whole


def test_waiting_recipients_keep_their_attempts_under_their_new_indices() -> None:
    whole = envelope("a.example", "b.example", "a.example", "b.example")

    share = share_of(whole, encode_envelope(whole), [], [1, 3], [Waiting(3, 4, 99.0)])

    assert share.waiting == (Waiting(1, 4, 99.0),)
    assert share.envelope.recipients[1].address == "r3@b.example"


@given(st.lists(st.sampled_from(DOMAINS), min_size=1, max_size=20), st.data())
def test_the_name_is_that_of_these_recipients_of_this_message(
    domains: list[str], data: st.DataObject
) -> None:
    whole = envelope(*domains)
    encoded = encode_envelope(whole)
    some = sorted(data.draw(st.sets(st.integers(0, len(domains) - 1), min_size=1)))
    others = sorted(data.draw(st.sets(st.integers(0, len(domains) - 1), min_size=1)))
    one, other = share_of(whole, encoded, [], some), share_of(whole, encoded, [], others)

    assert (one.name == other.name) == (some == others)
    assert name_of(decode_envelope(one.encoded)) == one.name
    assert name_of(envelope(*domains, queue_id="Q2")) != name_of(whole)


def test_shares_of_one_message_have_names_of_their_own_whatever_a_checksum_says() -> None:
    # These two addresses have the same CRC-32.
    alike = ("u9990985@d.example", "u16400040@d.example")
    one, other = (Envelope("Q1", 1.0, "s", "v1", (Recipient(address, "d.example"),)) for address in alike)
    assert name_of(one) != name_of(other)


def test_two_personal_messages_to_one_address_have_names_of_their_own() -> None:
    recipients = tuple(
        Recipient("r@a.example", "a.example", personal=Personal(variables={"code": code}))
        for code in (b"1", b"2")
    )
    whole = Envelope("Q1", 1.0, "s", "v1", recipients, is_personal=True)
    encoded = encode_envelope(whole)
    one, other = (share_of(whole, encoded, [], [index]) for index in (0, 1))
    assert one.name != other.name
    assert name_of(decode_envelope(one.encoded)) == one.name


@given(st.lists(st.sampled_from("ab"), min_size=1, max_size=6), st.booleans(), st.data())
def test_one_address_given_several_times_is_told_apart_however_the_message_is_divided(
    addresses: list[str], is_personal: bool, data: st.DataObject
) -> None:
    personal = Personal() if is_personal else None
    recipients = tuple(Recipient(f"{name}@a.example", "a.example", personal=personal) for name in addresses)
    whole = Share(Envelope("Q1", 1.0, "s", "v1", recipients, is_personal=is_personal), b"", [])

    def part(share: Share, indices: list[int]) -> Share:
        return share_of(share.envelope, share.encoded, share.body, indices)

    choices = st.sets(st.integers(0, len(addresses) - 1), min_size=1).map(sorted)
    some, others = data.draw(choices), data.draw(choices)
    one, other = part(whole, some), part(whole, others)

    assert (one.name == other.name) == (some == others)
    both = [index for index in some if index in others]
    if both:
        # The same recipients have the same name whichever way they have come.
        assert part(one, [some.index(index) for index in both]).name == part(whole, both).name
        assert part(other, [others.index(index) for index in both]).name == part(whole, both).name


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.binary(max_size=200)), max_size=8), st.data())
def test_frames_survive_any_cutting(contents: list[tuple[int, bytes]], data: st.DataObject) -> None:
    whole = envelope("a.example")
    stream = b""
    expected = []
    for number, body in contents:
        head = encode_head(Share(whole, encode_envelope(whole), [body], (Waiting(0, 1, 2.0),)))
        stream += encode_header(Kind.FRESH, number, len(head), len(body)) + head + body
        stream += encode_answer(Kind.REFUSED, number, "fúll")
        expected += [Frame(Kind.FRESH, number, head, body), Frame(Kind.REFUSED, number, "fúll".encode(), b"")]
    reader = FrameReader()
    found = []
    while stream:
        cut = data.draw(st.integers(1, len(stream)))
        found += reader.feed(stream[:cut])
        stream = stream[cut:]

    assert found == expected
    for frame in found[::2]:
        assert decode_head(frame.head) == (encode_envelope(whole), (Waiting(0, 1, 2.0),))


@given(st.lists(st.integers(0, 2**64 - 1), max_size=50))
def test_one_frame_answers_for_all_shares_that_one_commit_stored(numbers: list[int]) -> None:
    (frame,) = FrameReader().feed(encode_taken(numbers))

    assert frame.kind is Kind.TAKEN
    assert list(numbers_taken(frame.head)) == numbers


def test_an_answer_of_half_a_number_is_refused() -> None:
    with pytest.raises(ValueError, match="bytes"):
        numbers_taken(b"\0" * 12)


@given(st.binary(min_size=17, max_size=200))
def test_anything_else_is_refused_or_understood_but_never_crashes(stream: bytes) -> None:
    try:
        for frame in FrameReader().feed(stream):
            assert frame.kind in Kind
    except RemoteProtocolError:
        pass


def test_a_frame_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(RemoteProtocolError):
        list(FrameReader().feed(bytes([9]) + bytes(16)))
