"""The certificate that we show to receivers who ask for one."""

from __future__ import annotations

import ssl
from dataclasses import replace
from pathlib import Path

import pytest

from mta.clock import SystemClock
from mta.delivery.connection import DialFailure
from mta.delivery.dialer import Dialer
from mta.delivery.tls import TlsPolicy
from mta.routing.router import Target
from tests.support.certificates import make_certificate, server_context
from tests.support.delivery_rig import PATIENT
from tests.support.scripted_server import Script, ScriptedServer

pytestmark = pytest.mark.both_loops


async def dial(tmp_path: Path, tls: TlsPolicy) -> str:
    """The TLS version of a connection to a server that wants to see a certificate."""
    context = server_context(make_certificate(tmp_path))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(make_certificate(tmp_path, "client.example.com"))
    async with ScriptedServer(Script(offers=("STARTTLS",)), tls=context) as server:
        connection = await Dialer(clock=SystemClock()).dial(
            [Target("mx.example.net", "127.0.0.1", server.port, 0)],
            source_ip="",
            host_name="out.example.com",
            policy=replace(PATIENT, tls=tls),
        )
        connection.transport.abort()
    return connection.tls_protocol


async def test_receiver_that_asks_for_a_certificate_is_shown_one(tmp_path: Path) -> None:
    certificate = str(make_certificate(tmp_path, "client.example.com"))

    assert await dial(tmp_path, TlsPolicy(require=True, client_certificate=certificate)) == "TLSv1.3"


async def test_without_one_there_is_no_tls(tmp_path: Path) -> None:
    with pytest.raises(DialFailure):
        await dial(tmp_path, TlsPolicy(require=True))
