"""Other people's clients against our listener."""

from __future__ import annotations

import asyncio
import shutil
import ssl
from pathlib import Path

import pytest
from aiosmtplib import SMTP

from mta.config.load import load_text
from mta.ingress.listener import server_tls
from tests.support.certificate import client_tls, write_certificate
from tests.support.inbound import OPEN, Inbound

pytestmark = [pytest.mark.peers, pytest.mark.both_loops]

USERS = (
    "<smtp-user app>\n    password s3cret\n    source {app}\n</smtp-user>\n<source {app}>\n    "
    + OPEN
    + "\n</source>"
)


@pytest.fixture
def tls(tmp_path: Path) -> ssl.SSLContext | None:
    loaded = load_text(f'smtp-server-tls-certificate "{write_certificate(tmp_path)}"')
    assert loaded.snapshot is not None
    return server_tls(loaded.snapshot)


async def run(program: str, *arguments: str) -> tuple[int, str]:
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin")
    if path is None:
        pytest.skip(f"{program} is not installed")
    process = await asyncio.create_subprocess_exec(
        path, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(40):
        output, _ = await process.communicate()
    return process.returncode or 0, output.decode("utf-8", "replace")


@pytest.mark.parametrize("extra", [["-d"], [], ["-d", "-r", "5"], ["-N"], ["-A"]])
async def test_smtp_source_delivers_every_message(extra: list[str]) -> None:
    async with Inbound() as inbound:
        code, output = await run(
            "smtp-source", *extra, "-s", "20", "-l", "10240", "-m", "200",
            "-f", "sender@example.com", "-t", "rcpt@example.net", f"127.0.0.1:{inbound.port}",
        )  # fmt: skip

        assert (code, output) == (0, "")
        assert len(inbound.admitted) == 200
        assert len({envelope.queue_id for envelope in inbound.admitted}) == 200


async def test_swaks_goes_through_every_step(tls: ssl.SSLContext | None) -> None:
    async with Inbound(USERS, source="allow-starttls yes\nrequire-auth yes", tls=tls) as inbound:
        code, output = await run(
            "swaks", "--server", "127.0.0.1", "--port", str(inbound.port), "--tls",
            "--auth", "PLAIN", "--auth-user", "app", "--auth-password", "s3cret",
            "--from", "sender@example.com", "--to", "one@example.net,two@example.org", "--pipeline",
        )  # fmt: skip

        assert code == 0, output
        assert "queued as " + inbound.admitted[0].queue_id in output
        assert [recipient.address for recipient in inbound.admitted[0].recipients] == [
            "one@example.net",
            "two@example.org",
        ]


async def test_swaks_is_refused_as_a_stranger() -> None:
    async with Inbound(source="") as inbound:
        code, output = await run(
            "swaks", "--server", "127.0.0.1", "--port", str(inbound.port),
            "--from", "sender@example.com", "--to", "rcpt@example.net",
        )  # fmt: skip

        assert code == 24, output
        assert "550 5.7.1 Relaying denied" in output


async def test_aiosmtplib_sends_with_tls_login_and_dsn_options(tls: ssl.SSLContext | None) -> None:
    async with Inbound(USERS, source="allow-starttls yes", tls=tls) as inbound:
        client = SMTP(hostname="127.0.0.1", port=inbound.port, start_tls=True, tls_context=client_tls())
        async with client:
            await client.login("app", "s3cret")
            await client.mail("sender@example.com", options=["RET=HDRS", "ENVID=e1", "BODY=8BITMIME"])
            await client.rcpt("rcpt@example.net", options=["NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;o+40x"])
            response = await client.data("Subject: hi\n\n.dot\nlast")

        envelope = inbound.admitted[0]
        assert response.message == f"2.0.0 OK, queued as {envelope.queue_id}"
        assert (envelope.ret, envelope.envelope_id, envelope.is_8bit) == (2, "e1", True)
        assert (envelope.recipients[0].notify, envelope.recipients[0].orcpt) == (6, "rfc822;o@x")
        assert inbound.partition.bodies[0].endswith(b"\r\n\r\n..dot\r\nlast\r\n")
