"""What one recipient gets: return paths, envelope ids, and templates filled in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.message.envelope import Envelope, Personal, Recipient, decode_envelope, encode_envelope
from mta.message.personal import expand, personal_content, personal_envelope, return_path

OWN = b"Received: by mx.test\r\n"


def envelope(*personals: Personal | None, template: tuple[int, ...] = (), **fields: object) -> Envelope:
    recipients = tuple(
        Recipient(f"r{number}@example.net", "example.net", personal=personal)
        for number, personal in enumerate(personals)
    )
    made = Envelope("Q1", 1_790_000_000.0, "a@example.com", "v1", recipients, "job1", "env1")
    return Envelope(
        **{
            **{name: getattr(made, name) for name in made.__struct_fields__},
            "is_personal": True,
            "template": template,
            **fields,
        }
    )


def content_for(*parts: bytes, personal: Personal | None = None, **fields: object) -> bytes:
    made = envelope(personal, template=(len(OWN), *map(len, parts)), **fields)
    content = personal_content(made, 0, OWN + b"".join(parts))
    assert content.startswith(OWN)
    return content[len(OWN) :]


@pytest.mark.parametrize(
    ("originator", "recipient", "expected"),
    [
        ("news@a.org", "bob@b.net", "news-bob=b.net@a.org"),
        ("news@a.org", "Bob.X@B.net", "news-Bob.X=b.net@a.org"),
        ("news@a.org", "bob@bücher.example", "news-bob=xn--bcher-kva.example@a.org"),
        ("", "bob@b.net", None),
        ("news@a.org", '"b o b"@b.net', None),
        ('"n"@a.org', "bob@b.net", None),
        ("news@a.org", "bob@[192.0.2.1]", None),
        ("n" * 60 + "@a.org", "b" * 64 + "@" + "c" * 60 + ".net", None),
    ],
)
def test_return_path_names_the_recipient(originator: str, recipient: str, expected: str | None) -> None:
    assert return_path(originator, recipient) == expected


def test_envelope_of_one_recipient_has_its_own_return_path_and_id() -> None:
    made = envelope(Personal("x@example.com", "mine"), None, Personal())

    first, second, third = (personal_envelope(made, index) for index in range(3))

    assert (first.originator, first.envelope_id) == ("x@example.com", "mine")
    assert second is made
    assert third is made


def test_null_return_path_of_ones_own_is_not_the_message_s() -> None:
    assert personal_envelope(envelope(Personal("")), 0).originator == ""


def test_content_without_a_template_is_left_alone() -> None:
    assert personal_content(envelope(Personal()), 0, b"[name] [[") == b"[name] [["


def test_fields_are_filled_in_whatever_their_case() -> None:
    personal = Personal(variables={"name": b"Ann"})

    assert (
        content_for(b"Dear [Name], [[1] [other] [ x ]\r\n", personal=personal) == b"Dear Ann, [1]  [ x ]\r\n"
    )


def test_unknown_fields_may_stay() -> None:
    assert content_for(b"a [other] [[b\r\n", drops_unknown=False) == b"a [other] [b\r\n"


def test_names_of_our_own_have_values() -> None:
    template = b"[*to] [*from] [*envid] [*jobid] [*vmta] [*parts] [*date]\r\n"

    assert content_for(template, personal=Personal(parts=(1,))) == (
        b"r0@example.net a@example.com env1 job1 v1 1 Mon, 21 Sep 2026 14:13:20 -0000\r\n"
    )


def test_given_value_wins_over_our_own() -> None:
    assert content_for(b"[*date]\r\n", personal=Personal(variables={"*date": b"today"})) == b"today\r\n"


def test_parts_come_in_the_order_asked_for() -> None:
    parts = (b"one\r\n", b"two\r\n", b"three\r\n")

    assert content_for(*parts, personal=Personal(parts=(3, 1, 9))) == b"three\r\none\r\n"
    assert content_for(*parts) == b"one\r\ntwo\r\nthree\r\n"


def test_value_with_a_dot_at_the_start_of_a_line_is_stuffed() -> None:
    personal = Personal(variables={"dot": b".", "none": b""})

    assert content_for(b"[dot]\r\n..\r\n[none]..x\r\n", personal=personal) == b"..\r\n..\r\n...x\r\n"


@given(st.text("ab[]*", max_size=30), st.booleans())
def test_text_without_names_only_loses_doubled_brackets(text: str, drops_unknown: bool) -> None:
    raw = text.replace("a", "1").replace("b", "2").encode()

    assert expand(raw, {}, drops_unknown=drops_unknown) == raw.replace(b"[[", b"[")


@given(st.binary(max_size=60))
def test_template_of_fields_that_stay_is_unchanged_on_the_wire(raw: bytes) -> None:
    lines = raw.replace(b"[", b"(").replace(b"\r", b"").split(b"\n")
    wire = b"".join((b"." + line if line.startswith(b".") else line) + b"\r\n" for line in lines)

    assert content_for(wire) == wire


def test_personal_parts_survive_the_spool_and_old_envelopes_have_none() -> None:
    made = envelope(Personal("x@example.com", "e", (2, 1), {"n": b"\xff"}), None, template=(3, 4))

    assert decode_envelope(encode_envelope(made)) == made
    old = Envelope("Q1", 1.0, "a@example.com", "v1", (Recipient("r@example.net", "example.net"),))
    assert decode_envelope(encode_envelope(old)).recipients[0].personal is None
