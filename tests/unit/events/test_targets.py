"""From the configuration's words to what an output needs."""

from __future__ import annotations

from pathlib import Path

from mta.events.accounting import Format, HeaderMapping
from mta.events.targets import targets_of
from tests.support.event_log import snapshot_of


def test_file_has_its_names_limits_and_defaults() -> None:
    (target,) = targets_of(
        snapshot_of(
            """
<acct-file /var/log/mta/acct.csv>
    records d, bounce, transient-queue
    move-to /var/log/mta/done
    move-interval 2h
    max-size 10M
    delete-after never
    iso-times no
    sync yes
    world-readable yes
    user-string "host 7"
</acct-file>"""
        )
    )

    assert target.format.types == ("d", "b", "tq")
    assert (target.format.iso_times, target.format.user_string) == (False, "host 7")
    assert target.file is not None
    assert target.file.path == Path("/var/log/mta/acct.csv")
    assert target.file.move_to == Path("/var/log/mta/done")
    assert (target.file.interval, target.file.max_size, target.file.delete_after) == (7200.0, 10 << 20, None)
    assert target.file.sync
    assert target.file.world_readable
    assert target.pipe is None


def test_columns_of_a_type_may_be_written_in_several_lines() -> None:
    (target,) = targets_of(
        snapshot_of(
            """
<acct-file /x/acct.csv>
    records d, b
    record-fields d *,header_X-Foo
    record-fields d !orcpt
    record-fields bounce rcpt, dsnDiag
    map-header-to-field b header_X-Original rcpt
</acct-file>"""
        )
    )

    columns = Format(target.format).columns
    assert "header_X-Foo" in columns
    assert "orcpt" not in columns
    assert target.format.fields["b"] == ["rcpt", "dsnDiag"]
    assert target.format.mappings == (HeaderMapping("b", "x-original", "rcpt"),)


def test_pipe_has_its_command_and_patience() -> None:
    (target,) = targets_of(
        snapshot_of("<acct-file |/usr/bin/feed --fast>\nretry-interval 1m\nwrite-timeout 10s\n</acct-file>")
    )

    assert target.pipe is not None
    assert target.pipe.command == "/usr/bin/feed --fast"
    assert (target.pipe.retry_interval, target.pipe.write_timeout) == (60.0, 10.0)
    assert target.file is None


def test_reject_log_takes_refusals_and_never_receipts() -> None:
    first, second = targets_of(
        snapshot_of(
            "<acct-file /x/same.csv>\nrecords r\n</acct-file>\n"
            "<rejectlog-file /y/same.csv>\nrecords c,r\n</rejectlog-file>"
        )
    )

    assert first.format.types == ("r",)
    assert second.format.types == ("C", "R")
    assert first.name.startswith("acct-")
    assert second.name.startswith("reject-")


def test_types_that_nothing_makes_yet_are_left_out() -> None:
    (target,) = targets_of(snapshot_of("<acct-file /x/a.csv>\nrecords d, rb, rs, f\n</acct-file>"))

    assert target.format.types == ("d",)


def test_name_depends_on_the_path_alone() -> None:
    def name(text: str) -> str:
        return targets_of(snapshot_of(text))[0].name

    first = name("<acct-file /x/a.csv>\n</acct-file>")
    assert first == name("<acct-file /x/a.csv>\nrecords t\n</acct-file>")
    assert first != name("<acct-file /x/b.csv>\n</acct-file>")
