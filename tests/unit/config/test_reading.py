"""A configuration that was read can be read again, whatever has become of its files."""

from __future__ import annotations

from pathlib import Path

import pytest

from mta.config.files import Reading
from mta.config.load import load


def write(directory: Path) -> Path:
    (directory / "parts").mkdir()
    (directory / "parts" / "one.conf").write_text("<domain one.example>\nmax-smtp-out 1\n</domain>\n")
    (directory / "parts" / "two.conf").write_text("<domain two.example>\nmax-smtp-out 2\n</domain>\n")
    (directory / "parts" / "folder.conf").mkdir()
    (directory / "host.conf").write_bytes(b"# Gr\xfc\xdfe in Latin-1\nhost-name mta.example\n")
    main = directory / "mta.conf"
    main.write_text("include host.conf\ninclude parts/*.conf\ninclude nothing/*.conf\n")
    return main


def test_a_kept_reading_stands_in_for_the_files(tmp_path: Path) -> None:
    main = write(tmp_path)
    reading = Reading()
    before = load(main, reading=reading)
    for file in tmp_path.rglob("*.conf"):
        if file.is_file():
            file.write_text("<domain without an end\n")
    (tmp_path / "parts" / "three.conf").write_text("nonsense\n")

    after = load(main, reading=Reading.decode(reading.encode()))

    assert before.snapshot is not None
    assert after.snapshot is not None
    assert after.problems == before.problems
    assert after.snapshot.files == before.snapshot.files
    for domain, limit in (("one.example", 1), ("two.example", 2)):
        assert after.snapshot.effective(domain, "{default}").integer("max-smtp-out") == limit
    assert load(main).snapshot is None


def test_a_kept_reading_knows_no_other_files(tmp_path: Path) -> None:
    main = write(tmp_path)
    kept = Reading.decode(Reading().encode())

    loaded = load(main, reading=kept)

    assert loaded.snapshot is None
    assert [problem.text for problem in loaded.errors] == [f"cannot read {main}: no such file"]


@pytest.mark.parametrize("damaged", [b"", b"\x93", b"[]", b"\x92\x80\x01"])
def test_what_is_no_reading_is_refused(damaged: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Reading.decode(damaged)
