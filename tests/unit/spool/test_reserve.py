"""A spool that fills a disk with mail leaves room for what will become of that mail."""

from __future__ import annotations

from pathlib import Path

from tests.support.spool import FaultyFiles, Spool

#: An accounting record of a delivery, with the names that receivers have.
EVENT = b"e" * 440


def test_all_outcomes_of_a_full_disk_fit_beside_its_mail(tmp_path: Path) -> None:
    files = FaultyFiles()
    files.capacity = 1 << 20
    spool = Spool(tmp_path, files=files, settle_size=16 << 10)
    messages = []
    while spool.partition.refusal(2000) is None:
        messages.append(spool.put(b"x" * 2000, name=f"{len(messages)}"))
        spool.loop.advance(0.2)  # what is known about the disk gets old
    assert len(messages) > 200, "most of the disk is there for mail"
    # Somebody else has taken what was left, and gives it back when all mail has long been delivered.
    room, files.capacity = files.capacity, 0
    for start in range(30):  # one of each file, then the next: none becomes empty before the end
        for message in messages[start::30]:
            spool.settle(message, event=EVENT)
    spool.rest()
    assert spool.partition.stats().backlog > 0

    files.capacity = room
    spool.rest()

    assert spool.partition.stats().backlog == 0
    assert spool.partition.stats().messages == 0
    assert spool.partition.refusal(2000) is None
