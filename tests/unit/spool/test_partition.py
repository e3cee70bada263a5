from __future__ import annotations

from pathlib import Path

import pytest

from mta.errors import SpoolCorrupt, SpoolError, SpoolFull
from mta.spool.stored import Waiting
from tests.support.spool import FaultyFiles, Spool, names


def test_a_message_is_answered_only_after_the_commit(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.accept()

    assert spool.answers == []
    spool.loop.run()
    assert [error for _, error in spool.answers] == [None]


def test_answers_come_in_the_order_of_the_calls(tmp_path: Path) -> None:
    spool = Spool(tmp_path, segment_size=16 << 10)
    for number in range(50):
        spool.accept(b"x" * (number * 400))
    spool.loop.run()

    assert [message for message, _ in spool.answers] == sorted(message for message, _ in spool.answers)
    assert len(spool.answers) == 50


def test_the_end_of_a_commit_is_told_when_everybody_has_an_answer(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    answered: list[int] = []
    spool.partition.on_committed = lambda: answered.append(len(spool.answers))
    for _ in range(3):
        spool.accept()

    spool.loop.run()

    assert answered == [3]


def test_who_fails_when_a_commit_ends_does_not_end_the_next_one(tmp_path: Path) -> None:
    spool = Spool(tmp_path)

    def fail() -> None:
        raise RuntimeError("a bug")

    spool.partition.on_committed = fail
    spool.accept()
    spool.loop.run()
    spool.accept()
    spool.loop.run()

    assert len(spool.answers) == 2


def test_a_young_message_comes_from_memory_and_an_old_one_from_disk(tmp_path: Path) -> None:
    files = FaultyFiles()
    spool = Spool(tmp_path, files=files, memory_pool=200)
    first = spool.put([b"first\r\n", b"body\r\n"])
    spool.put(b"x" * 90)
    before = files.calls["read"]

    assert spool.partition.load(first).body == b"first\r\nbody\r\n"
    assert files.calls["read"] == before + 1
    assert spool.partition.load(first).envelope.queue_id == "m"


@pytest.mark.parametrize("body", [[], [b""], [b"a", b"", b"b"], [b"x" * 3_000_000]])
def test_any_body_survives_a_restart(tmp_path: Path, body: list[bytes]) -> None:
    spool = Spool(tmp_path)
    message = spool.put(body)

    (found,) = spool.reopen()

    assert found.size == len(b"".join(body))
    assert found.message == message
    assert spool.partition.load(message).body == b"".join(body)


def test_what_waits_is_recovered_with_attempts_and_due_time(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    message = spool.put(recipients=3, name="three")
    spool.settle(message, 1)
    spool.partition.defer(message, 2, attempts=1, due=1000.0, event=None)
    spool.partition.defer(message, 2, attempts=2, due=2000.5, event=b"t")

    (found,) = spool.reopen()

    assert found.envelope.queue_id == "three"
    assert found.waiting == [Waiting(0, 0, 0.0), Waiting(2, 2, 2000.5)]


def test_a_settled_message_is_gone_after_a_restart(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    gone, stays = spool.put(b"", name="gone"), spool.put(name="stays")
    spool.settle(gone)

    assert names(spool.reopen()) == ["stays"]
    assert spool.partition.load(stays).envelope.queue_id == "stays"


def test_a_message_that_never_was_is_not_loaded(tmp_path: Path) -> None:
    spool = Spool(tmp_path)

    with pytest.raises(SpoolCorrupt, match="not in the spool"):
        spool.partition.load(12345)


def test_recovered_messages_are_given_out_once(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.put()

    assert len(spool.reopen()) == 1
    assert list(spool.partition.recovered()) == []


def test_recovery_leaves_out_what_is_settled_while_it_goes_on_and_what_is_new(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    for name in ("a", "b", "c"):
        spool.put(name=name)
    spool.partition.close()
    spool.open()

    recovered = spool.partition.recovered()
    assert next(recovered).envelope.queue_id == "a"
    spool.put(name="new")
    spool.settle(spool.answers[1][0])
    spool.flush()

    assert names(list(recovered)) == ["c"]


def test_ids_are_never_used_again_even_when_everything_is_gone(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    seen: list[int] = []
    for _ in range(4):
        for _ in range(5):
            message = spool.put(b"x" * 20_000)
            spool.settle(message)
            seen.append(message)
        spool.flush()
        spool.rest()
        assert spool.reopen() == []

    assert seen == sorted(set(seen))


def test_a_message_larger_than_a_segment_gets_one_of_its_own(tmp_path: Path) -> None:
    spool = Spool(tmp_path, segment_size=32 << 10)
    small = spool.put(b"small")
    large = spool.put(b"L" * 200_000)
    after = spool.put(b"after")

    assert len(spool.reopen()) == 3
    for message, body in ((small, b"small"), (large, b"L" * 200_000), (after, b"after")):
        assert spool.partition.load(message).body == body
    spool.settle(large)
    spool.flush()
    spool.rest()
    assert max(path.stat().st_size for path in (tmp_path / "segments").iterdir()) <= 32 << 10
    assert len(spool.reopen()) == 2


def test_files_are_used_again_and_their_number_stays_small(tmp_path: Path) -> None:
    spool = Spool(tmp_path, segment_size=32 << 10, settle_size=8 << 10)
    for _ in range(100):
        spool.settle(spool.put(b"x" * 8000))
        spool.loop.advance(0.02)
    spool.flush()
    spool.rest()

    stats = spool.partition.stats()
    assert stats.messages == stats.bytes == 0
    assert len(list((tmp_path / "segments").iterdir())) <= 6
    assert spool.reopen() == []


def test_close_commits_what_waits(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    message = spool.put()
    spool.accept(name="late")
    spool.settle(message)
    spool.partition.close()
    spool.partition.close()

    assert [error for _, error in spool.answers] == [None, None]
    spool.open()
    assert names(list(spool.partition.recovered())) == ["late"]


def test_bytes_that_are_no_envelope_are_refused(tmp_path: Path) -> None:
    spool = Spool(tmp_path)

    with pytest.raises(ValueError):
        spool.partition.accept(b"\xff\xff", [b"x"], spool.answered)


def test_too_little_free_space_refuses_mail(tmp_path: Path) -> None:
    files = FaultyFiles()
    spool = Spool(tmp_path, files=files, min_free_space=1_000_000)
    assert spool.partition.refusal(1000) is None

    files.capacity = 999_999
    spool.loop.advance(1.0)

    refusal = spool.partition.refusal(1000)
    assert isinstance(refusal, SpoolFull)
    assert "min-free-space" in str(refusal)


def test_the_log_says_once_in_a_while_that_the_disk_is_full_and_when_it_no_longer_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = FaultyFiles()
    spool = Spool(tmp_path, files=files, min_free_space=1_000_000)
    for capacity in (999_999, 999_999, 1 << 40, 999_999, 1 << 40):
        files.capacity = capacity
        spool.loop.advance(1.0)
        spool.partition.refusal(1000)
        assert bool(spool.partition.shortage) is (capacity < 1_000_000)

    told = [line.getMessage().partition("event=")[2].partition(" ")[0] for line in caplog.records]
    assert told == ["full", "room-again"]
    spool.loop.advance(60.0)
    files.capacity = 0
    spool.loop.advance(1.0)
    spool.partition.refusal(1000)
    assert "less than min-free-space" in caplog.records[-1].getMessage()


def test_a_spool_that_only_delivers_lacks_no_room(tmp_path: Path) -> None:
    spool = Spool(tmp_path, deliver_only=True)

    assert isinstance(spool.partition.refusal(10), SpoolFull)
    assert spool.partition.shortage == ""


def test_too_few_inodes_refuse_mail(tmp_path: Path) -> None:
    files = FaultyFiles()
    spool = Spool(tmp_path, files=files)
    files.inodes = 99
    spool.loop.advance(1.0)

    assert isinstance(spool.partition.refusal(1000), SpoolFull)


def test_a_message_that_would_not_fit_is_refused_before_it_comes(tmp_path: Path) -> None:
    files = FaultyFiles()
    spool = Spool(tmp_path, files=files)
    spool.loop.advance(2.0)
    files.capacity = 500_000
    spool.loop.advance(1.0)

    assert spool.partition.refusal(1000) is None
    assert isinstance(spool.partition.refusal(10_000_000), SpoolFull)


def test_a_draining_spool_takes_nothing(tmp_path: Path) -> None:
    spool = Spool(tmp_path, deliver_only=True)

    assert isinstance(spool.partition.refusal(1), SpoolFull)


def test_a_damaged_body_is_noticed_and_kept_for_a_person(tmp_path: Path) -> None:
    spool = Spool(tmp_path, memory_pool=0)
    bad, good = spool.put(b"A" * 100, name="bad"), spool.put(b"B" * 100, name="good")
    (segment,) = [path for path in (tmp_path / "segments").iterdir() if b"A" * 100 in path.read_bytes()]
    data = segment.read_bytes()
    segment.write_bytes(data.replace(b"A" * 100, b"A" * 99 + b"!"))

    with pytest.raises(SpoolCorrupt):
        spool.partition.load(bad)
    with pytest.raises(SpoolCorrupt):
        spool.partition.load(bad)
    assert spool.partition.load(good).body == b"B" * 100
    (copy,) = (tmp_path / "quarantine").glob("*.bytes")
    assert b"A" * 99 + b"!" in copy.read_bytes()
    assert "body of message" in next((tmp_path / "quarantine").glob("*.txt")).read_text()
    assert spool.partition.stats().damaged == 1


def test_a_block_that_cannot_be_read_now_may_be_readable_later(tmp_path: Path) -> None:
    files = FaultyFiles()
    spool = Spool(tmp_path, files=files, memory_pool=0)
    message = spool.put(b"A" * 100)
    files.unreadable = (4096, 8192)

    with pytest.raises(SpoolError) as failure:
        spool.partition.load(message)
    assert not isinstance(failure.value, SpoolCorrupt)
    files.unreadable = None
    assert spool.partition.load(message).body == b"A" * 100


def test_the_duplicate_window_is_measured(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    message = spool.put()
    assert spool.partition.stats().window_p99 == 0.0

    spool.settle(message)
    spool.loop.advance(1.0)

    assert 0.0 < spool.partition.stats().window_p99 <= 0.05


def test_its_status_line_names_directory_and_state(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.put()

    assert repr(spool.partition) == f"<Partition {tmp_path} open messages=1>"
    spool.partition.close()
    assert "closed" in repr(spool.partition)


def test_an_envelope_is_read_without_its_body(tmp_path: Path) -> None:
    files = FaultyFiles()
    spool = Spool(tmp_path, files=files, memory_pool=0, segment_size=1 << 20)
    messages = [spool.put(b"x" * size, name=f"{size}") for size in (0, 100, 50_000, 3, 300_000)]
    wide = spool.put(name="wide", recipients=3000)
    files.unreadable = (4096 + 20_000, 4096 + 40_000)  # in the middle of the third body

    names_read = [spool.partition.envelope(message).queue_id for message in messages]

    assert names_read == ["0", "100", "50000", "3", "300000"]
    assert len(spool.partition.envelope(wide).recipients) == 3000
    with pytest.raises(SpoolCorrupt):
        spool.partition.envelope(999_999)


def test_an_envelope_written_after_the_window_was_read_is_found(tmp_path: Path) -> None:
    spool = Spool(tmp_path, memory_pool=0)
    first = spool.put(name="first")
    assert spool.partition.envelope(first).queue_id == "first"
    second = spool.put(name="second")

    assert spool.partition.envelope(second).queue_id == "second"


def test_sizes_are_known_without_reading(tmp_path: Path) -> None:
    files = FaultyFiles()
    spool = Spool(tmp_path, files=files)
    message = spool.put(b"x" * 10_000)
    reads = files.calls["read"]

    assert 10_000 < spool.partition.size(message) < 10_500
    assert spool.partition.size(message + 1) == 0
    assert files.calls["read"] == reads


def test_a_message_for_nobody_or_for_too_many_is_refused(tmp_path: Path) -> None:
    spool = Spool(tmp_path)

    with pytest.raises(ValueError, match="0 recipients"):
        spool.accept(recipients=0)
    with pytest.raises(ValueError, match="70000 recipients"):
        spool.accept(recipients=70_000)


def test_a_closed_spool_answers_that_it_is_closed(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.partition.close()
    spool.accept()
    spool.loop.run()

    assert isinstance(spool.answers[0][1], SpoolError)
