"""The documentation is true where a program can tell: links, names, and the list of what is missing."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import click
import pytest

from mta.cli.main import cli
from mta.config.blocks import BLOCKS
from mta.config.directives import TABLE, Directive, Status
from mta.config.lint import Machine, lint
from mta.config.load import load_text

ROOT = Path(__file__).resolve().parents[3]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").glob("*.md")])

_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_WORD = re.compile(r"`([^`]+)`")


def prose(path: Path) -> str:
    """A page without its code: what stands in fences or is indented by four is no link."""
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    return "\n".join(line for line in text.splitlines() if not line.startswith("    "))


def headings(path: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    found = set()
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            title = line.lstrip("#").strip().lower()
            found.add("".join(char for char in title if char.isalnum() or char in " -_").replace(" ", "-"))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for target in _LINK.findall(prose(page)):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in headings(file)):
            broken.append(target)

    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_page_names_a_directory_of_its_author(page: Path) -> None:
    assert not re.search(r"/home/\w|/work/|/Users/", page.read_text(encoding="utf-8"))


def test_example_in_the_readme_is_sound() -> None:
    text = (
        (ROOT / "README.md")
        .read_text(encoding="utf-8")
        .split("## A configuration")[1]
        .split("The whole of it")[0]
    )

    loaded = load_text(textwrap.dedent(text))

    assert [str(problem) for problem in loaded.problems] == []
    assert loaded.snapshot is not None
    machine = Machine(file_limit=65536, memory=16 << 30)
    assert [str(problem) for problem in lint(loaded.snapshot, machine)] == []


def rows(name: str) -> list[Directive]:
    return [row for row in TABLE if row.name == name]


def missing() -> list[str]:
    """The directives that docs/migration.md calls missing."""
    text = (ROOT / "docs" / "migration.md").read_text(encoding="utf-8")
    section = text.split("## What is not there yet")[1].split("\n## ")[0]
    table = [line for line in section.splitlines() if line.startswith("|")]
    return [name for line in table for name in _WORD.findall(line)]


def test_list_of_what_is_missing_is_there() -> None:
    assert len(missing()) > 5


@pytest.mark.parametrize("name", missing())
def test_what_migration_calls_missing_has_no_effect(name: str) -> None:
    assert rows(name), "not a directive"
    assert [row.status.value for row in rows(name) if row.status is not Status.NO_EFFECT] == []


@pytest.mark.parametrize("page", ["migration.md", "operations.md", "getting-started.md", "accounting.md"])
def test_tags_that_pages_name_exist(page: str) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    named = set(re.findall(r"`<([a-z][a-z-]+)[ >]", text))

    assert named <= {form.name for form in BLOCKS}


def test_every_runtime_dependency_has_its_reason() -> None:
    text = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    names = re.findall(r'^  "([a-z0-9-]+)[=<>]', project, flags=re.MULTILINE)

    assert len(names) > 15
    assert [name for name in names if f"| {name} |" not in text] == []


def test_bounce_categories_of_the_accounting_page_are_those_of_the_default_list() -> None:
    from mta.config.categories import default_categories

    text = (ROOT / "docs" / "accounting.md").read_text(encoding="utf-8")

    assert [found.category for found in default_categories() if found.category not in text] == []


def test_man_page_explains_every_command() -> None:
    from mta.cli.main import COMMANDS

    page = (ROOT / "docs" / "man" / "mta.1").read_text(encoding="utf-8").replace("\\-", "-")

    assert [name for name in COMMANDS if not re.search(rf"^\.BI? \"?.*\b{name}\b", page, re.MULTILINE)] == []


def test_commands_that_pages_show_exist() -> None:
    from mta.cli.main import COMMANDS

    shown = set()
    for page in PAGES:
        shown |= set(re.findall(r"(?:^    (?:sudo )?|`)mta ([a-z]+)", page.read_text("utf-8"), re.MULTILINE))

    assert shown - {"sh"} <= set(COMMANDS)


def test_accounting_page_has_the_columns_of_every_record_type_in_their_order() -> None:
    from mta.events.accounting import ACCOUNTING_COLUMNS, OPTIONAL_COLUMNS, REJECT_COLUMNS

    text = (ROOT / "docs" / "accounting.md").read_text(encoding="utf-8")

    for columns in (*ACCOUNTING_COLUMNS.values(), *REJECT_COLUMNS.values()):
        assert f"| {', '.join(columns)} |" in text
    assert [name for name in OPTIONAL_COLUMNS if name not in text] == []


def commands(group: click.Group, path: str = "") -> list[str]:
    """Every command below `group` with the names that lead to it."""
    found = []
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            found += commands(command, f"{path}{name} ")
        else:
            found.append(f"{path}{name}")
    return found


def test_manual_has_every_command() -> None:
    manual = (ROOT / "docs" / "man" / "mta.1").read_text(encoding="utf-8").replace("\\-", "-")
    # `check FILE` is a command of its own only to the program.
    names = [name for name in commands(cli) if name != "check configuration-file"]

    assert len(names) > 40
    assert [name for name in names if name not in manual] == []
