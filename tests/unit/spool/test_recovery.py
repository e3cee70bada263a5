from __future__ import annotations

import contextlib
import errno
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mta.errors import SpoolCorrupt, SpoolError
from mta.spool.files import Files
from mta.spool.record import DATA_START
from mta.spool.recovery import survey
from mta.spool.stored import Waiting
from tests.support.memory import open_below
from tests.support.spool import FaultyFiles, Spool, names


def copy_of(spool: Spool, to: Path) -> Path:
    """What a killed process leaves behind: the files as they are now."""
    shutil.copytree(spool.directory, to)
    return to


def segments_with_data(directory: Path, folder: str = "segments") -> list[Path]:
    found = [path for path in (directory / folder).iterdir() if any(path.read_bytes()[DATA_START:])]
    return sorted(found)


@pytest.fixture
def five(tmp_path: Path) -> Spool:
    """Five messages, the first settled, the second deferred; then the process dies."""
    spool = Spool(tmp_path / "five", segment_size=16 << 10, settle_size=8 << 10)
    for number in range(5):
        spool.put(f"body {number} ".encode() * 10, name=f"{number}", recipients=1 + number % 2)
    first, second = spool.answers[0][0], spool.answers[1][0]
    spool.settle(first)
    spool.partition.defer(second, 1, attempts=3, due=777.0, event=b"t")
    spool.flush()
    return spool


def reopened(directory: Path) -> Spool:
    return Spool(directory, segment_size=16 << 10, settle_size=8 << 10)


def test_a_killed_process_leaves_everything_it_acknowledged(five: Spool, tmp_path: Path) -> None:
    spool = reopened(copy_of(five, tmp_path / "copy"))
    found = list(spool.partition.recovered())

    assert names(found) == ["1", "2", "3", "4"]
    assert found[0].waiting == [Waiting(0, 0, 0.0), Waiting(1, 3, 777.0)]
    assert spool.partition.load(found[3].message).body == b"body 4 " * 10
    assert not (tmp_path / "copy" / "quarantine").exists()


def test_a_segment_cut_at_any_byte_gives_the_messages_before_the_cut(five: Spool, tmp_path: Path) -> None:
    (path,) = segments_with_data(five.directory)
    end = five.partition._committer.accept_segment.end
    counts = []
    for cut in range(DATA_START, end + 1, 19):
        directory = copy_of(five, tmp_path / f"cut{cut}")
        os.truncate(directory / "segments" / path.name, cut)
        spool = reopened(directory)
        found = names(list(spool.partition.recovered()))
        spool.partition.close()
        assert found == ["1", "2", "3", "4"][: len(found)]
        counts.append(len(found))
        if cut < end - 19:
            assert "missing" in next((directory / "quarantine").glob("*.txt")).read_text()
        shutil.rmtree(directory)
    assert counts == sorted(counts)
    assert counts[0] == 0
    assert max(counts) == 4 or counts[-1] >= 3


def test_a_settle_file_cut_at_any_byte_only_repeats(five: Spool, tmp_path: Path) -> None:
    (path,) = segments_with_data(five.directory, "settle")
    for cut in range(DATA_START, five.partition._committer.settle_segment.end + 1, 11):
        directory = copy_of(five, tmp_path / f"cut{cut}")
        os.truncate(directory / "settle" / path.name, cut)
        spool = reopened(directory)
        found = names(list(spool.partition.recovered()))
        spool.partition.close()
        assert found in (["0", "1", "2", "3", "4"], ["1", "2", "3", "4"])
        shutil.rmtree(directory)


def test_a_flipped_byte_anywhere_costs_at_most_the_message_it_hits_and_is_reported(
    five: Spool, tmp_path: Path
) -> None:
    (path,) = segments_with_data(five.directory)
    end = five.partition._committer.accept_segment.end
    for place in [*range(0, 64, 5), *range(2048, 2112, 5), *range(DATA_START, end, 7)]:
        directory = copy_of(five, tmp_path / f"flip{place}")
        data = bytearray((directory / "segments" / path.name).read_bytes())
        data[place] ^= 0x41
        (directory / "segments" / path.name).write_bytes(data)
        spool = reopened(directory)
        found = list(spool.partition.recovered())
        lost = [name for name in ("1", "2", "3", "4") if name not in names(found)]
        unreadable = []
        for one in found:
            try:
                assert (
                    spool.partition.load(one.message).body == f"body {one.envelope.queue_id} ".encode() * 10
                )
            except SpoolCorrupt:
                unreadable.append(one.envelope.queue_id)
        assert len(lost) + len(unreadable) <= 1
        if lost or unreadable:
            assert list((directory / "quarantine").glob("*.txt"))
        spool.partition.close()
        shutil.rmtree(directory)


def test_a_flipped_byte_in_a_full_segment_is_found_when_the_message_is_read(tmp_path: Path) -> None:
    spool = Spool(tmp_path, segment_size=16 << 10, memory_pool=0)
    for number in range(12):
        spool.put(b"%02d" % number * 1500, name=f"{number}")
    path = segments_with_data(tmp_path)[0]
    spool.partition.close()
    data = path.read_bytes()
    path.write_bytes(data.replace(b"02" * 1000, b"02" * 999 + b"0!", 1))
    spool.open()

    found = list(spool.partition.recovered())
    assert len(found) == 12
    with pytest.raises(SpoolCorrupt):
        spool.partition.load(found[2].message)
    assert spool.partition.load(found[3].message).body == b"03" * 1500
    assert names(spool.reopen()) == [f"{number}" for number in range(12) if number != 2]


def test_damage_is_put_into_quarantine_once(five: Spool) -> None:
    five.partition.close()
    (path,) = segments_with_data(five.directory)
    path.write_bytes(path.read_bytes().replace(b"body 2", b"bodY 2"))

    for _ in range(3):
        spool = reopened(five.directory)
        assert names(list(spool.partition.recovered())) == ["1", "3", "4"]
        spool.partition.close()

    assert len(list((five.directory / "quarantine").iterdir())) == 2


def test_a_torn_tail_is_dropped_without_a_word_and_does_not_return(five: Spool, tmp_path: Path) -> None:
    directory = copy_of(five, tmp_path / "torn")
    (path,) = segments_with_data(directory)
    end = five.partition._committer.accept_segment.end
    five.put(b"never acknowledged" * 50, name="torn")
    (source,) = segments_with_data(five.directory)
    torn = source.read_bytes()
    data = bytearray(path.read_bytes())
    data[end : end + 300] = torn[end : end + 300]
    path.write_bytes(data)

    for _ in range(2):
        spool = reopened(directory)
        assert names(list(spool.partition.recovered())) == ["1", "2", "3", "4"]
        spool.partition.close()
    assert not (directory / "quarantine").exists()


def test_a_hole_in_an_unacknowledged_batch_keeps_what_is_whole(five: Spool, tmp_path: Path) -> None:
    directory = copy_of(five, tmp_path / "hole")
    end = five.partition._committer.accept_segment.end
    five.put(b"A" * 500, name="first")
    five.put(b"B" * 500, name="second")
    (path,) = segments_with_data(directory)
    data = bytearray(segments_with_data(five.directory)[0].read_bytes())
    data[end + 100 : end + 200] = bytes(100)
    path.write_bytes(data)

    assert names(list(reopened(directory).partition.recovered())) == ["1", "2", "3", "4", "second"]


def test_records_of_an_earlier_use_of_a_file_never_reappear(tmp_path: Path) -> None:
    spool = Spool(tmp_path, segment_size=16 << 10, settle_size=8 << 10)
    for turn in range(30):
        spool.settle(spool.put(b"x" * 3000, name=f"{turn}"))
        spool.rest(1)
    spool.put(name="last")

    assert names(spool.reopen()) == ["last"]
    assert len(list((tmp_path / "segments").iterdir())) < 10, "files were used again"


def test_both_headers_gone_the_records_still_tell_whose_they_are(five: Spool, tmp_path: Path) -> None:
    directory = copy_of(five, tmp_path / "copy")
    (path,) = segments_with_data(directory)
    data = path.read_bytes()
    path.write_bytes(bytes(DATA_START) + data[DATA_START:])

    assert names(list(reopened(directory).partition.recovered())) == ["1", "2", "3", "4"]


def test_what_is_not_ours_is_left_alone_and_stops_nothing(
    five: Spool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = copy_of(five, tmp_path / "copy")
    folder = directory / "segments"
    (folder / "notes.txt").write_text("hello")
    (folder / "90000001").write_bytes(b"not a spool file" * 1000)
    (folder / "90000002").write_bytes(b"")
    (folder / "90000003").mkdir()
    (folder / "90000004").symlink_to("/etc/passwd")
    os.mkfifo(folder / "90000005")
    (directory / "settle" / "90000006").write_bytes(os.urandom(10_000))

    spool = reopened(directory)

    assert names(list(spool.partition.recovered())) == ["1", "2", "3", "4"]
    assert "90000001" in caplog.text
    assert (folder / "notes.txt").read_text() == "hello"
    spool.put(b"x" * 40_000)


def test_an_accept_file_among_the_settle_files_is_not_read_as_one(five: Spool, tmp_path: Path) -> None:
    directory = copy_of(five, tmp_path / "copy")
    (path,) = segments_with_data(directory)
    shutil.copy(path, directory / "settle" / "90000001")

    assert names(list(reopened(directory).partition.recovered())) == ["1", "2", "3", "4"]


def test_a_duplicated_segment_gives_each_message_once(five: Spool, tmp_path: Path) -> None:
    directory = copy_of(five, tmp_path / "copy")
    (path,) = segments_with_data(directory)
    shutil.copy(path, directory / "segments" / "90000001")

    spool = reopened(directory)

    assert names(list(spool.partition.recovered())) == ["1", "2", "3", "4"]


def test_of_a_copied_and_then_cut_segment_the_longer_one_counts(five: Spool, tmp_path: Path) -> None:
    directory = copy_of(five, tmp_path / "copy")
    (path,) = segments_with_data(directory)
    data = path.read_bytes()
    (directory / "segments" / "90000001").write_bytes(data[: DATA_START + 200])

    spool = reopened(directory)

    waiting = list(spool.partition.recovered())
    assert names(waiting) == ["1", "2", "3", "4"]
    assert all(spool.partition.load(one.message).body for one in waiting)
    assert not (directory / "segments" / "90000001").exists()


def test_of_a_copied_and_then_damaged_segment_the_sounder_one_counts(five: Spool, tmp_path: Path) -> None:
    directory = copy_of(five, tmp_path / "copy")
    (path,) = segments_with_data(directory)
    (directory / "segments" / "90000001").write_bytes(path.read_bytes())
    data = bytearray(path.read_bytes())
    data[DATA_START + 300 : DATA_START + 900] = bytes(600)
    path.write_bytes(data)

    spool = reopened(directory)

    waiting = list(spool.partition.recovered())
    assert names(waiting) == ["1", "2", "3", "4"]
    assert all(spool.partition.load(one.message).body for one in waiting)


def test_a_copied_head_without_its_body_hides_no_message(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", segment_size=16 << 10)
    first = spool.put(b"f" * 3000, name="first")
    for number in range(5):
        spool.put(bytes([97 + number]) * 3000, name=f"{number}")
    spool.partition.close()
    (path, *_) = segments_with_data(tmp_path / "spool")
    data = bytearray(path.read_bytes())
    at = data.index(b"aaaa") - 150  # the head of message 0 lies in this stretch
    data[DATA_START + 1000 : DATA_START + 1000 + 170] = data[at : at + 170]
    path.write_bytes(data)

    again = Spool(tmp_path / "spool", segment_size=16 << 10)

    found = {one.envelope.queue_id: one for one in again.partition.recovered()}
    assert again.partition.load(found["0"].message).body == b"a" * 3000
    assert first


@pytest.mark.parametrize("code", [errno.EMFILE, errno.EIO, errno.EACCES])
@pytest.mark.parametrize("nth", [1, 2, 3])
def test_a_file_that_cannot_be_opened_stops_the_start_and_not_the_next_one(
    five: Spool, tmp_path: Path, code: int, nth: int
) -> None:
    directory = copy_of(five, tmp_path / "copy")
    files = FaultyFiles()
    files.fail("open", nth, code)

    with pytest.raises(SpoolError, match=os.strerror(code)):
        Spool(directory, files=files, segment_size=16 << 10, settle_size=8 << 10)

    assert names(list(reopened(directory).partition.recovered())) == ["1", "2", "3", "4"]


def test_behind_a_damaged_beginning_the_other_records_still_tell_whose_they_are(
    five: Spool, tmp_path: Path
) -> None:
    directory = copy_of(five, tmp_path / "copy")
    (path,) = segments_with_data(directory)
    data = path.read_bytes()
    path.write_bytes(bytes(DATA_START + 100) + data[DATA_START + 100 :])

    assert set(names(list(reopened(directory).partition.recovered()))) >= {"2", "3", "4"}


def test_a_file_whose_beginning_cannot_be_read_is_not_used_for_anything_else(
    five: Spool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = copy_of(five, tmp_path / "copy")
    files = FaultyFiles()
    files.unreadable = (0, 1 << 30)
    spool = Spool(directory, files=files, segment_size=16 << 10, settle_size=8 << 10)
    files.unreadable = None
    assert "no sound header" in caplog.text

    spool.put(name="new")
    spool.partition.close()

    assert names(list(reopened(directory).partition.recovered())) == ["1", "2", "3", "4", "new"]


def test_another_format_version_is_left_as_it_is(five: Spool) -> None:
    from zlib import crc32

    five.partition.close()
    (path,) = segments_with_data(five.directory)
    data = bytearray(path.read_bytes())
    for at in (0, 2048):
        data[at + 8] = 2
        data[at + 40 : at + 44] = crc32(bytes(data[at : at + 40])).to_bytes(4, "little")
    path.write_bytes(data)
    (path.parent / "00000000").write_bytes(bytes(8192))  # looked at before it, and left open then

    with pytest.raises(SpoolError, match="version 2"):
        reopened(five.directory)
    assert path.read_bytes() == bytes(data)
    assert open_below(five.directory) == []


def test_unreadable_blocks_stop_neither_the_start_nor_the_rest(five: Spool, tmp_path: Path) -> None:
    directory = copy_of(five, tmp_path / "copy")
    files = FaultyFiles()
    files.unreadable = (DATA_START, DATA_START + 100)

    spool = Spool(directory, files=files, segment_size=16 << 10, settle_size=8 << 10)

    assert names(list(spool.partition.recovered())) == []  # all five share the block
    assert list((directory / "quarantine").glob("*.txt"))


def test_a_start_on_a_full_disk_still_delivers(five: Spool, tmp_path: Path) -> None:
    directory = copy_of(five, tmp_path / "copy")
    for path in [*(directory / "segments").iterdir(), *(directory / "settle").iterdir()]:
        if path not in segments_with_data(directory) + segments_with_data(directory, "settle"):
            path.unlink()
    files = FaultyFiles()
    files.capacity = 0

    spool = Spool(directory, files=files, segment_size=16 << 10, settle_size=8 << 10)
    found = list(spool.partition.recovered())
    assert names(found) == ["1", "2", "3", "4"]
    assert spool.partition.refusal(100) is not None
    spool.accept()
    spool.settle(found[1].message)
    spool.rest()
    assert spool.answers[0][1] is not None

    files.capacity = None
    spool.rest()
    assert names(spool.reopen()) == ["1", "3", "4"]


def test_reading_for_a_look_changes_nothing(five: Spool) -> None:
    before = {path: path.read_bytes() for path in five.directory.rglob("*") if path.is_file()}

    found = survey(Files(), five.directory)
    found.close()

    assert found.index.messages == 4
    assert {path: path.read_bytes() for path in five.directory.rglob("*") if path.is_file()} == before


@given(st.binary(max_size=400), st.integers(0, 30_000), st.sampled_from(["segments", "settle"]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
def test_any_bytes_written_over_a_file_never_stop_the_start(
    five: Spool, tmp_path: Path, garbage: bytes, place: int, folder: str
) -> None:
    directory = copy_of(five, tmp_path / os.urandom(8).hex())
    path = segments_with_data(directory, folder)[0]
    data = bytearray(path.read_bytes())
    place %= len(data)
    data[place : place + len(garbage)] = garbage
    path.write_bytes(data)

    spool = reopened(directory)
    for one in spool.partition.recovered():
        with contextlib.suppress(SpoolCorrupt):
            assert spool.partition.load(one.message).body == f"body {one.envelope.queue_id} ".encode() * 10
    spool.put(name="new")
    assert "new" in names(spool.reopen())
    spool.partition.close()


class Lifetime(RuleBasedStateMachine):
    """Everything a partition may be told, with restarts, kills and time in between, against a dictionary.

    What was said but not yet flushed when the process dies may or may not count.
    """

    def __init__(self) -> None:
        super().__init__()
        self.base = Path(os.environ.get("TMPDIR", "/tmp")) / f"mta-lifetime-{os.urandom(8).hex()}"
        self.lives = 0

    @initialize()
    def begin(self) -> None:
        self.base.mkdir()
        self.spool = reopened(self.base / "0")
        self.safe: dict[tuple[int, int], tuple[int, float]] = {}
        self.unsafe: list[tuple[str, tuple[int, int], tuple[int, float]]] = []
        self.bodies: dict[int, bytes] = {}

    def teardown(self) -> None:
        self.spool.partition.close()
        shutil.rmtree(self.base)

    def apply(self) -> None:
        for what, key, value in self.unsafe:
            if what == "settle":
                self.safe.pop(key, None)
            elif key in self.safe:
                self.safe[key] = value
        self.unsafe.clear()

    @rule(size=st.integers(0, 6000), recipients=st.integers(1, 3))
    def accept(self, size: int, recipients: int) -> None:
        body = os.urandom(4) * (size // 4)
        message = self.spool.put(body, recipients=recipients)
        assert message not in self.bodies
        self.bodies[message] = body
        for recipient in range(recipients):
            self.safe[message, recipient] = (0, 0.0)

    @precondition(lambda self: self.safe)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.safe)))
        self.spool.settle(*key)
        self.unsafe.append(("settle", key, (0, 0.0)))

    @precondition(lambda self: self.safe)
    @rule(data=st.data(), attempts=st.integers(1, 9), due=st.floats(1, 1e9))
    def defer(self, data: st.DataObject, attempts: int, due: float) -> None:
        key = data.draw(st.sampled_from(sorted(self.safe)))
        self.spool.partition.defer(*key, attempts=attempts, due=due, event=b"t" * 500)
        self.unsafe.append(("defer", key, (attempts, due)))

    @rule()
    def flush(self) -> None:
        assert self.spool.flush() is None
        self.apply()

    @rule()
    def time_passes(self) -> None:
        self.spool.rest(2)
        self.apply()

    @rule()
    def events_are_read(self) -> None:
        from mta.spool.settlelog import EventReader, read_cursor, write_cursor

        reader = EventReader(self.spool.directory)
        _, cursor = reader.read(read_cursor(self.spool.directory), 1_000_000)
        reader.close()
        write_cursor(self.spool.directory, cursor)

    @rule()
    def restart(self) -> None:
        self.spool.partition.close()
        self.apply()
        self.check(self.spool.reopen())

    @rule()
    def kill(self) -> None:
        self.lives += 1
        directory = copy_of(self.spool, self.base / str(self.lives))
        self.spool.partition.close()
        shutil.rmtree(self.spool.directory)
        self.spool = reopened(directory)
        found = list(self.spool.partition.recovered())
        there = {(one.message, waiting.recipient) for one in found for waiting in one.waiting}
        certain = set(self.safe) - {key for what, key, _ in self.unsafe if what == "settle"}
        assert certain <= there <= set(self.safe)
        self.unsafe = [change for change in self.unsafe if change[0] == "settle" and change[1] not in there]
        self.apply()
        for one in found:
            for waiting in one.waiting:
                self.safe[one.message, waiting.recipient] = (waiting.attempts, waiting.due)

    def check(self, found: list) -> None:  # type: ignore[type-arg]
        there = {
            (one.message, waiting.recipient): (waiting.attempts, waiting.due)
            for one in found
            for waiting in one.waiting
        }
        assert there == self.safe
        for one in found:
            assert self.spool.partition.load(one.message).body == self.bodies[one.message]

    @invariant()
    def counts_are_between(self) -> None:
        if hasattr(self, "spool"):
            stats = self.spool.partition.stats()
            settled = {key for what, key, _ in self.unsafe if what == "settle"}
            assert len(self.safe) - len(settled) <= stats.recipients <= len(self.safe)
            assert stats.broken == ""


TestLifetime = Lifetime.TestCase
TestLifetime.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
