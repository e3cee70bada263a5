"""MX roll-up through a whole worker: which domains share a queue, where it goes, and whose settings hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from mta.config.load import load_text
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


BY_IP = "<mx-rollup-list>\n mx *.example cloud.rollup rollup-by-ip\n</mx-rollup-list>\n"
WAITING = "<domain cloud.rollup>\n retry-recipients-after 1h\n max-msg-per-connection 1\n</domain>\n"


@pytest.mark.parametrize("after", [BY_IP, ""], ids=["the same", "no roll-ups"])
async def test_mail_that_waits_under_the_name_of_a_roll_up_keeps_its_way_over_a_reload(
    tmp_path: Path, after: str
) -> None:
    rules = "RCPT x1 450 4.2.1 later"
    async with Workshop(tmp_path, extra=BY_IP + WAITING, domains=DOMAINS, rules=rules) as shop:
        await shop.submit(domains=("one.example",))
        await shop.until_events(1, "t")
        assert len(shop.waiting("cloud.rollup")) == 1

        loaded = load_text(shop.text.replace(BY_IP, after))
        assert loaded.snapshot is not None
        shop.worker.reload(loaded.snapshot)
        await shop.at(shop.clock.now() + 3700)

        (event,) = await shop.until_events(1, "d", "b")
        assert (event.queue, shop.events("b")) == ("cloud.rollup/{default}", [])


async def test_a_reload_brings_roll_ups(tmp_path: Path) -> None:
    async with Workshop(tmp_path, domains=DOMAINS) as shop:
        assert shop.worker.outbound.directions.rollups is None
        loaded = load_text(shop.text + BY_IP)
        assert loaded.snapshot is not None
        shop.worker.reload(loaded.snapshot)

        assert await queues_of(shop, "one.example") == {"one.example": "cloud.rollup/{default}"}
