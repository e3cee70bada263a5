"""Mail of other owners moves as fast as they take it, and not faster."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from mta.message.envelope import Envelope, Recipient, encode_envelope
from mta.service.layout import Layout, Post
from mta.service.passage import LEAST_WINDOW, WINDOW, WINDOW_BYTES, Passage, _Backlog
from mta.service.share import Share, Verdict
from mta.spool.options import SpoolOptions
from mta.spool.partition import Partition

MESSAGES = 3000


class Owner:
    """Answers everything that it has been offered when it is told to."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.most = 0
        self._open: list[Callable[[Verdict], None]] = []
        self.offered = asyncio.Event()

    def offer(self, owner: int, share: Share, done: Callable[[Verdict], None]) -> None:
        self.names.append(share.name)
        self._open.append(done)
        self.offered.set()

    def answer(self) -> None:
        self.most = max(self.most, len(self._open))
        answers, self._open = self._open, []
        self.offered.clear()
        for done in answers:
            done(Verdict.TAKEN)


async def stored(partition: Partition) -> None:
    """Messages for a domain of another worker, on disk."""
    done = asyncio.Event()

    def count(message: int, error: object) -> None:
        assert error is None
        if message == MESSAGES:
            done.set()

    for number in range(MESSAGES):
        envelope = Envelope(
            f"q{number}", 1.0, "a@example.org", "v1", (Recipient("b@d.example", "d.example"),)
        )
        partition.accept(encode_envelope(envelope), [b"Subject: hello\r\n\r\n"], count, envelope)
    await done.wait()


async def test_the_window_grows_while_the_owner_answers_quickly(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    partition = Partition.open(tmp_path / "0", options=SpoolOptions(), loop=loop)
    layout, owner = Layout([Post(0), Post(1)]), Owner()
    passage = Passage(
        7, partition=partition, layout=lambda: layout, offer=owner.offer, at_home=None, loop=loop
    )
    try:
        async with asyncio.timeout(30):
            await stored(partition)
            for message in range(1, MESSAGES + 1):
                passage.add(layout.owner("d.example"), message, 0)
            while passage.waiting:
                await owner.offered.wait()
                owner.answer()
                await asyncio.sleep(0)
            await passage.emptied()
            flushed = loop.create_future()
            partition.flush(flushed.set_result)
            assert await flushed is None
    finally:
        passage.close()
        partition.close()

    assert len(owner.names) == len(set(owner.names)) == MESSAGES
    assert partition.recipients == 0
    assert LEAST_WINDOW < owner.most <= WINDOW
    assert passage.carried == MESSAGES


def answered(backlog: _Backlog, seconds: float) -> int:
    """All that may be under way is, and is answered after so long; how many that were."""
    count = 0
    while backlog.is_ready(0.0):
        backlog.sent(1000)
        count += 1
    for _ in range(count):
        backlog.answered(1000, seconds)
    return count


def test_the_window_follows_the_time_that_answers_take() -> None:
    backlog = _Backlog()
    backlog.add(1 << 16)
    assert [answered(backlog, 0.1) for _ in range(7)] == [64, 128, 256, 512, 1024, 2000, 2000]
    assert answered(backlog, 1.5) == WINDOW
    assert answered(backlog, 1.5) < 2 * LEAST_WINDOW


def test_an_owner_that_is_slow_but_no_slower_for_having_more_gets_more() -> None:
    backlog = _Backlog()
    backlog.add(1 << 16)
    assert [answered(backlog, 0.5) for _ in range(3)] == [64, 128, 256]


def test_bytes_on_their_way_are_bounded() -> None:
    backlog = _Backlog()
    backlog.add(1 << 16)
    backlog.sent(WINDOW_BYTES)
    assert not backlog.is_ready(0.0)
    backlog.answered(WINDOW_BYTES, 0.1)
    assert backlog.is_ready(0.0)
