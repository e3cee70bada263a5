"""The line of XDFN."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.errors import RemoteProtocolError
from mta.ingress.definitions import parse_definitions, parse_parts, wish_of


def defined(line: bytes) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    parse_definitions(line, found)
    return found


def test_values_stand_bare_or_in_quotes() -> None:
    line = rb'First=Ann LAST="van der  \"B\" \\" empty= none="" x=a=b'

    assert defined(line) == {
        b"first": b"Ann",
        b"last": rb'van der  "B" ' + b"\\",
        b"empty": b"",
        b"none": b"",
        b"x": b"a=b",
    }


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"", 501),
        (b"name", 501),
        (b"1name=x", 501),
        (b"a=x b", 501),
        (b'a="x', 501),
        (b'a="x"y=z', 501),
        (b"*what=x", 504),
        (b"*schedule=x", 501),
        (b"*from=nobody", 501),
        (b"*parts=0", 501),
        (b"*parts=3-1", 501),
        (b"*parts=1-9999,1-9999", 501),
        (b"*priority=0", 501),
        (b"*priority=high", 501),
        (b"*jobid=" + b"x" * 300, 501),
        (b"a=" + b"x" * 70_000, 552),
    ],
)
def test_bad_lines_are_refused_and_define_nothing(line: bytes, code: int) -> None:
    found = {b"a": b"1"}
    with pytest.raises(RemoteProtocolError) as error:
        parse_definitions(line, found)

    assert error.value.reply_code == code
    assert found == {b"a": b"1"}


def test_reserved_names_become_a_wish() -> None:
    wish = wish_of(defined(b"*vmta=v *jobid=j *from=<a@x.org> *envid=e *parts=1,3-4,2 *date=today n=v"))

    assert (wish.vmta, wish.job_id) == ("v", "j")
    assert wish.personal is not None
    assert (wish.personal.originator, wish.personal.envelope_id) == ("a@x.org", "e")
    assert wish.personal.parts == (1, 3, 4, 2)
    assert wish.personal.variables == {"*date": b"today", "n": b"v"}


def test_null_return_path_may_be_asked_for() -> None:
    personal = wish_of(defined(b"*from=<>")).personal

    assert personal is not None
    assert personal.originator == ""


@given(st.binary(max_size=200))
def test_any_line_is_read_or_refused(line: bytes) -> None:
    with contextlib.suppress(RemoteProtocolError):
        assert all(name == name.lower() for name in defined(line))


@given(st.lists(st.integers(1, 9999), min_size=1, max_size=50))
def test_parts_come_back_as_written(numbers: list[int]) -> None:
    assert parse_parts(",".join(map(str, numbers))) == tuple(numbers)
