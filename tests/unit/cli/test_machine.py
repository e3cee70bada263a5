"""The three forms for programs: whatever is in the data, each stays readable."""

from __future__ import annotations

import json
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.cli.machine import FORMS, render

names = st.from_regex(r"[a-zA-Z][a-zA-Z0-9]{0,8}", fullmatch=True)
leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=30)
trees = st.dictionaries(
    names,
    st.recursive(
        leaves, lambda below: st.lists(below, max_size=3) | st.dictionaries(names, below, max_size=3)
    ),
    max_size=4,
)


def test_lists_are_repeated_in_xml_and_numbered_in_dom() -> None:
    data = {"queue": [{"name": "a/b", "paused": False}, {"name": "c/d", "paused": True}], "total": 2}

    assert render("xml", data).splitlines()[1] == (
        "<rsp><data><queue><name>a/b</name><paused>false</paused></queue>"
        "<queue><name>c/d</name><paused>true</paused></queue><total>2</total></data><succ/></rsp>"
    )
    assert render("dom", data).splitlines() == [
        'queue[0].name="a/b"',
        'queue[0].paused="false"',
        'queue[1].name="c/d"',
        'queue[1].paused="true"',
        'total="2"',
    ]


def test_failures_say_why_in_every_form() -> None:
    assert json.loads(render("json", {}, message="no", is_success=False)) == {
        "data": {},
        "status": "failure",
        "message": "no",
    }
    assert "<fail>no</fail>" in render("xml", {}, message="no", is_success=False)
    assert render("dom", {}, message="no\nway", is_success=False) == 'error="no way"'


@given(trees)
def test_any_data_is_well_formed_xml(data: dict[str, Any]) -> None:
    text = render("xml", data)
    root = ElementTree.fromstring(text.encode("utf-8", "replace"))
    assert [child.tag for child in root] == ["data", "succ"]


@given(trees)
def test_any_leaf_is_one_line_of_dom(data: dict[str, Any]) -> None:
    text = render("dom", data)
    for line in text.split("\n") if text else []:
        path, _, value = line.partition("=")
        assert path
        assert value[:1] == value[-1:] == '"'


@pytest.mark.parametrize("form", FORMS)
def test_nothing_is_something(form: str) -> None:
    assert isinstance(render(form, {}), str)
