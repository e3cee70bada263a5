"""Limits of connections and rates, as they are written, at a receiver that counts; the clock stands still."""

from __future__ import annotations

from pathlib import Path

import pytest

from mta.queue.queue import QueueMode
from tests.support.steering import by_vmta
from tests.support.workshop import Workshop

#: So that one connection alone would not be through before others are open.
SLOWLY = "DOT +0.03s 250 2.0.0 ok"
ADDRESSES = "".join(f"smtp-source-host 127.0.0.{last} s{last}.example.org\n" for last in (2, 3))


def rate(name: str, lines: str, delivered: int, *, extra: str = "", connections: int | None = None) -> object:
    marks = [pytest.mark.directive(word.replace("_", " ")) for word in name.split()]
    return pytest.param(lines, extra, delivered, connections, id=name, marks=marks)


CASES = [
    rate("domain_max-msg-rate", "max-msg-rate 2/h", 2),
    rate(
        "domain_max-connect-rate domain_max-msg-per-connection",
        "max-connect-rate 2/h\nmax-msg-per-connection 1",
        2,
    ),
    rate("domain_max-data-volume-rate", "max-data-volume-rate 3K/h\nmax-smtp-out 1", 2),
    rate("domain_max-msg-per-connection", "max-smtp-out 1\nmax-msg-per-connection 1", 6, connections=6),
    rate("domain_max-smtp-out", "max-smtp-out 1", 6, connections=1),
    rate("domain_smtp-out-rampup-interval", "smtp-out-rampup-interval 1h", 6, connections=1),
    rate(
        "domain_source-ip-max-msg-rate",
        "source-ip-max-msg-rate 127.0.0.2/32 1/h",
        1,
        extra=by_vmta("smtp-source-ip 127.0.0.2"),
    ),
    rate(
        "domain_source-ip-max-connect-rate",
        "source-ip-max-connect-rate 127/8 1/h\nmax-msg-per-connection 1",
        2,
        extra=by_vmta(ADDRESSES),
    ),
    rate(
        "domain_source-ip-max-data-volume-rate",
        "source-ip-max-data-volume-rate 127/8 1K/h\nmax-smtp-out 1\nmax-msg-per-connection 1",
        2,
        extra=by_vmta(ADDRESSES),
    ),
    rate("virtual-mta_max-smtp-out", "", 6, extra=by_vmta("max-smtp-out 1"), connections=1),
    rate("virtual-mta_max-smtp-msg-rate", "", 2, extra=by_vmta("max-smtp-msg-rate 2/h")),
    rate(
        "virtual-mta_max-smtp-data-volume-rate",
        "max-smtp-out 1",
        2,
        extra=by_vmta("max-smtp-data-volume-rate 3K/h"),
    ),
    rate("virtual-mta-pool_max-smtp-out", "", 6, extra=by_vmta(pool="max-smtp-out 1"), connections=1),
    rate("virtual-mta-pool_max-smtp-msg-rate", "", 2, extra=by_vmta(pool="max-smtp-msg-rate 2/h")),
    rate(
        "virtual-mta-pool_max-smtp-data-volume-rate",
        "max-smtp-out 1",
        2,
        extra=by_vmta(pool="max-smtp-data-volume-rate 3K/h"),
    ),
]


async def only_so_many_leave(shop: Workshop, delivered: int, connections: int | None) -> None:
    """Let the queues go on while the clock stands: so many are delivered, over so many connections."""
    with shop.clock.standing(shop.clock.now() + 1):
        shop.worker.scheduler.resume("*/*", shop.clock.now())
        shop.worker.dispatcher.wake()
        await shop.until_events(delivered, "d")
        await shop.turn()
        await shop.until_idle()

    assert len(shop.events("d")) == delivered
    if connections is not None:
        assert shop.connections == connections


@pytest.mark.parametrize(("lines", "extra", "delivered", "connections"), CASES)
async def test_as_much_goes_as_is_written(
    tmp_path: Path, lines: str, extra: str, delivered: int, connections: int | None
) -> None:
    async with Workshop(tmp_path, rules=SLOWLY, within=lines, extra=extra) as shop:
        shop.worker.scheduler.pause("*/*", shop.clock.now())
        await shop.submit(count=6, size=900)
        await only_so_many_leave(shop, delivered, connections)


@pytest.mark.directive("domain source-ip-max-smtp-out")
@pytest.mark.parametrize(("most", "has_more"), [("source-ip-max-smtp-out 127/8 1", False), ("", True)])
async def test_each_local_address_has_so_many_connections(tmp_path: Path, most: str, has_more: bool) -> None:
    rules = "DOT +0.1s 250 2.0.0 ok"
    async with Workshop(tmp_path, rules=rules, within=most, extra=by_vmta(ADDRESSES)) as shop:
        shop.worker.scheduler.pause("*/*", shop.clock.now())
        await shop.submit(count=6)
        shop.worker.scheduler.resume("*/*", shop.clock.now())
        shop.worker.dispatcher.wake()
        await shop.until_events(6, "d")

        assert (shop.receiver.totals.peak > len(("127.0.0.2", "127.0.0.3"))) is has_more


@pytest.mark.directive("domain backoff-max-msg-rate")
@pytest.mark.directive("domain backoff-max-connect-rate")
@pytest.mark.directive("domain backoff-max-data-volume-rate")
@pytest.mark.directive("domain backoff-max-smtp-out")
@pytest.mark.parametrize(
    ("lines", "delivered", "connections"),
    [
        ("backoff-max-msg-rate 2/h", 2, None),
        ("backoff-max-connect-rate 2/h\nmax-msg-per-connection 1", 2, 2),
        ("backoff-max-data-volume-rate 3K/h\nbackoff-max-smtp-out 1", 2, None),
        ("backoff-max-smtp-out 1", 6, 1),
    ],
)
async def test_a_queue_in_backoff_has_rates_of_its_own(
    tmp_path: Path, lines: str, delivered: int, connections: int | None
) -> None:
    async with Workshop(tmp_path, rules=SLOWLY, within=lines) as shop:
        shop.worker.scheduler.pause("*/*", shop.clock.now())
        await shop.submit(count=6, size=900)
        shop.worker.scheduler.set_mode("*/*", QueueMode.BACKOFF, shop.clock.now())
        await only_so_many_leave(shop, delivered, connections)


@pytest.mark.directive("domain max-rcpt-per-message")
async def test_recipients_of_one_message_go_in_several_transactions(tmp_path: Path) -> None:
    async with Workshop(tmp_path, within="max-rcpt-per-message 2\nmax-smtp-out 1") as shop:
        await shop.submit(recipients=5)
        await shop.until_events(5, "d")

    assert sorted(len(delivery.recipients) for delivery in shop.deliveries) == [1, 2, 2]


@pytest.mark.directive("domain max-errors-per-connection")
async def test_a_connection_with_too_many_refusals_is_closed(tmp_path: Path) -> None:
    within = "max-errors-per-connection 1\nmax-smtp-out 1\ndeliver-local-dsn no"
    async with Workshop(tmp_path, rules="RCPT 550 5.1.1 nobody", within=within) as shop:
        await shop.submit(count=3)
        await shop.until_events(3, "b")

        assert shop.connections == 3


@pytest.mark.directive("domain connection-idle-timeout")
@pytest.mark.parametrize(("seconds", "connections"), [(0, 2), (600, 1)])
async def test_an_idle_connection_is_kept_for_the_next_message(
    tmp_path: Path, seconds: int, connections: int
) -> None:
    async with Workshop(tmp_path, within=f"connection-idle-timeout {seconds}s") as shop:
        await shop.submit()
        await shop.until_events(1, "d")
        if not seconds:
            await shop.until(lambda: not shop.receiver.totals.open)
        await shop.submit()
        await shop.until_events(2, "d")

        assert shop.connections == connections
