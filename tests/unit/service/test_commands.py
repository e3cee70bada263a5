"""What the supervisor answers by itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from mta.config.load import load_text
from mta.service.channel import CommandFailed
from mta.service.commands import check_file


def test_a_file_that_nobody_writes_cannot_be_rotated() -> None:
    text = "<acct-file /a/acct.csv>\n</acct-file>\n<rejectlog-file /a/rejects.csv>\n</rejectlog-file>"
    snapshot = load_text(text, directory=Path("/")).snapshot
    assert snapshot is not None

    for part in ("", "acct.csv", "/a/rejects.csv"):
        check_file(part, snapshot)
    with pytest.raises(CommandFailed, match=r"no accounting file has /a/nope\.csv") as refused:
        check_file("/a/nope.csv", snapshot)
    assert refused.value.details["hint"] == "there are: /a/acct.csv, /a/rejects.csv"
