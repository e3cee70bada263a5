"""Arguments of requests to the control socket: passed on, left out, or refused with a sentence."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.service.channel import CommandFailed
from mta.service.requests import checked


def test_what_commands_take_is_passed_on() -> None:
    arguments = {"pattern": "*/v1", "maxitems": 0, "priority": 80, "dryRun": True, "jobId": "spring"}

    assert checked(arguments) == arguments


def test_nothing_is_the_same_as_not_there() -> None:
    assert checked({"pattern": "*", "mode": None, "paused": None}) == {"pattern": "*"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pattern", 5),
        ("pattern", ["*"]),
        ("pattern", "a\nb"),
        ("pattern", "\x1b[31m"),
        ("pattern", "x" * 1001),
        ("maxitems", "5"),
        ("maxitems", -1),
        ("maxitems", True),
        ("maxitems", 2.5),
        ("maxitems", 10**12),
        ("dryRun", "yes"),
        ("dryRun", 1),
        ("x" * 5000, {}),
    ],
)
def test_what_they_do_not_take_is_refused(name: str, value: Any) -> None:
    with pytest.raises(CommandFailed) as refused:
        checked({name: value})

    assert name[:40] in str(refused.value)
    assert len(str(refused.value)) < 200


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
NAMES = st.sampled_from(["pattern", "maxitems", "paused", "dsn", "queue"]) | st.text(max_size=10)


@given(st.dictionaries(NAMES, JSON, max_size=4))
def test_only_simple_values_pass(arguments: dict[str, Any]) -> None:
    try:
        found = checked(arguments)
    except CommandFailed:
        return
    assert all(isinstance(value, str | bool | int) for value in found.values())
    assert set(found) <= set(arguments)
