"""Following accounting files."""

from __future__ import annotations

from pathlib import Path

from mta.sink.tail import AccountingTail


def test_records_are_read_as_they_come_and_half_lines_wait(tmp_path: Path) -> None:
    tail = AccountingTail(tmp_path / "acct.csv")
    path = tmp_path / "acct-2026-11-21-0000.csv"
    assert tail.read() == 0

    path.write_text("type,rcpt\nd,a@x\nd,")
    assert tail.read() == 1
    with path.open("a") as file:
        file.write('"b,c@x"\n')
    assert tail.read() == 1

    assert tail.records == [{"type": "d", "rcpt": "a@x"}, {"type": "d", "rcpt": "b,c@x"}]


def test_next_file_with_other_columns_is_followed(tmp_path: Path) -> None:
    tail = AccountingTail(tmp_path / "acct.csv")
    (tmp_path / "acct-2026-11-21-0000.csv").write_text("type,rcpt\nd,a@x\n")
    tail.read()
    (tmp_path / "acct-2026-11-21-0001.csv").write_text("type,jobId\nd,j\n")
    tail.read()

    assert tail.records[-1] == {"type": "d", "jobId": "j"}
