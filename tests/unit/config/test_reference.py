"""The committed pages are the generated ones, and they hold the whole table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mta.config.blocks import BLOCKS
from mta.config.directives import TABLE, Status
from mta.config.reference import PAGES, main, man_page, markdown

DOCS = Path(__file__).resolve().parents[3] / "docs"


@pytest.mark.parametrize(("name", "page"), PAGES)
def test_committed_page_is_what_the_table_says(name: str, page: Callable[[], str]) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == page(), "run: make docs"


def test_every_directive_is_on_the_page() -> None:
    page = markdown()

    assert [row.name for row in TABLE if f"| `{row.name}` |" not in page] == []


def test_every_block_has_a_section() -> None:
    page = markdown()

    assert [form.name for form in BLOCKS if f"## `<{form.name}>`" not in page] == []


def test_what_has_no_effect_is_said_beside_it() -> None:
    rows = [line for line in markdown().splitlines() if line.startswith("| `use-dane` |")]

    assert [row.endswith("| no effect yet |") for row in rows] == [True]


def test_no_cell_breaks_its_table() -> None:
    tables = [line for line in markdown().splitlines() if line.startswith("| `")]

    assert {line.replace("\\|", "").count("|") for line in tables} == {6}


def test_links_on_the_page_lead_to_its_sections() -> None:
    page = markdown()
    anchors = {
        line[3:].strip("`<>").lower().replace(" ", "-")
        for line in page.splitlines()
        if line.startswith("## ")
    }
    linked = {part.split(")")[0] for part in page.split("](#")[1:]}

    assert linked <= anchors


def test_man_page_has_the_sections_that_readers_look_for() -> None:
    page = man_page()

    for section in ("NAME", "DESCRIPTION", "FILES", '"SEE ALSO"'):
        assert f".SH {section}" in page or f".SH {section.strip(chr(34))}" in page


def test_man_page_has_no_line_that_troff_takes_for_a_request() -> None:
    requests = {".TH", ".SH", ".SS", ".PP", ".TP", ".IP", '.\\"'}
    starts = {line.split(" ")[0] for line in man_page().splitlines() if line.startswith((".", "'"))}

    assert starts <= requests


def test_everything_foreign_names_the_real_thing() -> None:
    page = markdown()

    for row in TABLE:
        if row.status is Status.FOREIGN:
            assert row.hint[1:] in page


def test_program_writes_the_pages_where_it_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path)]) == 0

    assert (tmp_path / "configuration.md").read_text(encoding="utf-8") == markdown()
    assert (tmp_path / "man" / "mta.conf.5").read_text(encoding="utf-8") == man_page()
    assert "configuration.md" in capsys.readouterr().out


def test_program_without_a_folder_says_how_to_call_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 64
    assert "usage" in capsys.readouterr().err
