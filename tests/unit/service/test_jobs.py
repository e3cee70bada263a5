"""Counting jobs, and keeping back those that are paused."""

from __future__ import annotations

import json

from mta.message.envelope import Envelope, Recipient
from mta.queue.entries import Entry
from mta.queue.key import QueueKey
from mta.service import jobs as module
from mta.service.jobs import JobBook

A, B = QueueKey("a.example", "v1"), QueueKey("b.example", "v1")


def envelope(job: str) -> Envelope:
    return Envelope("Q", 1.0, "s@example.org", "v1", (Recipient("r@a.example", "a.example"),), job_id=job)


def test_a_job_is_counted_until_nothing_waits() -> None:
    book = JobBook()
    book.enter("news", 3, 1000)
    book.ended(envelope("news"), True)
    book.ended(envelope("news"), False)

    job = book.jobs()["news"]
    assert (job.waiting, job.entered, job.delivered, job.failed, job.size) == (1, 3, 1, 1, 3000)
    book.ended(envelope("news"), True)
    assert book.jobs() == {}


def test_a_recipient_of_an_unknown_job_is_no_trouble() -> None:
    JobBook().ended(envelope("never seen"), True)


def test_only_finished_jobs_are_forgotten() -> None:
    book = JobBook()
    book.enter("waits", 1, 1)
    for number in range(module.FINISHED_KEPT + 50):
        book.enter(f"job {number}", 1, 1)
        book.ended(envelope(f"job {number}"), True)

    assert list(book.jobs()) == ["waits"]
    assert len(book._jobs) <= module.FINISHED_KEPT + 1


def test_what_was_kept_back_comes_back_as_it_was() -> None:
    book = JobBook()
    assert book.pause("news")
    assert not book.pause("news")
    ready, deferred = Entry(1 << 16, 100, 2), Entry(2 << 16, 100, 3, 500)
    book.hold("news", A, [ready, deferred])
    book.hold("news", B, [Entry(3 << 16, 100, 0)])
    book.hold("other", A, [Entry(4 << 16, 100, 0)])
    assert book.held_back("news") == 3

    assert book.remove(A, {2 << 16, 99}) == [2 << 16]
    assert sorted(book.resume("news") or ()) == [(A, ready), (B, Entry(3 << 16, 100, 0))]
    assert book.resume("news") is None
    assert [key for key, _ in book.held()] == [A]


def test_paused_jobs_survive_a_restart() -> None:
    book, other = JobBook(), JobBook()
    book.pause("news")
    other.restore_state(json.loads(json.dumps(book.snapshot_state())))

    assert other.is_paused("news")
    assert list(other.jobs()) == ["news"]
