"""The shapes of a configuration file: lines, comments, tags, continued lists."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.config.problems import Problems
from mta.config.syntax import Block, Line, Node, parse

FILE = Path("/etc/mta/config")
KNOWN = {"max-smtp-out", "spool", "domain-key", "relay-domain", "domain-macro"}


def read(text: str) -> tuple[list[Node], list[str]]:
    problems = Problems()
    nodes = parse(text, FILE, problems, is_directive=lambda name: name in KNOWN)
    return nodes, [f"{found.line}: {found.text}" for found in problems]


def shape(nodes: list[Node]) -> list[object]:
    """Blocks as (name, argument, children), lines as 'name value'."""
    return [
        (node.name, node.argument, shape(node.children))
        if isinstance(node, Block)
        else f"{node.name} {node.value}"
        for node in nodes
    ]


def test_lines_blocks_and_comments_become_a_tree_with_line_numbers() -> None:
    nodes, problems = read("# top\n\nspool /a  # here\n<domain x.y>\n  max-smtp-out 5\n</domain> # end\n")

    assert problems == []
    assert shape(nodes) == ["spool /a", ("domain", "x.y", ["max-smtp-out 5"])]
    assert isinstance(nodes[0], Line)
    assert nodes[0].number == 3
    assert isinstance(nodes[1], Block)
    assert nodes[1].number == 4
    assert nodes[1].children[0].number == 5


def test_crlf_tabs_and_a_byte_order_mark_make_no_difference() -> None:
    nodes, problems = read("\ufeffspool\t/a\r\n\t<domain x.y>\r\n\t\tmax-smtp-out\t5\t\r\n</domain>\r\n")

    assert problems == []
    assert shape(nodes) == ["spool /a", ("domain", "x.y", ["max-smtp-out 5"])]


def test_tags_nest() -> None:
    nodes, problems = read(
        "<virtual-mta v>\n<domain a>\nx 1\n</domain>\n<domain b>\n</domain>\n</virtual-mta>"
    )

    assert problems == []
    assert shape(nodes) == [("virtual-mta", "v", [("domain", "a", ["x 1"]), ("domain", "b", [])])]


def test_a_comment_sign_ends_the_line_even_inside_a_value() -> None:
    nodes, problems = read("password abc#def\n")

    assert shape(nodes) == ["password abc"]
    assert problems == ["1: the value ends at the #, which starts a comment"]


def test_a_comment_line_may_consist_of_anything() -> None:
    assert read("##########\n#__MARKER__spool /x\n  # <domain>\n") == ([], [])


def test_a_list_that_ends_in_a_comma_goes_on_in_the_next_line() -> None:
    nodes, problems = read("domain-macro big a.com,\n   b.com, # two\n\n   c.com\nspool /a\n")

    assert problems == []
    assert shape(nodes) == ["domain-macro big a.com, b.com, c.com", "spool /a"]


def test_a_macro_with_only_a_name_takes_the_next_line() -> None:
    nodes, problems = read("domain-macro big\na.com,b.com\n")

    assert problems == []
    assert shape(nodes) == ["domain-macro big a.com,b.com"]


@pytest.mark.parametrize("following", ["spool /a", "<domain x>\n</domain>"])
def test_a_trailing_comma_does_not_swallow_the_next_directive(following: str) -> None:
    nodes, problems = read(f"domain-macro big a.com, b.com,\n{following}\n")

    assert shape(nodes)[0] == "domain-macro big a.com, b.com"
    assert len(nodes) == 2
    assert problems == ["1: the list ends in a comma"]


def test_arguments_may_be_quoted_and_commands_may_redirect() -> None:
    nodes, problems = read(
        '<acct-file "/a b/c>d.csv">\n</acct-file>\n<acct-file |/bin/x > /tmp/y>\n</acct-file>'
    )

    assert problems == []
    assert shape(nodes) == [("acct-file", '"/a b/c>d.csv"', []), ("acct-file", "|/bin/x > /tmp/y", [])]


def test_a_block_may_stand_on_one_line() -> None:
    nodes, problems = read("<smtp-user u> password x </smtp-user>\nspool /a\n")

    assert problems == []
    assert shape(nodes) == [("smtp-user", "u", ["password x"]), "spool /a"]


def test_a_pattern_list_may_open_at_the_end_of_an_entry() -> None:
    nodes, problems = read(
        "<pattern-list p>\nmail-from /a/ <pattern-list>\nrcpt-to /b/ virtual-mta=v\n</pattern-list>\n"
        "* virtual-mta=w\n</pattern-list>\n"
    )

    assert problems == []
    outer = nodes[0]
    assert isinstance(outer, Block)
    first = outer.children[0]
    assert isinstance(first, Line)
    assert (first.name, first.value) == ("mail-from", "/a/")
    assert first.nested is not None
    assert shape(first.nested.children) == ["rcpt-to /b/ virtual-mta=v"]
    assert shape(outer.children[1:]) == ["* virtual-mta=w"]


def test_an_empty_pair_of_brackets_is_a_value() -> None:
    nodes, problems = read("<rewrite-list r>\nmail-from *@a <>\n</rewrite-list>\n")

    assert problems == []
    assert shape(nodes) == [("rewrite-list", "r", ["mail-from *@a <>"])]


def test_a_block_without_end_is_reported_where_it_starts() -> None:
    nodes, problems = read("spool /a\n<domain x>\nmax-smtp-out 1\n")

    assert problems == ["2: <domain> is never closed"]
    assert len(nodes) == 2


def test_a_wrong_end_is_reported_and_reading_goes_on() -> None:
    nodes, problems = read("<domain x>\n</source>\nmax-smtp-out 1\n</domain>\n</domain>\nspool /a")

    assert problems == ["2: </source> closes nothing (inside <domain>)", "5: </domain> closes nothing"]
    assert shape(nodes) == [("domain", "x", ["max-smtp-out 1"]), "spool /a"]


def test_a_missing_inner_end_is_found_at_the_outer_one() -> None:
    nodes, problems = read("<virtual-mta v>\n<domain x>\n</virtual-mta>\nspool /a")

    assert problems == ["2: <domain> is not closed before </virtual-mta> in line 3"]
    assert len(nodes) == 2


def test_blocks_in_braces_are_skipped_with_a_warning() -> None:
    nodes, problems = read("smtp-listener 0.0.0.0:25 {\n tls yes\n}\nspool /a\n")

    assert shape(nodes) == ["spool /a"]
    assert problems == [
        "1: blocks in braces don't exist in this language: it is ignored, up to the closing brace"
    ]


def test_an_unfinished_tag_is_reported() -> None:
    assert read("<domain x\nspool /a")[1] == ["1: the tag <domain has no closing >"]


PIECES = st.sampled_from(
    [
        "<domain x>",
        "</domain>",
        "<virtual-mta v",
        "<",
        ">",
        "/",
        '"',
        "\\",
        "#",
        ",",
        " ",
        "\t",
        "\n",
        "\r\n",
        "spool",
        "domain-macro",
        "$a",
        "{",
        "}",
        "[*.]",
        "\x00",
        "é",
        "/re/",
        "1/h",
        "\ufeff",
        "\x85",
        "\u2028",
    ]
)


@given(st.one_of(st.text(max_size=300), st.lists(PIECES, max_size=60).map("".join)))
def test_no_text_raises_and_every_problem_has_a_line(text: str) -> None:
    problems = Problems()
    nodes = parse(text, FILE, problems, is_directive=lambda name: name in KNOWN)

    last = text.count("\n") + text.count("\r") + 1
    for found in problems:
        assert found.file == FILE
        assert 1 <= found.line <= last
        assert found.text
    assert_in_order(nodes)


def assert_in_order(nodes: list[Node]) -> None:
    numbers = [node.number for node in nodes]
    assert numbers == sorted(numbers)
    for node in nodes:
        if isinstance(node, Block):
            assert_in_order(node.children)
