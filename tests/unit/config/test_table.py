"""The table knows every name of PowerMTA's language, and its rows are sound."""

from __future__ import annotations

from pathlib import Path

import pytest

from mta.config.directives import TABLE, Directive, Kind, Scope, Status
from mta.config.table.rows import ROWS

NAMES = Path(__file__).with_name("powermta_names.txt")
SCOPES = {scope.value or "(top)": scope for scope in Scope}


def known_names() -> list[tuple[Scope, str]]:
    """The facts of powermta_names.txt: `scope name`, one a line."""
    pairs = (line.split(" ", 1) for line in NAMES.read_text().splitlines() if line)
    return [(SCOPES[scope], name) for scope, name in pairs]


def label(row: Directive) -> str:
    return f"{row.name} in {'/'.join(sorted(scope.value or 'top' for scope in row.scopes))}"


def test_every_name_of_the_language_is_known_in_its_scope() -> None:
    unknown = [(scope.name, name) for scope, name in known_names() if TABLE.find(scope, name) is None]

    assert unknown == []
    assert len(known_names()) > 500


def test_names_are_lower_case_and_without_blanks() -> None:
    wrong = [row.name for row in ROWS if row.name != row.name.lower()]
    blank = [row.name for row in ROWS if " " in row.name and row.name != "/regex/ category"]

    assert wrong == blank == []


def test_every_row_explains_itself_in_one_sentence() -> None:
    wrong = [label(row) for row in ROWS if not (row.doc.endswith(".") and 10 < len(row.doc) < 220)]

    assert wrong == []


def test_every_alias_leads_to_a_row_of_the_same_scope() -> None:
    for row in ROWS:
        for scope in row.scopes if row.alias_of else ():
            target = TABLE.find(scope, row.alias_of)
            assert target is not None, label(row)
            assert not target.alias_of, label(row)


def test_only_deprecated_names_and_extensions_are_aliases() -> None:
    statuses = {row.status for row in ROWS if row.alias_of}

    assert statuses <= {Status.DEPRECATED_ALIAS, Status.EXTENSION}
    assert all(row.alias_of for row in ROWS if row.status is Status.DEPRECATED_ALIAS)


def test_sets_of_words_are_given_where_the_kind_needs_them() -> None:
    for row in ROWS:
        if row.kind in (Kind.ENUM, Kind.ENUMS):
            assert row.choices, label(row)
        elif row.choices:  # words that may stand for a number, such as auto
            assert row.kind in (Kind.INTEGER, Kind.PERCENT), label(row)


def test_a_default_of_a_set_is_one_of_its_words() -> None:
    for row in ROWS:
        if row.kind in (Kind.ENUM, Kind.ENUMS) and row.default is not None:
            assert set(row.default.split(",")) <= set(row.choices), label(row)


def test_foreign_names_and_our_own_say_what_to_write_instead() -> None:
    foreign = [row for row in ROWS if row.status is Status.FOREIGN]

    assert foreign
    assert all(row.hint for row in foreign)


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("route", "smtp-hosts"),
        ("max-rcpt-per-transaction", "max-rcpt-per-message"),
        ("421-means-mx-unavailable", "smtp-421-means-mx-unavailable"),
        ("max-msg-per-hour", "max-msg-rate"),
        ("deliver-bounces", "deliver-local-dsn"),
    ],
)
def test_old_and_borrowed_names_are_obeyed_under_the_real_one(name: str, target: str) -> None:
    row = TABLE.resolve(Scope.DOMAIN, name)

    assert row is not None
    assert row.name == target


def test_a_name_may_mean_another_thing_in_another_block() -> None:
    inbound = TABLE.find(Scope.SOURCE, "max-rcpt-per-message")
    outbound = TABLE.find(Scope.DOMAIN, "max-rcpt-per-message")

    assert inbound is not None
    assert outbound is not None
    assert (inbound.default, outbound.default) == ("0", "1000")
