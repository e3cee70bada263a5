"""Group commit as seen through a partition whose files fail on demand."""

from __future__ import annotations

import errno
import threading
from pathlib import Path
from typing import Any

import pytest

from mta.errors import SpoolBroken, SpoolError, SpoolFull
from mta.spool.marks import read_safe_until
from mta.spool.pace import Pace, Turnaround, WindowGauge
from mta.spool.settlelog import Cursor, EventReader
from tests.support.spool import FaultyFiles, Spool, envelope, names


def test_everybody_who_came_meanwhile_shares_one_sync(tmp_path: Path) -> None:
    files = FaultyFiles()
    spool = Spool(tmp_path, files=files)
    spool.put()
    before = files.calls["sync"]
    for _ in range(100):
        spool.accept()
    spool.loop.run()

    assert len(spool.answers) == 101
    assert files.calls["sync"] == before + 1


def test_many_go_to_the_thread_and_are_answered_in_order(tmp_path: Path) -> None:
    spool = Spool(tmp_path, pace=Pace(inline_limit=3))
    for _ in range(50):
        spool.accept()
    spool.loop.run_until(lambda: len(spool.answers) == 50)

    assert spool.answers == sorted(spool.answers, key=lambda answer: answer[0])
    spool.partition.close()


def test_small_commits_go_to_the_thread_while_most_are_large(tmp_path: Path) -> None:
    files = FaultyFiles()
    spool = Spool(tmp_path, files=files, pace=Pace(slow_sync=1e9, inline_limit=10, crowd=5.0))
    writers: list[str] = []
    write = files.write

    def watched(*call: Any) -> int:
        writers.append(threading.current_thread().name)
        return write(*call)

    files.write = watched  # type: ignore[method-assign]
    spool.put()
    assert "spool-commit" not in writers, "one alone: in the loop"
    for count in (20,) * 20 + (1,):
        for _ in range(count):
            spool.accept()
        expected = len(spool.answers) + count
        spool.loop.run_until(lambda expected=expected: len(spool.answers) == expected)

    assert writers[-1] == "spool-commit"
    spool.partition.close()


def test_a_commit_in_the_loop_waits_for_the_messages_of_two_more_turns_where_several_are_usual(
    tmp_path: Path,
) -> None:
    files = FaultyFiles()
    spool = Spool(tmp_path, files=files)
    for _ in range(16):
        for _ in range(4):
            spool.accept()
        spool.loop.run()
    before, answered = files.calls["sync"], len(spool.answers)
    for _ in range(3):
        spool.accept()
        assert len(spool.answers) == answered
        spool.loop.turn()

    assert len(spool.answers) == answered + 3
    assert files.calls["sync"] == before + 1


def test_who_is_usually_alone_is_committed_at_the_end_of_the_turn(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    for count in range(1, 20):
        spool.accept()
        spool.loop.turn()
        assert len(spool.answers) == count


def test_messages_accepted_during_a_commit_are_the_next_one(tmp_path: Path) -> None:
    spool = Spool(tmp_path, pace=Pace(inline_limit=0))
    spool.accept()
    spool.loop.run()
    spool.accept()
    spool.accept()
    spool.loop.run_until(lambda: len(spool.answers) == 3)

    assert spool.partition.stats().batches <= 3
    assert len(spool.reopen()) == 3


def test_close_waits_for_the_commit_in_flight(tmp_path: Path) -> None:
    spool = Spool(tmp_path, pace=Pace(inline_limit=0))
    spool.accept(name="a")
    spool.loop.run()
    spool.accept(name="b")

    spool.partition.close()

    assert [error for _, error in spool.answers] == [None, None]
    spool.loop.run()
    assert len(spool.answers) == 2, "landing late must not answer twice"


def test_outcomes_ride_with_messages_once_they_are_old_enough(tmp_path: Path) -> None:
    files = FaultyFiles()
    spool = Spool(tmp_path, files=files)
    message = spool.put()
    spool.settle(message)
    before = files.calls["sync"]

    spool.put()
    assert files.calls["sync"] == before + 1, "written, not yet synced"
    spool.loop.advance(0.016)
    spool.put()
    assert files.calls["sync"] == before + 3
    assert spool.partition.stats().backlog == 0


def test_outcomes_alone_are_on_disk_within_the_window(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    message = spool.put()
    spool.settle(message)
    assert spool.partition.stats().messages == 1

    spool.loop.advance(0.05)

    assert spool.partition.stats().messages == 0
    assert EventReader(tmp_path).read(Cursor(), 10)[0] == [b"event"]


def test_on_a_slow_disk_outcomes_do_not_wait_for_company(tmp_path: Path) -> None:
    files = FaultyFiles()
    spool = Spool(tmp_path, files=files)

    def slow(descriptor: int) -> None:
        spool.loop._now += 0.016

    files.sync = slow  # type: ignore[method-assign]
    for _ in range(200):
        message = spool.put()
        spool.settle(message)
        spool.loop.advance(0.003)

    assert spool.partition.stats().window_p99 <= 0.05


def test_until_when_outcomes_are_safe_is_published_with_their_sync(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    first, second = spool.put(), spool.put()
    said = spool.loop.now()
    spool.settle(first)
    assert read_safe_until(tmp_path) < said
    spool.rest(1)
    safe = read_safe_until(tmp_path)
    assert safe >= said

    spool.settle(second)
    assert read_safe_until(tmp_path) == safe


def test_what_came_while_a_commit_held_up_the_loop_is_not_published_as_safe(tmp_path: Path) -> None:
    files = FaultyFiles()
    spool = Spool(tmp_path, files=files)
    spool.settle(spool.put())
    began = spool.loop.now()

    def slow(descriptor: int) -> None:
        spool.loop._now += 0.06

    files.sync = slow  # type: ignore[method-assign]
    spool.loop.advance(0.05)

    assert spool.partition.stats().backlog == 0
    assert began <= read_safe_until(tmp_path) <= began + 0.03, "a reply that came later lies unread yet"


def test_an_outcome_written_with_a_message_is_synced_in_time_when_no_other_follows(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    message = spool.put()
    spool.settle(message)
    spool.put()

    spool.loop.advance(0.05)

    assert EventReader(tmp_path).read(Cursor(), 10)[0] == [b"event"]


def test_a_short_write_is_completed(tmp_path: Path) -> None:
    files = FaultyFiles()
    spool = Spool(tmp_path, files=files)
    files.shorten = 1000
    message = spool.put(b"x" * 12345)
    files.shorten = 0

    assert len(spool.reopen()) == 1
    assert spool.partition.load(message).body == b"x" * 12345


@pytest.mark.parametrize("code", [errno.EIO, errno.EROFS, errno.ENOSPC])
def test_a_failed_sync_breaks_the_partition_for_good_and_is_never_repeated(tmp_path: Path, code: int) -> None:
    files = FaultyFiles()
    spool = Spool(tmp_path, files=files)
    spool.put(name="safe")
    files.fail("sync", 1, code)
    syncs = files.calls["sync"]
    spool.accept(name="lost")
    spool.accept(name="lost too")
    spool.loop.run()

    assert [type(error) for _, error in spool.answers[1:]] in ([SpoolBroken] * 2, [SpoolFull] * 2)
    assert isinstance(spool.answers[-1][1], SpoolBroken)
    assert isinstance(spool.partition.refusal(1), SpoolBroken)
    spool.accept()
    spool.settle(spool.answers[0][0])
    assert isinstance(spool.flush(), SpoolBroken)
    spool.rest()
    assert isinstance(spool.answers[-1][1], SpoolBroken)
    assert files.calls["sync"] == syncs + 1
    assert "sync failed" in spool.partition.stats().broken


def test_a_failed_sync_of_outcomes_breaks_the_partition_too(tmp_path: Path) -> None:
    files = FaultyFiles()
    spool = Spool(tmp_path, files=files)
    message = spool.put()
    files.fail("sync", 1)
    spool.settle(message)
    spool.loop.advance(0.05)

    assert isinstance(spool.partition.refusal(1), SpoolBroken)
    assert spool.partition.stats().messages == 1
    assert EventReader(tmp_path).read(Cursor(), 10)[0] == []


def test_every_message_of_a_commit_is_refused_when_any_sync_of_it_fails(tmp_path: Path) -> None:
    files = FaultyFiles()
    spool = Spool(tmp_path, files=files)
    earlier = spool.put(name="earlier")
    spool.settle(earlier)
    spool.loop._now += 0.02  # old enough to be carried
    files.fail("sync", 2)  # the first is that of the messages themselves
    spool.accept(name="refused")
    spool.accept(name="refused too")
    spool.loop.run()

    assert [type(error) for _, error in spool.answers] == [type(None), SpoolBroken, SpoolBroken]
    assert "sync failed" in spool.partition.stats().broken
    assert names(spool.reopen()) in ([], ["earlier"]), "what was refused does not come back"


class FailingChore:
    """What a file that can't be freed is to a commit."""

    def run(self) -> None:
        raise OSError(errno.EIO, "Input/output error")

    def finished(self, error: SpoolError | None) -> None:
        self.error = error


def test_a_chore_that_meets_a_failing_disk_takes_the_acknowledgements_of_its_commit_with_it(
    tmp_path: Path,
) -> None:
    spool = Spool(tmp_path)
    spool.put(name="earlier")
    chore = FailingChore()
    spool.partition._committer.add_chore(chore)
    spool.accept(name="refused")
    spool.loop.run_until(lambda: len(spool.answers) == 2)

    assert isinstance(spool.answers[-1][1], SpoolBroken)
    assert isinstance(chore.error, SpoolBroken)
    assert names(spool.reopen()) == ["earlier"]


@pytest.mark.parametrize("kind", ["accept", "settle"])
def test_a_file_that_a_failing_disk_cannot_begin_breaks_the_partition(tmp_path: Path, kind: str) -> None:
    files = FaultyFiles()
    spool = Spool(tmp_path, files=files, segment_size=16 << 10, settle_size=8 << 10)
    message = spool.put(name="safe")
    if kind == "accept":
        spool.accept(b"x" * 12_000)
        spool.rest(1)  # the spare file is made: it is not the one that fails
        spool.accept(b"small", name="refused")
        spool.accept(b"x" * 12_000, name="refused too")
    else:
        for _ in range(3):
            spool.settle(message, event=b"e" * 3000)
        spool.loop._now += 0.02
        spool.accept(name="refused")
        spool.accept(name="refused too")
    before = len(spool.answers)
    files.fail("write", 1)
    spool.loop.run()

    assert [type(error) for _, error in spool.answers[before:]] == [SpoolBroken] * 2
    assert spool.partition.stats().broken


def test_outcomes_that_waited_for_a_commit_do_not_wait_for_more_company(tmp_path: Path) -> None:
    files = FaultyFiles()
    spool = Spool(tmp_path, files=files, pace=Pace(inline_limit=0))
    message = spool.put()
    batches = spool.partition.stats().batches
    may_land = threading.Event()
    files.sync = lambda descriptor: may_land.wait(10)  # type: ignore[method-assign,assignment,return-value]

    by_then: list[int] = []
    spool.partition.accept(
        envelope(),
        [b"body"],
        lambda *_: spool.loop.call_soon(lambda: by_then.append(spool.partition.stats().batches)),
    )
    spool.loop.run()
    spool.settle(message)
    spool.loop._now += 0.01
    may_land.set()
    spool.loop.run_until(lambda: spool.partition.stats().batches == batches + 2)

    assert by_then == [batches + 2], "the next commit came before anything else had its turn"
    assert EventReader(tmp_path).read(Cursor(), 10)[0] == [b"event"]
    spool.partition.close()


def test_an_input_output_error_while_writing_breaks_the_partition(tmp_path: Path) -> None:
    files = FaultyFiles()
    spool = Spool(tmp_path, files=files)
    files.fail("write", 1)
    spool.accept()
    spool.loop.run()

    assert isinstance(spool.answers[0][1], SpoolBroken)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_no_room_in_the_middle_of_a_write_refuses_the_batch_and_nothing_of_it_returns(
    tmp_path: Path, code: int
) -> None:
    files = FaultyFiles()
    spool = Spool(tmp_path, files=files)
    spool.put(name="before")
    files.shorten = 3000  # so that the second call fails with half of the batch written
    files.fail("write", 2, code)
    for number in range(5):
        spool.accept(b"x" * 1000, name=f"refused {number}")
    spool.loop.run()
    files.shorten = 0
    assert [type(error) for _, error in spool.answers[1:]] == [SpoolFull] * 5

    spool.put(name="after")
    assert names(spool.reopen()) == ["before", "after"]


def test_a_new_file_that_cannot_be_made_refuses_only_what_does_not_fit(tmp_path: Path) -> None:
    files = FaultyFiles()
    spool = Spool(tmp_path, files=files, segment_size=32 << 10)
    spool.put(b"x" * 1000, name="first")
    files.capacity = 0
    spool.accept(b"x" * 100_000, name="too large")
    spool.accept(b"x" * 1000, name="small")
    spool.loop.run()

    assert isinstance(spool.answers[1][1], SpoolFull)
    assert spool.answers[2][1] is None
    assert [message for message, _ in spool.answers] == sorted(message for message, _ in spool.answers)
    assert names(spool.reopen()) == ["first", "small"]


def without_room(tmp_path: Path, count: int, **options: int) -> tuple[FaultyFiles, Spool, list[int]]:
    """A spool with so many messages at rest, on a disk that is full from now on."""
    files = FaultyFiles()
    spool = Spool(tmp_path, files=files, settle_size=8 << 10, **options)
    messages = [spool.put() for _ in range(count)]
    spool.rest()
    files.capacity = 0
    return files, spool, messages


def test_what_is_written_already_is_synced_when_the_rest_finds_no_room(tmp_path: Path) -> None:
    _, spool, messages = without_room(tmp_path, 20)
    spool.settle(messages[0], event=b"e" * 300)
    spool.put()  # carries it, and does not sync what is so young
    assert EventReader(tmp_path).read(Cursor(), 10)[0] == []
    for message in messages[1:]:
        spool.settle(message, event=b"e" * 1000)
    spool.accept()
    spool.loop.run()
    assert spool.partition.is_stalled

    assert EventReader(tmp_path).read(Cursor(), 10)[0] != []


def test_a_spare_file_is_ready_for_outcomes_when_the_disk_is_full(tmp_path: Path) -> None:
    _, spool, messages = without_room(tmp_path, 20)

    for message in messages:
        spool.settle(message, event=b"e" * 300)  # more than the current file holds

    assert spool.flush() is None


def test_outcomes_wait_in_memory_while_there_is_no_room_and_none_is_lost(tmp_path: Path) -> None:
    files = FaultyFiles()
    spool = Spool(tmp_path, files=files, settle_size=8 << 10, max_backlog=20_000)
    messages = [spool.put(name=f"{number}") for number in range(200)]
    spool.rest()
    files.capacity = 0
    for message in messages:
        spool.settle(message, event=b"e" * 300)
    spool.rest()

    stats = spool.partition.stats()
    assert 0 < stats.messages < 200
    assert stats.backlog > 20_000
    assert isinstance(spool.partition.refusal(10), SpoolFull)
    assert isinstance(spool.flush(), SpoolFull)
    assert stats.broken == ""

    files.capacity = None
    spool.rest()
    assert spool.partition.stats().messages == 0
    assert spool.partition.refusal(10) is None
    assert len(EventReader(tmp_path).read(Cursor(), 1000)[0]) == 200
    assert spool.reopen() == []


def test_beyond_the_bound_only_what_may_be_repeated_is_dropped(tmp_path: Path) -> None:
    files, spool, messages = without_room(tmp_path, 40, max_backlog=5_000)
    for attempt in range(50):
        for message in messages:
            spool.partition.defer(message, 0, attempts=attempt, due=9.0, event=b"t" * 100)
        spool.loop.advance(0.05)
    assert spool.partition.is_stalled
    assert spool.partition.stats().backlog < 50_000
    assert spool.partition.stats().dropped > 1000
    for message in messages:
        spool.settle(message)

    files.capacity = None
    spool.rest()
    assert not spool.partition.is_stalled
    assert spool.partition.stats().backlog == 0
    assert spool.reopen() == []


def test_no_room_while_writing_outcomes_keeps_their_order(tmp_path: Path) -> None:
    files = FaultyFiles()
    spool = Spool(tmp_path, files=files)
    files.fail("write", 1, errno.ENOSPC)
    for number in range(5):
        spool.partition.record(b"%d" % number)
    spool.loop.advance(0.05)
    assert spool.partition.stats().backlog > 0
    spool.partition.record(b"5")
    spool.rest()

    assert EventReader(tmp_path).read(Cursor(), 10)[0] == [b"%d" % number for number in range(6)]


def test_a_callback_that_raises_does_not_keep_the_others_from_their_answer(tmp_path: Path) -> None:
    spool = Spool(tmp_path)

    def fails(message: int, error: object) -> None:
        raise RuntimeError("a bug elsewhere")

    from tests.support.spool import envelope

    spool.partition.accept(envelope(), [b"x"], fails)
    spool.accept()
    spool.loop.run()

    assert len(spool.answers) == 1
    assert len(spool.loop.errors) == 1


def test_flush_answers_after_everything_said_before(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    message = spool.put()
    spool.accept()
    spool.settle(message)

    assert spool.flush() is None
    assert len(spool.answers) == 2
    assert spool.partition.stats().messages == 1
    assert spool.flush() is None


def test_waits_for_the_interpreter_are_not_held_against_the_disk() -> None:
    turnaround = Turnaround()
    for _ in range(50):
        for seconds in (0.0002, 0.0002, 0.0052, 0.0002):
            turnaround.note(seconds, seconds, 5)

    assert 0.0001 < turnaround.syncs < 0.0003


def test_a_disk_that_grows_slow_is_noticed_within_a_hundred_commits_and_forgiven_sooner() -> None:
    turnaround = Turnaround()
    for _ in range(100):
        turnaround.note(0.0002, 0.0002, 5)
    for _ in range(100):
        turnaround.note(0.003, 0.003, 5)
    assert turnaround.syncs > 0.0025
    for _ in range(20):
        turnaround.note(0.0002, 0.0002, 5)
    assert turnaround.syncs < 0.0003


def test_commits_of_outcomes_alone_say_nothing_of_how_many_messages_come_together() -> None:
    turnaround = Turnaround()
    for messages in (20, 0) * 100:
        turnaround.note(0.0002, 0.0002, messages)

    assert turnaround.messages == pytest.approx(20, abs=0.1)


def test_the_gauge_gives_the_upper_edge_of_a_millisecond() -> None:
    gauge = WindowGauge()
    assert gauge.percentile(0.99) == 0.0
    for _ in range(99):
        gauge.note([0.0105])
    gauge.note([9.9])

    assert gauge.percentile(0.5) == gauge.percentile(0.99) == 0.011
    assert gauge.percentile(1.0) == 0.512


@pytest.mark.parametrize("call", ["write", "sync", "create", "allocate", "sync_directory", "truncate"])
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_whichever_call_fails_what_was_acknowledged_is_there_afterwards(
    tmp_path: Path, call: str, code: int
) -> None:
    """SQLite's loop: fail the first, second, … call until the scenario runs through without a fault."""
    for nth in range(1, 100):
        directory = tmp_path / f"{nth}"
        files = FaultyFiles()
        spool = Spool(directory, files=files, segment_size=16 << 10, settle_size=8 << 10)
        spool.rest(1)
        files.fail(call, nth, code)
        counted = files.calls[call]
        for number in range(12):
            spool.accept(b"x" * 3000, name=f"{number}", padding=200)
            spool.loop.run()
            if number % 3 == 0 and spool.answers[-1][1] is None:
                spool.settle(spool.answers[-1][0], event=b"e" * 1500)
        spool.flush()
        was_hit = files.calls[call] >= counted + nth
        spool.partition.close()
        acknowledged = [f"{n}" for n, (_, error) in enumerate(spool.answers) if error is None]
        spool.files.__init__()  # type: ignore[misc]
        spool.open()
        there = names(list(spool.partition.recovered()))
        spool.partition.close()
        settled = [f"{n}" for n in range(0, 12, 3)]
        assert [name for name in acknowledged if name not in settled and name not in there] == []
        assert [name for name in there if name not in acknowledged] == []
        if not was_hit:
            return
    raise AssertionError("the scenario never ran through")
