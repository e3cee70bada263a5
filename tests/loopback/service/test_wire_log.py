"""The log-* directives on both sides: what the log says about connections, and what it leaves out."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

import pytest

from mta.sink.options import Tls
from tests.support.certificates import make_certificate, server_context
from tests.support.inbound import Inbound
from tests.support.steering import REACTIONS, reactions
from tests.support.workshop import Workshop


@pytest.fixture(autouse=True)
def _hear_everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def said(caplog: pytest.LogCaptureFixture, *words: str) -> list[str]:
    """Log lines that hold every one of these words."""
    lines = [record.getMessage() for record in caplog.records]
    return [line for line in lines if all(word in line for word in words)]


@pytest.mark.directive("domain log-connections")
@pytest.mark.directive("domain log-resolution")
@pytest.mark.parametrize("name", ["log-connections", "log-resolution"])
async def test_connections_and_where_they_could_go_are_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    async with Workshop(tmp_path, within=f"{name} yes") as shop:
        await shop.submit()
        await shop.until_events(1, "d")

    connected = (
        said(caplog, "queue=example.com/{default}", "event=connected", "mx.example.com (127.0.0.1)"),
        said(caplog, "queue=example.com/{default}", "event=disconnected", "messages=1"),
    )
    assert [bool(lines) for lines in connected] == [name == "log-connections"] * 2
    assert bool(said(caplog, "event=resolved", "mx.example.com[127.0.0.1]:")) is (name == "log-resolution")
    assert not said(caplog, "MAIL FROM")


@pytest.mark.directive("domain log-commands")
async def test_the_dialogue_is_logged_without_the_message(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Workshop(tmp_path, within="log-commands yes") as shop:
        await shop.submit(sender="boss@example.org")
        await shop.until_events(1, "d")

    assert said(caplog, "wire='>>> MAIL FROM:<boss@example.org>")
    assert said(caplog, "wire='<<< 354")
    assert said(caplog, "octets of message")
    assert not said(caplog, "All work and no play")


@pytest.mark.directive("domain log-data")
async def test_the_message_is_logged_as_well(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with Workshop(tmp_path, within="log-data yes") as shop:
        await shop.submit()
        await shop.until_events(1, "d")

    assert said(caplog, "wire='>>> All work and no play")


@pytest.mark.directive("domain log-tls")
async def test_the_tls_of_a_connection_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with Workshop(tmp_path, within="log-tls yes", tls=Tls.STARTTLS) as shop:
        await shop.submit()
        await shop.until_events(1, "d")

    assert said(caplog, "event=tls", "protocol=TLSv1.3")


@pytest.mark.directive("domain log-transfer-failures")
async def test_a_connection_that_breaks_inside_a_message_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Workshop(tmp_path, rules="DOT close", within="log-transfer-failures yes") as shop:
        await shop.submit()
        (event,) = await shop.until_events(1, "t")

    assert said(caplog, "event=transfer-failure", event.queue_id)


@pytest.mark.directive("domain log-disabled-ips")
@pytest.mark.parametrize("wish", ["yes", "no"])
async def test_a_source_address_that_is_disabled_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, wish: str
) -> None:
    within = f"log-disabled-ips {wish}\n{REACTIONS}"
    extra = reactions("/go away/ disable-source-ip")
    async with Workshop(tmp_path, rules="MAIL 421 go away", within=within, extra=extra) as shop:
        await shop.submit()
        await shop.until(lambda: shop.worker.scheduler.disabled_sources(shop.clock.now()))

    assert bool(said(caplog, "event=source-disabled")) is (wish == "yes")


CLIENT = "<source 127.0.0.1>\n{}\n</source>"


@pytest.mark.directive("source log-connections")
@pytest.mark.directive("source log-commands")
@pytest.mark.parametrize("name", ["log-connections", "log-commands"])
async def test_a_clients_connections_and_commands_are_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    async with Workshop(tmp_path, extra=CLIENT.format(f"{name} yes")) as shop:
        await shop.submit(sender="boss@example.org")
        await shop.until(lambda: not shop.worker.listener.reception.guests)

    came_and_went = (
        said(caplog, "client=127.0.0.1 connected"),
        said(caplog, "client=127.0.0.1 disconnected"),
    )
    assert [bool(lines) for lines in came_and_went] == [name == "log-connections"] * 2
    spoke = said(caplog, "client=127.0.0.1 command=b'MAIL FROM:<boss@example.org>")
    assert bool(spoke) is (name == "log-commands")
    assert not said(caplog, "All work and no play")


@pytest.mark.directive("source log-data")
async def test_a_clients_message_and_our_answers_are_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Workshop(tmp_path, extra=CLIENT.format("log-data yes")) as shop:
        await shop.submit()

    assert said(caplog, "client=127.0.0.1 received=", "All work and no play")
    assert said(caplog, "client=127.0.0.1 sent=", "queued as")


@pytest.mark.directive("source log-tls")
async def test_the_tls_of_a_client_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tls = server_context(make_certificate(tmp_path))
    async with (
        Inbound(source="allow-starttls yes\nlog-tls yes", tls=tls) as inbound,
        inbound.caller() as client,
    ):
        await client.ask("EHLO client.test", "STARTTLS")
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        await client.writer.start_tls(context)
        await client.hello()

    assert said(caplog, "client=127.0.0.1 tls=TLSv1.3 cipher=TLS_")
