"""domain-macro."""

from __future__ import annotations

from pathlib import Path

import pytest

from mta.config.macros import Macros
from mta.config.problems import Origin, Problems


def macros(*definitions: str) -> tuple[Macros, list[str]]:
    made, problems = Macros(), Problems()
    for number, definition in enumerate(definitions, start=1):
        made.define(definition, Origin(Path("f"), number), problems)
    made.check(problems)
    return made, [f"{found.line}: {found.text}" for found in problems]


def test_a_macro_stands_for_each_of_its_entries() -> None:
    made, problems = macros("yahoo yahoo.com, ymail.com")

    assert problems == []
    assert made.expand("$yahoo") == ("yahoo.com", "ymail.com")


def test_several_macros_give_every_combination() -> None:
    made, _ = macros("a x, y", "b com,net")

    assert made.expand("m,$a.$b,/f.pem") == (
        "m,x.com,/f.pem",
        "m,x.net,/f.pem",
        "m,y.com,/f.pem",
        "m,y.net,/f.pem",
    )


def test_macros_may_use_macros_and_entries_may_start_with_a_dot() -> None:
    made, problems = macros("all yahoo$tld, ymail.com", "tld .com,.co.uk")

    assert problems == []
    assert made.expand("$all") == ("yahoo.com", "yahoo.co.uk", "ymail.com")


def test_loops_are_errors() -> None:
    _, problems = macros("a $b", "b $a")

    assert problems == [
        "1: domain-macro a: $a is defined by itself: a → b → a",
        "2: domain-macro b: $b is defined by itself: b → a → b",
    ]


def test_unknown_names_are_answered_with_the_nearest() -> None:
    made, _ = macros("hotmail hotmail.com")

    with pytest.raises(ValueError, match=r"\$hotmial is not defined, did you mean \$hotmail\?"):
        made.expand("$hotmial")


def test_template_variables_are_no_macros() -> None:
    made, _ = macros()

    assert made.expand("${name} costs 5$") == ("${name} costs 5$",)


def test_a_second_definition_replaces_the_first_with_a_warning() -> None:
    made, problems = macros("a x", "a y")

    assert made.expand("$a") == ("y",)
    assert problems == ["2: domain-macro a is defined again; the first one is in f:1"]


def test_explosions_are_refused() -> None:
    big = ",".join(f"d{number}" for number in range(400))
    made, _ = macros(f"a {big}", f"b {big}")

    with pytest.raises(ValueError, match="more than"):
        made.expand("$a.$b")


def test_a_chain_of_macros_costs_no_more_than_its_length() -> None:
    made, problems = macros("m0 x,y", *(f"m{level} $m{level - 1}, $m{level - 1}" for level in range(1, 40)))

    assert problems == []
    assert made.expand("$m39") == ("x", "y")


def test_an_endless_chain_is_refused() -> None:
    chain = [f"m{level} $m{level + 1}" for level in range(3000)]

    assert macros(*chain)[1]
