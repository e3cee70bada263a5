from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

from mta.errors import SpoolCorrupt, SpoolError
from mta.spool.inspect import Inspection, as_file, partitions_below
from tests.support.spool import FaultyFiles, Spool


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    spool = Spool(tmp_path / "spool" / "0", segment_size=16 << 10)
    spool.put(b"Subject: a\r\n\r\n..dotted\r\n", name="a", recipients=3)
    spool.put(b"Subject: b\r\n\r\nbody\r\n", name="b")
    spool.put(b"gone", name="gone")
    spool.settle(spool.answers[0][0], 1)
    spool.settle(spool.answers[2][0], 0)
    spool.partition.defer(spool.answers[0][0], 2, attempts=4, due=99.0, event=None)
    spool.flush()
    return spool


def test_messages_are_listed_beside_a_running_daemon_which_goes_on(spool: Spool) -> None:
    with Inspection(spool.directory) as inspection:
        a, b = inspection.messages()

        assert (a.envelope.queue_id, a.waiting, b.envelope.queue_id) == ("a", 2, "b")
        assert [(one.is_settled, one.attempts, one.due) for one in a.recipients] == [
            (False, 0, 0.0),
            (True, 0, 0.0),
            (False, 4, 99.0),
        ]
        assert a.recipients[0].queue == "example.com/v"
        assert inspection.body(b.message) == b"Subject: b\r\n\r\nbody\r\n"
    assert spool.put(name="later")


def test_a_message_is_found_by_queue_id_or_number(spool: Spool) -> None:
    with Inspection(spool.directory) as inspection:
        found = inspection.find("b")
        assert found is not None
        assert inspection.find(str(found.message)) == found
        assert inspection.find("gone") is None
        assert inspection.find(str(spool.answers[2][0])) is None
        assert inspection.find("") is inspection.find("0") is inspection.find("9" * 30) is None


def test_a_message_is_not_taken_for_one_whose_content_has_its_queue_id(spool: Spool) -> None:
    spool.put(b"Received: queued as wanted\r\n\r\nx\r\n", name="other")
    spool.put(name="wanted")
    with Inspection(spool.directory) as inspection:
        found = inspection.find("wanted")
        assert found is not None
        assert found.envelope.queue_id == "wanted"


def test_to_find_one_message_the_heads_of_the_others_are_not_read(tmp_path: Path) -> None:
    spool = Spool(tmp_path, segment_size=1 << 20)
    for number in range(30):
        spool.put(b"x" * 8000, name=f"message-{number}-")
    spool.partition.close()
    files = FaultyFiles()
    with Inspection(tmp_path, files) as inspection:
        before = files.calls["read"]
        found = inspection.find("message-20-")
        assert found is not None
        assert found.envelope.queue_id == "message-20-"
        assert files.calls["read"] - before < 10


def test_a_sound_spool_is_verified_with_its_holder(spool: Spool) -> None:
    with Inspection(spool.directory) as inspection:
        report = inspection.verify()

    assert report.damage == ()
    assert (report.messages, report.recipients) == (2, 3)
    assert report.holder
    spool.partition.close()
    with Inspection(spool.directory) as inspection:
        assert inspection.verify().holder == ""


@pytest.mark.parametrize("is_closed", [False, True])
def test_verify_names_the_damaged_bytes_and_changes_nothing(spool: Spool, is_closed: bool) -> None:
    if is_closed:
        spool.reopen()  # seals the file
        spool.partition.close()
    path = next(path for path in (spool.directory / "segments").iterdir() if b"dotted" in path.read_bytes())
    path.write_bytes(path.read_bytes().replace(b"dotted", b"dottEd"))
    before = path.read_bytes()

    with Inspection(spool.directory) as inspection:
        (damage,) = inspection.verify().damage
        if is_closed:
            with pytest.raises(SpoolCorrupt):
                inspection.body(next(inspection.messages()).message)

    assert damage.path == path
    assert damage.at >= 4096
    assert path.read_bytes() == before
    assert not (spool.directory / "quarantine").exists()


def test_a_copy_is_as_good_as_the_spool(spool: Spool, tmp_path: Path) -> None:
    shutil.copytree(spool.directory, tmp_path / "copy")
    for path in (tmp_path / "copy").rglob("*"):
        path.chmod(0o500 if path.is_dir() else 0o400)

    with Inspection(tmp_path / "copy") as inspection:
        assert [one.envelope.queue_id for one in inspection.messages()] == ["a", "b"]


def test_partitions_are_found_below_a_spool_or_given_themselves(spool: Spool, tmp_path: Path) -> None:
    assert partitions_below(spool.directory) == [spool.directory]
    assert partitions_below(spool.directory.parent) == [spool.directory]
    with pytest.raises(SpoolError, match="holds no spool"):
        partitions_below(tmp_path / "spool" / "0" / "settle")
    with pytest.raises(SpoolError):
        partitions_below(tmp_path / "nowhere")
    with pytest.raises(SpoolError):
        Inspection(tmp_path)


@pytest.mark.parametrize(
    ("wire", "plain"),
    [
        (b"", b""),
        (b"..\r\n", b".\r\n"),
        (b"a\r\n..\r\n...b\r\n", b"a\r\n.\r\n..b\r\n"),
        (b"no dots. at. starts\r\n", b"no dots. at. starts\r\n"),
    ],
)
def test_a_file_has_single_dots(wire: bytes, plain: bytes) -> None:
    assert as_file(wire) == plain


@pytest.fixture
def long_spool(tmp_path: Path) -> Spool:
    """Two and a half pages of messages; of the eldest one recipient is settled and another one deferred."""
    spool = Spool(tmp_path / "long" / "0", segment_size=1 << 20)
    for number in range(2560):
        spool.accept(b"x", name=f"m{number}", recipients=3)
    spool.loop.run()
    first = spool.answers[0][0]
    spool.settle(first, 1)
    spool.partition.defer(first, 2, attempts=4, due=99.0, event=None)
    spool.partition.close()
    return spool


def test_of_a_long_spool_few_places_are_in_memory_and_the_spool_is_left_as_it_is(
    long_spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    before = {path: path.stat().st_mtime_ns for path in long_spool.directory.rglob("*")}
    with Inspection(long_spool.directory, most_in_memory=0) as inspection:
        everything = list(inspection.messages())

    with Inspection(long_spool.directory, most_in_memory=1024) as inspection:
        assert inspection._found.index.paged == 1024
        assert [path.name[:10] for path in temporary.iterdir()] == ["mta-spool-"]
        assert list(inspection.messages()) == everything
        assert inspection.verify().recipients == 3 * 2560 - 1

    assert (len(everything), everything[0].waiting, everything[0].recipients[2].attempts) == (2560, 2, 4)
    assert list(temporary.iterdir()) == []
    assert {path: path.stat().st_mtime_ns for path in long_spool.directory.rglob("*")} == before


def test_a_long_spool_is_read_where_temporary_files_have_no_place(
    long_spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))

    with Inspection(long_spool.directory, most_in_memory=1024) as inspection:
        assert len(list(inspection.messages())) == 2560
