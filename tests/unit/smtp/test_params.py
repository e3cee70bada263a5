"""Parameters of MAIL and RCPT."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.errors import RemoteProtocolError
from mta.message.envelope import Notify, Ret
from mta.smtp.params import (
    decode_xtext,
    encode_xtext,
    parse_mail_parameters,
    parse_rcpt_parameters,
)


def test_no_parameters_leave_the_defaults() -> None:
    assert parse_mail_parameters(b"") == (-1, False, False, 0, "", False)
    assert parse_rcpt_parameters(b"  ") == (0, "")


def test_mail_parameters_in_any_case_and_order() -> None:
    found = parse_mail_parameters(
        b" body=8bitmime  Size=12345 SMTPUTF8 ret=hdrs ENVID=QQ+2B314 AUTH=<>".replace(b"<>", b"a+40b")
    )

    assert found == (12345, True, True, Ret.HDRS, "QQ+314", False)


@pytest.mark.parametrize("word", [b"VERP", b"XVERP"])
def test_verp_is_only_known_where_it_is_offered(word: bytes) -> None:
    assert parse_mail_parameters(word, with_verp=True).wants_verp
    with pytest.raises(RemoteProtocolError, match=r"5\.5\.4"):
        parse_mail_parameters(word)


def test_rcpt_parameters_have_the_bits_of_the_envelope() -> None:
    found = parse_rcpt_parameters(b"NOTIFY=SUCCESS,delay ORCPT=rfc822;Bob+40example.com")

    assert found.notify == Notify.SUCCESS | Notify.DELAY
    assert found.orcpt == "rfc822;Bob@example.com"
    assert parse_rcpt_parameters(b"NOTIFY=NEVER").notify == Notify.NEVER
    assert parse_mail_parameters(b"RET=FULL").ret == Ret.FULL


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"SIZE=", 501),
        (b"SIZE=-1", 501),
        (b"SIZE=1e3", 501),
        (b"SIZE", 501),
        (b"SIZE=" + b"9" * 21, 501),
        (b"SIZE=1 SIZE=2", 501),
        (b"BODY=9BITMIME", 501),
        (b"BODY=BINARYMIME", 555),
        (b"SMTPUTF8=YES", 501),
        (b"RET=BODY", 501),
        (b"ENVID=", 501),
        (b"ENVID=a+0D+0Ab", 501),
        (b"ENVID=a+00", 501),
        (b"ENVID=a=b", 501),
        (b"ENVID=a+4", 501),
        (b"ENVID=" + b"x" * 101, 501),
        (b"ENVID=\xc3\xa5", 501),
        (b"ENVID=+C3+A5", 501),
        (b"REQUIRETLS", 555),
        (b"XVERP=-=", 555),
        (b"=x", 501),
        (b"SI\tZE=1", 501),
        (b"\x00", 501),
        (b"AUTH=+", 501),
    ],
)
def test_bad_mail_parameter_is_refused(text: bytes, code: int) -> None:
    with pytest.raises(RemoteProtocolError, match=r"^5\.5\.4 ") as caught:
        parse_mail_parameters(text)

    assert caught.value.reply_code == code


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"NOTIFY=", 501),
        (b"NOTIFY", 501),
        (b"NOTIFY=NEVER,SUCCESS", 501),
        (b"NOTIFY=SOMETIMES", 501),
        (b"ORCPT=bob@example.com", 501),
        (b"ORCPT=rfc822;", 501),
        (b"ORCPT=;x", 501),
        (b"ORCPT", 501),
        (b"ORCPT=rfc822;a+0Ab", 501),
        (b"ORCPT=rfc822;" + b"x" * 501, 501),
        (b"ORCPT=utf-8;\xc3\xa5", 501),
        (b"SIZE=1", 555),
    ],
)
def test_bad_rcpt_parameter_is_refused(text: bytes, code: int) -> None:
    with pytest.raises(RemoteProtocolError, match=r"^5\.5\.4 ") as caught:
        parse_rcpt_parameters(text)

    assert caught.value.reply_code == code


def test_smtputf8_is_unknown_where_it_is_not_offered() -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        parse_mail_parameters(b"SMTPUTF8", with_smtputf8=False)

    assert caught.value.reply_code == 555


def test_orcpt_may_be_utf8_with_smtputf8() -> None:
    assert parse_rcpt_parameters("ORCPT=utf-8;grå@x".encode(), is_utf8=True).orcpt == "utf-8;grå@x"
    with pytest.raises(RemoteProtocolError):
        parse_rcpt_parameters(b"ORCPT=utf-8;\xff", is_utf8=True)


@given(st.text(alphabet=st.characters(codec="utf-8")))
def test_xtext_comes_back(text: str) -> None:
    encoded = encode_xtext(text)

    assert encoded.isascii()
    assert " " not in encoded
    assert decode_xtext(encoded.encode()).decode() == text


@given(st.binary(max_size=120))
def test_any_bytes_are_parameters_or_a_protocol_error(text: bytes) -> None:
    for parse in (parse_mail_parameters, parse_rcpt_parameters):
        try:
            found = parse(text)
        except RemoteProtocolError as error:
            said: tuple[object, ...] = (str(error),)
        else:
            said = tuple(found)
        assert all(part.isprintable() for part in said if isinstance(part, str))
