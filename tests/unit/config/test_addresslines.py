"""Aliases, rewriting and address lists as they are written."""

from __future__ import annotations

import pytest

from mta.config.addressing import Alias
from mta.config.load import load_text
from mta.config.snapshot import Snapshot


def snapshot(text: str) -> Snapshot:
    loaded = load_text(text)
    errors = [str(problem) for problem in loaded.problems if problem.severity.name == "ERROR"]
    assert loaded.snapshot is not None, errors
    return loaded.snapshot


def errors(text: str) -> list[str]:
    return [problem.text for problem in load_text(text).problems if problem.severity.name == "ERROR"]


def rewritten(line: str, sender: str) -> str | None:
    rules = snapshot(f"<rewrite-list r>\nmail-from {line}\n</rewrite-list>\n").rewrite_lists["r"]
    return rules.senders[0].apply(sender)


def test_aliases_may_stand_at_the_top_and_in_their_block() -> None:
    found = snapshot("alias root ann@x.org\n<aliases>\nalias *@Old.example a@x.org, b@x.org\n</aliases>\n")

    assert found.aliases == (Alias("root", ("ann@x.org",)), Alias("*@old.example", ("a@x.org", "b@x.org")))


@pytest.mark.parametrize("line", ["root", "root not-an-address", "* a@x.org", "a@b@c d@x.org"])
def test_alias_that_makes_no_sense_is_an_error(line: str) -> None:
    assert len(errors(f"alias {line}\n")) == 1


@pytest.mark.parametrize(
    ("line", "sender", "expected"),
    [
        ("*@a.example *@b.example", "Ann@A.example", "Ann@b.example"),
        ("*@a.example *@b.example", "ann@sub.a.example", None),
        ("*@*.a.example *@b.example", "ann@x.a.example", "ann@b.example"),
        ("ann@a.example bounces@b.example", "ANN@a.example", "bounces@b.example"),
        ("<> postmaster@b.example", "", "postmaster@b.example"),
        ("*@* <>", "ann@a.example", ""),
        ("*@a.example *@b.example", "", None),
    ],
)
def test_sender_is_rewritten_with_what_the_stars_found(line: str, sender: str, expected: str | None) -> None:
    assert rewritten(line, sender) == expected


@pytest.mark.parametrize("line", ["one", "a@b.c nonsense", "a@b.c *@b.c", "a b c"])
def test_rewrite_that_makes_no_sense_is_an_error(line: str) -> None:
    assert len(errors(f"<rewrite-list r>\nmail-from {line}\n</rewrite-list>\n")) == 1


@pytest.mark.parametrize("line", ["one", "*.a.example *.b.example", "a.example not_/a/domain"])
def test_from_domain_needs_a_pattern_and_a_domain(line: str) -> None:
    assert len(errors(f"<rewrite-list r>\nfrom-domain {line}\n</rewrite-list>\n")) == 1


def test_address_list_knows_addresses_domains_patterns_and_files() -> None:
    text = "address Foo@bar.com\naddress /^x/\ndomain Spam.example.\naddress-file /tmp/list\n"
    book = snapshot(f"<address-list s>\n{text}</address-list>\n").address_books["s"]

    assert (book.addresses, book.domains, book.files) == (
        frozenset({"foo@bar.com"}),
        frozenset({"spam.example"}),
        ("/tmp/list",),
    )
    assert book.regexes[0].search("xyz")


def test_lists_that_do_not_exist_are_errors() -> None:
    assert sorted(errors("<source 0/0>\nsuppression-lists one\nrewrite-list two\n</source>\n")) == [
        "rewrite-list: there is no <rewrite-list> two",
        "suppression-lists: there is no <address-list> one",
    ]
