"""MX roll-up through a whole worker: which domains share a queue, where it goes, and whose settings hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from mta.queue.key import QueueKey
from tests.support.workshop import Workshop

DOMAINS = ("one.example", "two.example", "other.example")


async def queues_of(shop: Workshop, *domains: str, count: int = 1) -> dict[str, str]:
    """Send one message to each domain; returns the queue that delivered it, by domain."""
    for domain in domains:
        await shop.submit(count=count, domains=(domain,))
    events = await shop.until_events(count * len(domains), "d")
    return {event.recipient.rpartition("@")[2]: event.queue for event in events}


@pytest.mark.directive("mx-rollup-list mx")
@pytest.mark.directive("domain disable-mx-rollup")
@pytest.mark.directive("domain smtp-hosts")
async def test_domains_with_the_same_hosts_share_a_queue_and_its_settings(tmp_path: Path) -> None:
    extra = """
<mx-rollup-list>
    mx *.example shared.rollup
</mx-rollup-list>
<domain shared.rollup>
    smtp-hosts mx.one.example
    max-smtp-out 1
</domain>
<domain other.example>
    disable-mx-rollup yes
</domain>
"""
    async with Workshop(tmp_path, extra=extra, domains=DOMAINS) as shop:
        found = await queues_of(shop, *DOMAINS)

        assert found == {
            "one.example": "shared.rollup/{default}",
            "two.example": "shared.rollup/{default}",
            "other.example": "other.example/{default}",
        }
        await shop.submit(count=1, domains=("two.example",))
        assert shop.waiting("two.example") == []
        await shop.until_events(4, "d")


async def test_a_list_of_hosts_is_the_route_and_needs_every_host(tmp_path: Path) -> None:
    extra = """
<mx-rollup-list>
    mx mx.one.example listed.rollup
    mx mx.two.example both.rollup
    mx mx.missing.example both.rollup
</mx-rollup-list>
"""
    async with Workshop(tmp_path, extra=extra, domains=DOMAINS) as shop:
        assert await queues_of(shop, "one.example", "two.example") == {
            "one.example": "listed.rollup/{default}",
            "two.example": "two.example/{default}",
        }


async def test_patterns_without_a_route_roll_nothing_up(tmp_path: Path) -> None:
    extra = "<mx-rollup-list>\n mx *.example nowhere.rollup\n</mx-rollup-list>"
    async with Workshop(tmp_path, extra=extra, domains=DOMAINS) as shop:
        assert await queues_of(shop, "one.example") == {"one.example": "one.example/{default}"}


async def test_rollup_by_ip_keeps_the_hosts_and_joins_those_at_the_same_addresses(tmp_path: Path) -> None:
    extra = "<mx-rollup-list>\n mx *.example cloud.rollup rollup-by-ip\n</mx-rollup-list>"
    async with Workshop(tmp_path, extra=extra, domains=DOMAINS) as shop:
        found = await queues_of(shop, "one.example", "two.example")

        assert set(found.values()) == {"cloud.rollup/{default}"}


async def test_what_waits_moves_and_comes_back_to_the_same_queue_after_a_restart(tmp_path: Path) -> None:
    extra = """
<mx-rollup-list>
    mx *.example shared.rollup
</mx-rollup-list>
<domain shared.rollup>
    smtp-hosts mx.one.example
    retry-recipients-after 1h
</domain>
"""
    async with Workshop(tmp_path, extra=extra, domains=DOMAINS, rules="RCPT x2 450 4.2.1 later") as shop:
        for domain in ("one.example", "two.example"):
            await shop.submit(domains=(domain,))
        await shop.until_events(2, "t")
        assert len(shop.waiting("shared.rollup")) == 2
        now = shop.clock.now()
    async with Workshop(tmp_path, extra=extra, domains=DOMAINS, start=now) as again:
        await again.at(now + 3700)
        events = await again.until_events(4, "d", "t")
        assert {event.queue for event in events} == {"shared.rollup/{default}"}


async def test_a_reload_takes_roll_ups_along(tmp_path: Path) -> None:
    async with Workshop(tmp_path, domains=DOMAINS) as shop:
        assert shop.worker.outbound.directions.rollups is None
        assert shop.worker.admission.key("one.example", "v1") == QueueKey("one.example", "v1")
