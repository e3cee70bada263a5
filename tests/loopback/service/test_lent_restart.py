"""A worker among several that comes back: what its queues remember, and what it has to borrow for them."""

from __future__ import annotations

import asyncio
from pathlib import Path

from mta.config.load import load_text
from mta.service.borrower import Demands
from mta.service.worker import Worker
from mta.service.workercommands import WorkerCommands
from tests.support.workshop import Workshop

#: A limit of a virtual MTA is one of the whole service: each worker borrows its part.
LIMITED = (
    "<virtual-mta v1>\nmax-smtp-out 5\n</virtual-mta>\n<source 127.0.0.1>\ndefault-virtual-mta v1\n</source>"
)


async def no_loan(_demands: Demands) -> dict[str, int | None]:
    return {}


async def test_a_queue_in_backoff_of_a_limited_virtual_mta_does_not_keep_a_worker_from_starting(
    tmp_path: Path,
) -> None:
    async with Workshop(tmp_path, extra=LIMITED) as shop:
        await shop.hand_in("Subject: x\n\nhello")
        commands = WorkerCommands(shop.worker, clock=shop.clock)
        assert await commands.run("queue.mode", {"pattern": "*/*", "mode": "backoff"}) == {"queues": 1}
        text, clock = shop.text, shop.clock

    snapshot = load_text(text).snapshot
    assert snapshot is not None
    loop = asyncio.get_running_loop()
    again = Worker(snapshot, name="0", clock=clock, loop=loop, workers=2, lender=no_loan)
    try:
        (row,) = again.scheduler.queues(clock.now())
        assert (row.key.vmta, row.mode) == ("v1", "backoff")
    finally:
        again.partition.close()
