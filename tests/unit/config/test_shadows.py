from __future__ import annotations

import pytest

from mta.config.load import load_text
from mta.config.shadows import (
    hidden_patterns,
    hidden_rollups,
    queues_without_entrance,
    rollups_without_way,
)


def hidden_lines(*entries: str, block: str = "smtp-pattern-list x") -> list[int]:
    """The numbers (from 1) of the entries that are never reached."""
    name = block.split()[0]
    loaded = load_text("\n".join([f"<{block}>", *entries, f"</{name}>"]))
    assert loaded.snapshot is not None, loaded.problems
    return [problem.line - 1 for problem in hidden_patterns(loaded.snapshot)]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("/busy/", "/busy/"),
        ("/Busy/", "/bUSY/"),
        ("//", "/busy/"),
        ("/.*/", "/busy/"),
        ("/full/", "/mailbox full/"),
        (r"/4\.2\.2/", r"/452 4\.2\.2 full/"),
    ],
)
def test_an_entry_behind_one_that_takes_everything_of_its_is_reported(first: str, second: str) -> None:
    assert hidden_lines(f"reply {first} mode=backoff", f"reply {second} defer-queue") == [2]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("/mailbox full/", "/full/"),
        ("/4.2.2/", r"/4\.2\.2/"),
        ("/a|b/", "/a/"),
        ("/busy/", "//"),
        ("/busy$/", "/busy now/"),
    ],
)
def test_an_entry_that_may_still_be_reached_is_not(first: str, second: str) -> None:
    assert hidden_lines(f"reply {first} mode=backoff", f"reply {second} defer-queue") == []


def test_replies_and_failed_connections_are_lists_of_their_own() -> None:
    assert hidden_lines("reply // mode=backoff", "connect /refused/ mode=backoff") == []


def test_bounce_categories_are_looked_at_too() -> None:
    assert hidden_lines(
        "/spam/ spam-related", "// other", "/late/ other", block="bounce-category-patterns"
    ) == [3]


def test_the_message_names_the_line_that_comes_first() -> None:
    loaded = load_text(
        "<smtp-pattern-list x>\nreply /a/ mode=backoff\nreply /ba/ mode=normal\n</smtp-pattern-list>"
    )
    assert loaded.snapshot is not None
    (problem,) = hidden_patterns(loaded.snapshot)

    assert "/ba/ is never reached: line 2 of" in problem.text


def test_a_roll_up_that_leads_nowhere_is_reported() -> None:
    text = (
        "<mx-rollup-list>\nmx *.a.example a.rollup\nmx *.b.example b.rollup rollup-by-ip\n</mx-rollup-list>\n"
    )
    route = "<domain a.rollup>\nsmtp-hosts lookup-mx:a.example\n</domain>"
    bare, routed = load_text(text).snapshot, load_text(text + route).snapshot
    assert bare is not None
    assert routed is not None

    assert [problem.line for problem in rollups_without_way(bare)] == [2]
    assert list(rollups_without_way(routed)) == []


@pytest.mark.parametrize(
    ("entries", "lines"),
    [
        (("mail-from /@a/ virtual-mta=v1", "mail-from /x@a/ virtual-mta=v1"), [2]),
        (("mail-from /@a/ virtual-mta=v1", "rcpt-to /x@a/ virtual-mta=v1"), []),
        (("mail-from /@a/ recipient-priority=80", "mail-from /@a/ virtual-mta=v1"), []),
        (("header Subject /x/ virtual-mta=v1", "header From /x/ virtual-mta=v1"), []),
    ],
)
def test_choices_of_a_virtual_mta_hide_each_other_by_what_they_look_at(
    entries: tuple[str, ...], lines: list[int]
) -> None:
    text = "<virtual-mta v1>\n</virtual-mta>\n<pattern-list p>\n" + "\n".join(entries) + "\n</pattern-list>"
    loaded = load_text(text)
    assert loaded.snapshot is not None, loaded.problems

    assert [problem.line - 3 for problem in hidden_patterns(loaded.snapshot)] == lines


@pytest.mark.parametrize(
    ("lines", "hidden"),
    [
        (("*.x.example a.rollup", "*.x.example b.rollup"), ["b.rollup"]),
        (("[*.]x.example a.rollup", "*.x.example b.rollup"), ["b.rollup"]),
        (("*.x.example a.rollup", "*.mx.x.example b.rollup"), []),
        (("*.x.example a.rollup", "*.y.example b.rollup"), []),
        (("m1.example a.rollup", "m1.example b.rollup", "m2.example b.rollup"), ["b.rollup"]),
        (("m1.example a.rollup", "m2.example a.rollup", "m1.example b.rollup"), []),
        (("m1.example a.rollup", "*.example b.rollup"), []),
    ],
)
def test_a_roll_up_behind_one_that_takes_all_its_domains_is_reported(
    lines: tuple[str, ...], hidden: list[str]
) -> None:
    text = "<mx-rollup-list>\n" + "\n".join(f"mx {line}" for line in lines) + "\n</mx-rollup-list>"
    loaded = load_text(text)
    assert loaded.snapshot is not None, loaded.problems

    assert [problem.text.split()[0] for problem in hidden_rollups(loaded.snapshot)] == hidden


def test_settings_of_queues_that_no_mail_enters_are_reported_where_they_begin() -> None:
    text = """<mx-rollup-list>
mx *.x.example known.rollup
</mx-rollup-list>
<domain known.rollup>
max-smtp-out 1
</domain>
<domain lost.rollup>
max-smtp-out 1
max-msg-rate 1/h
</domain>
<domain x.example>
queue-to Joint.queue
</domain>
<domain joint.queue>
max-smtp-out 1
</domain>
<virtual-mta v1>
<domain other.queue>
max-smtp-out 1
</domain>
</virtual-mta>
"""
    loaded = load_text(text)
    assert loaded.snapshot is not None, loaded.problems

    assert [(problem.line, problem.text) for problem in queues_without_entrance(loaded.snapshot)] == [
        (8, "<domain lost.rollup>: no mx line leads mail there"),
        (19, "<domain other.queue>: no queue-to leads mail there"),
    ]
