"""The log of names: what a killed worker has written is there, and nothing else is believed."""

from __future__ import annotations

import asyncio
import logging
import resource
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta.service import namelog
from mta.service.namelog import LOG_FILES, NameLog, boot_id
from mta.service.sharenames import ShareNames

BOOT = "this-boot"


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()


def opened(
    directory: Path, loop: asyncio.AbstractEventLoop, boot: str = BOOT, *, is_whole: bool = True
) -> NameLog:
    return NameLog(directory, loop=loop, boot=boot, is_whole=is_whole)


def turn(loop: asyncio.AbstractEventLoop) -> None:
    """One turn of the loop."""
    loop.call_soon(loop.stop)
    loop.run_forever()


def left(directory: Path, loop: asyncio.AbstractEventLoop, boot: str = BOOT) -> dict[str, int]:
    """What the next life is told."""
    log = opened(directory, loop, boot)
    log.close()
    return log.found


def written(directory: Path, loop: asyncio.AbstractEventLoop, *names: str) -> Path:
    """A log of a worker that was killed, with these names, of messages 1, 2, 3…; returns its file."""
    log = opened(directory, loop)
    for message, name in enumerate(names, 1):
        log.add(name, message)
    log.flush()
    log.close()
    return directory / LOG_FILES[1]


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """No file of this process may become larger: a write is short, the next one fails, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_names_outlive_a_process_that_is_killed_again_and_again(
    tmp_path: Path, loop: asyncio.AbstractEventLoop
) -> None:
    known: dict[str, int] = {}
    for life in range(1, 5):
        log = opened(tmp_path, loop)
        assert log.found == known
        known[f"Q{life} a@b.example"] = life
        log.add(f"Q{life} a@b.example", life)
        turn(loop)
        log.close()


def test_additions_are_gathered_for_a_turn_of_the_loop(
    tmp_path: Path, loop: asyncio.AbstractEventLoop
) -> None:
    log = opened(tmp_path, loop)
    path = tmp_path / LOG_FILES[1]
    empty = path.stat().st_size
    log.add("one", 1)
    log.add("two", 2)
    assert path.stat().st_size == empty
    turn(loop)
    assert path.read_bytes()[empty:].count(b"=") == 1, "both in one write"
    log.close()


def test_what_takes_a_name_away_is_written_at_once_and_behind_what_was_gathered(
    tmp_path: Path, loop: asyncio.AbstractEventLoop
) -> None:
    log = opened(tmp_path, loop)
    for message, name in enumerate(("one", "two", "three"), 1):
        log.add(name, message)
    log.take_away("one")
    log.take_away_message(3)
    log.close()  # the kill
    assert left(tmp_path, loop) == {"two": 2}


@pytest.mark.parametrize("name", ["Q1 \udc80x@y", "Q1 \r\x00\x85\u2028@y", "Q1 =~+-> @y", " ", ""])
def test_almost_anything_can_be_in_a_name(tmp_path: Path, loop: asyncio.AbstractEventLoop, name: str) -> None:
    written(tmp_path, loop, name, "another")
    assert left(tmp_path, loop) == {name: 1, "another": 2}


def test_a_name_of_two_lines_is_not_kept(tmp_path: Path, loop: asyncio.AbstractEventLoop) -> None:
    written(tmp_path, loop, "a", "b\n-a\n+9 c", "d")
    assert left(tmp_path, loop) == {"a": 1, "d": 3}


def test_a_log_cut_anywhere_or_with_an_octet_changed_is_not_believed_but_where_a_write_ended(
    tmp_path: Path, loop: asyncio.AbstractEventLoop
) -> None:
    log = opened(tmp_path, loop)
    path, ends = tmp_path / LOG_FILES[1], {}
    known: dict[str, int] = {}
    for message in range(1, 4):
        ends[path.stat().st_size] = dict(known)
        log.add(f"Q{message} a@b.example", message)
        log.flush()
        known[f"Q{message} a@b.example"] = message
    log.close()
    whole = path.read_bytes()
    with path.open("r+b", buffering=0) as file:  # the same inode all the time
        for size in range(len(whole)):
            file.seek(0)
            file.write(whole[:size])
            file.truncate()
            assert reread(tmp_path) == ends.get(size), size
        for at in range(0, len(whole), 7):
            file.seek(0)
            file.write(whole[:at] + bytes([whole[at] ^ 0x20]) + whole[at + 1 :])
            assert reread(tmp_path) is None, at


def reread(directory: Path) -> dict[str, int] | None:
    """What a log would be believed to say, None for nothing at all; it stays as it is."""
    try:
        return namelog.replayed(namelog.read_generations(directory, BOOT))
    except (namelog.Unsound, ValueError):
        return None


def test_lines_lost_in_the_middle_show(tmp_path: Path, loop: asyncio.AbstractEventLoop) -> None:
    """A page that was never written back, and reads as zeros."""
    path = written(tmp_path, loop, *(f"Q{number} a@b.example" for number in range(500)))
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(bytes(4096))
    assert left(tmp_path, loop) == {}


def test_a_line_that_is_none_of_ours_is_not_believed(tmp_path: Path, loop: asyncio.AbstractEventLoop) -> None:
    path = written(tmp_path, loop, "one")
    with path.open("ab") as file:
        file.write(b"?\n")
    data = path.read_bytes()
    with path.open("ab") as file:
        file.write(b"=%08x\n" % crc32(data))
    assert left(tmp_path, loop) == {}


def test_a_log_of_another_start_of_the_machine_or_of_none_is_removed(
    tmp_path: Path, loop: asyncio.AbstractEventLoop
) -> None:
    written(tmp_path, loop, "one")
    assert left(tmp_path, loop, "another") == {}
    assert left(tmp_path, loop) == {}
    written(tmp_path, loop, "one")
    log = opened(tmp_path, loop, "")
    log.add("two", 2)
    turn(loop)
    log.take_away("two")
    assert not log.is_kept
    assert not list(tmp_path.iterdir())


def test_the_kernel_may_not_say_which_start_of_the_machine_this_is(tmp_path: Path) -> None:
    assert boot_id(tmp_path / "none") == ""
    (tmp_path / "id").write_text("abc\n")
    assert boot_id(tmp_path / "id") == "abc"


def test_a_partition_with_damage_makes_the_log_worthless(
    tmp_path: Path, loop: asyncio.AbstractEventLoop
) -> None:
    written(tmp_path, loop, "one")
    log = opened(tmp_path, loop, is_whole=False)
    assert not log.found
    log.close()
    assert left(tmp_path, loop) == {}


def test_a_copy_of_a_log_is_not_believed(tmp_path: Path, loop: asyncio.AbstractEventLoop) -> None:
    written(tmp_path, loop, "one")
    shutil.copytree(tmp_path, tmp_path / "copy")
    assert left(tmp_path / "copy", loop) == {}
    assert left(tmp_path, loop) == {"one": 1}


def test_what_is_no_file_is_no_log(tmp_path: Path, loop: asyncio.AbstractEventLoop) -> None:
    for name in LOG_FILES:
        (tmp_path / name).symlink_to(tmp_path / "elsewhere")
    assert left(tmp_path, loop) == {}
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("room", [0, 3, 40])
def test_a_write_that_fails_or_is_short_ends_the_log_and_is_said_once(
    tmp_path: Path, loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture, room: int
) -> None:
    path = written(tmp_path, loop, "one")
    log = opened(tmp_path, loop)
    with files_up_to(path.stat().st_size + room), caplog.at_level(logging.ERROR):
        log.take_away("one " + "x" * 40)
        for message in range(3):
            log.add("two", message)
            turn(loop)
            log.take_away_message(message)
    assert not log.is_kept
    assert not list(tmp_path.iterdir())
    assert caplog.text.count("event=share-names-not-kept") == 1
    assert left(tmp_path, loop) == {}


def test_names_are_forgotten_oldest_first_and_not_before_there_are_many() -> None:
    names = ShareNames()
    for message in range(1, namelog.MEMORY + 3001):
        names.add(f"Q{message}", message)
        assert message > namelog.MEMORY or message % 1000 or len(names) == message
    assert namelog.MEMORY <= len(names) <= namelog.MEMORY + 1000
    assert f"Q{message - namelog.MEMORY + 1}" in names
    assert "Q1" not in names


def test_a_log_that_cannot_be_begun_is_said_once(
    tmp_path: Path, loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    with files_up_to(10), caplog.at_level(logging.ERROR):
        log = opened(tmp_path, loop)
        log.add("one", 1)
        turn(loop)
    assert not log.is_kept
    assert caplog.text.count("event=share-names-not-kept") == 1
    assert not list(tmp_path.iterdir())


class TestGenerations:
    """Logs that change their file after each fourth line."""

    @pytest.fixture(autouse=True)
    def short(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(namelog, "MEMORY", 4)

    def test_the_last_two_are_kept(self, tmp_path: Path, loop: asyncio.AbstractEventLoop) -> None:
        log = opened(tmp_path, loop)
        for message in range(1, 100):
            log.add(f"Q{message}", message)
            log.flush()
            assert all((tmp_path / name).stat().st_size < 250 for name in LOG_FILES if message > 4)
        log.close()
        assert left(tmp_path, loop) == {f"Q{message}": message for message in range(93, 100)}

    def test_a_name_of_the_older_can_be_taken_away(
        self, tmp_path: Path, loop: asyncio.AbstractEventLoop
    ) -> None:
        written(tmp_path, loop, "a", "b", "c", "d")
        log = opened(tmp_path, loop)
        log.take_away("b")
        log.take_away_message(3)
        log.close()
        assert left(tmp_path, loop) == {"a": 1, "d": 4}

    @pytest.mark.parametrize("missing", LOG_FILES)
    def test_without_the_newer_the_older_is_nothing(
        self, tmp_path: Path, loop: asyncio.AbstractEventLoop, missing: str
    ) -> None:
        written(tmp_path, loop, "a", "b", "c", "d")  # generations 1 and 2
        (tmp_path / missing).unlink()
        assert left(tmp_path, loop) == {}

    def test_files_that_have_changed_their_names_are_nothing(
        self, tmp_path: Path, loop: asyncio.AbstractEventLoop
    ) -> None:
        written(tmp_path, loop, "a", "b", "c", "d")
        (tmp_path / LOG_FILES[0]).rename(tmp_path / "x")
        (tmp_path / LOG_FILES[1]).rename(tmp_path / LOG_FILES[0])
        (tmp_path / "x").rename(tmp_path / LOG_FILES[1])
        assert left(tmp_path, loop) == {}

    def test_a_generation_that_cannot_be_begun_ends_the_log(
        self, tmp_path: Path, loop: asyncio.AbstractEventLoop
    ) -> None:
        path = written(tmp_path, loop, "a", "b", "c")
        log = opened(tmp_path, loop)
        (tmp_path / LOG_FILES[0]).mkdir()
        log.add("d", 4)
        log.flush()
        assert not log.is_kept
        assert not path.exists()


NAMES = ("a", "b", "c", "Q1 \udc80@x", "d")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.sampled_from(NAMES), st.integers(1, 6)),
        st.tuples(st.sampled_from(["discard", "go"]), st.sampled_from(NAMES), st.just(0)),
        st.tuples(st.just("damaged"), st.just(""), st.integers(1, 6)),
        st.tuples(st.sampled_from(["turn", "kill", "kill"]), st.just(""), st.just(0)),
    ),
    max_size=60,
)


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_whatever_happens_a_life_begins_with_no_name_that_the_one_before_had_not(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, int]]
) -> None:
    directory = tmp_path_factory.mktemp("log", numbered=True)
    with closing(asyncio.new_event_loop()) as loop, pytest.MonkeyPatch.context() as patch:
        patch.setattr(namelog, "MEMORY", 4)
        names = ShareNames()
        names.follow(opened(directory, loop))
        known: dict[str, int] = {}
        for what, name, message in steps:
            if what == "add":
                names.add(name, message)
                known[name] = message
            elif what == "damaged":
                names.discard_message(message)
                known = {name: other for name, other in known.items() if other != message}
            elif what == "turn":
                turn(loop)
            elif what == "kill":
                names.die()
                names = ShareNames()
                names.follow(opened(directory, loop))
                found = {name: names.message(name) for name in NAMES if name in names}
                assert found.keys() <= known.keys()
                known = found
            else:
                names.discard(name) if what == "discard" else names.go(name)
                known.pop(name, None)
        names.die()
    shutil.rmtree(directory)
