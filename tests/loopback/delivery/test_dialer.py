"""From targets to a connection: order, memory, source address, greetings, login, phases."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from mta.clock import SystemClock
from mta.delivery.connection import Connection, DialFailure
from mta.delivery.dialer import Dialer
from mta.delivery.policy import DeliveryPolicy
from mta.delivery.tls import TlsPolicy
from mta.routing.router import Target
from tests.support.certificates import make_certificate, server_context
from tests.support.delivery_rig import PATIENT, policy_of
from tests.support.scripted_server import CLOSE, HANG, Script, ScriptedServer

pytestmark = pytest.mark.both_loops

IN_CLEAR = replace(PATIENT, tls=TlsPolicy(use=False))


def target(server: ScriptedServer | int, host: str = "mx.example.net", preference: int = 0) -> Target:
    port = server if isinstance(server, int) else server.port
    return Target(host, "127.0.0.1", port, preference)


@contextmanager
def connected(connection: Connection) -> Iterator[Connection]:
    try:
        yield connection
    finally:
        connection.transport.abort()


def dial_all(
    dialer: Dialer, *targets: Target, policy: DeliveryPolicy = IN_CLEAR, source_ip: str = "127.0.0.1"
) -> asyncio.Task[Connection]:
    return asyncio.get_running_loop().create_task(
        dialer.dial(targets, source_ip=source_ip, host_name="out.example.com", policy=policy)
    )


@pytest.fixture
def dialer() -> Dialer:
    return Dialer(clock=SystemClock())


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port on which nobody listens: it stays bound, so that nobody else gets it."""
    with closing(socket.socket()) as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


async def test_a_connection_knows_what_there_is_to_record(dialer: Dialer) -> None:
    async with ScriptedServer() as server:
        with connected(await dial_all(dialer, target(server), source_ip="127.0.0.9")) as connection:
            assert connection.mta_name == "mx.example.net (127.0.0.1)"
            assert connection.source_ip == "127.0.0.9"
            assert connection.extensions.pipelining
            assert connection.facts().esmtp == "PIPELINING,8BITMIME,DSN"
            assert (connection.tls_protocol, connection.tls_cipher) == ("", "")
            assert repr(connection) == (
                f"<Connection to mx.example.net (127.0.0.1) port {server.port} from 127.0.0.9>"
            )

    assert server.commands == ["EHLO out.example.com"]


async def test_without_a_source_address_the_system_chooses_and_it_is_recorded(dialer: Dialer) -> None:
    async with ScriptedServer() as server:
        with connected(await dial_all(dialer, target(server), source_ip="")) as connection:
            assert connection.source_ip == "127.0.0.1"


async def test_a_source_address_that_is_not_ours_fails_without_reaching_anybody(dialer: Dialer) -> None:
    async with ScriptedServer() as server:
        with pytest.raises(DialFailure) as failure:
            await dial_all(dialer, target(server), source_ip="192.0.2.77")

    assert failure.value.reply.enhanced == "4.4.1"
    assert server.connections == 0


async def test_offers_that_are_to_be_ignored_are_not_used(dialer: Dialer) -> None:
    policy = replace(IN_CLEAR, ignore_pipelining=True, ignore_8bitmime=True, ignore_dsn=True)
    async with ScriptedServer() as server:
        connection = await dial_all(dialer, target(server), policy=policy)
        connection.transport.abort()
        extensions = connection.extensions

    assert not any([extensions.pipelining, extensions.eightbitmime, extensions.dsn])
    assert extensions.offered == "PIPELINING,8BITMIME,DSN"


async def test_the_next_host_is_tried_when_the_first_gives_nothing(dialer: Dialer, closed_port: int) -> None:
    async with ScriptedServer(Script(banner="421 busy")) as busy, ScriptedServer() as good:
        found = await dial_all(dialer, target(closed_port), target(busy), target(good, "mx3.example.net"))
        with connected(found) as connection:
            assert connection.host == "mx3.example.net"

        # The two that failed stand behind the one that worked for a while.
        with connected(await dial_all(dialer, target(busy), target(good))) as connection:
            assert connection.port == good.port

    assert busy.connections == 1


async def test_no_more_hosts_are_tried_than_allowed(dialer: Dialer, closed_port: int) -> None:
    policy = replace(IN_CLEAR, mx_connection_attempts=2)
    async with ScriptedServer() as good:
        with pytest.raises(DialFailure):
            await dial_all(dialer, *[target(closed_port)] * 2, target(good), policy=policy)

    assert good.connections == 0


async def test_only_if_every_host_refuses_for_good_is_it_a_refusal(dialer: Dialer, closed_port: int) -> None:
    blocked, no = Script(banner="554 5.7.1 blocked"), Script(banner="550 5.7.1 no")
    async with ScriptedServer(blocked) as first, ScriptedServer(no) as second:
        with pytest.raises(DialFailure) as both:
            await dial_all(dialer, target(first), target(second))
        with pytest.raises(DialFailure) as one:
            await dial_all(dialer, target(closed_port), target(second))

    assert both.value.is_refusal
    assert str(both.value) == "550 5.7.1 no"
    assert not one.value.is_refusal


async def test_an_avoided_host_is_left_alone_even_if_there_is_no_other(dialer: Dialer) -> None:
    async with ScriptedServer() as server:
        dialer.avoid(target(server))

        with pytest.raises(DialFailure, match="every host wants us elsewhere"):
            await dial_all(dialer, target(server))

    assert server.connections == 0


async def test_addresses_of_the_other_family_are_passed_over(dialer: Dialer) -> None:
    async with ScriptedServer() as server:
        six = Target("mx.example.net", "2001:db8::1", server.port, 0)
        with connected(await dial_all(dialer, six, target(server))) as connection:
            assert connection.ip == "127.0.0.1"
        with pytest.raises(DialFailure, match="no address"):
            await dial_all(dialer, source_ip="127.0.0.1")


@pytest.mark.directive("domain connect-timeout")
async def test_a_connection_that_nobody_accepts_is_given_up_in_time(dialer: Dialer) -> None:
    with closing(socket.socket()) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(0)
        port = sock.getsockname()[1]
        with closing(socket.socket()) as first, closing(socket.socket()) as second:
            for filler in (first, second):
                filler.setblocking(False)
                filler.connect_ex(("127.0.0.1", port))

            with pytest.raises(DialFailure) as failure:
                await dial_all(dialer, target(port), policy=policy_of("connect-timeout 1s"))

    assert failure.value.reply.enhanced == "4.4.1"
    assert failure.value.facts.mta_name == "mx.example.net (127.0.0.1)"


@pytest.mark.parametrize("point", ["banner", "EHLO"])
async def test_a_cancelled_attempt_leaves_nothing_open(dialer: Dialer, point: str) -> None:
    async with ScriptedServer(Script(**{point: HANG})) as server:
        task = dial_all(dialer, target(server))
        while not server.open or (point == "EHLO" and not server.commands):
            await asyncio.wait([task], timeout=0.005)
        task.cancel()
        await asyncio.wait([task])

        while server.open:
            await asyncio.wait([asyncio.get_running_loop().create_future()], timeout=0.005)

    assert task.cancelled()


async def test_bytes_that_follow_the_last_answer_end_the_connection(dialer: Dialer) -> None:
    async with ScriptedServer(Script(EHLO="250 x\r\n250 injected")) as server:
        with pytest.raises(DialFailure):
            await dial_all(dialer, target(server))


# -- login -------------------------------------------------------------------------------------------------

LOGIN = replace(IN_CLEAR, auth_username="user", auth_password="secret")


async def test_a_password_is_not_sent_in_the_clear(dialer: Dialer) -> None:
    async with ScriptedServer(Script(offers=("AUTH PLAIN LOGIN",))) as server:
        with pytest.raises(DialFailure) as failure:
            await dial_all(dialer, target(server), policy=LOGIN)

    assert failure.value.reply.enhanced == "4.7.4"
    assert server.commands == ["EHLO out.example.com"]


async def test_it_may_be_sent_in_the_clear_by_order(dialer: Dialer) -> None:
    policy = replace(LOGIN, use_unencrypted_plain_auth=True)
    async with ScriptedServer(Script(offers=("AUTH PLAIN",))) as server:
        with connected(await dial_all(dialer, target(server), policy=policy)):
            pass

    assert server.commands[1].startswith("AUTH PLAIN ")


async def test_inside_tls_a_password_may_travel(dialer: Dialer, tmp_path: Path) -> None:
    policy = replace(LOGIN, tls=TlsPolicy())
    script = Script(offers=("STARTTLS", "AUTH PLAIN"))
    async with ScriptedServer(script, tls=server_context(make_certificate(tmp_path))) as server:
        with connected(await dial_all(dialer, target(server), policy=policy)) as connection:
            assert connection.tls_protocol == "TLSv1.3"
            assert connection.tls_cipher.startswith("TLS_")
            assert "TLSv1.3" in repr(connection)

    verbs = [command.split(" ")[0] for command in server.commands]
    assert verbs == ["EHLO", "STARTTLS", "EHLO", "AUTH"]


async def test_cram_md5_needs_no_tls(dialer: Dialer) -> None:
    challenge = "334 PDE4OTYuNjk3MTcwOTUyQHBvc3RvZmZpY2UucmVzdG9uLm1jaS5uZXQ+"
    script = Script(offers=("AUTH CRAM-MD5 PLAIN",), AUTH=challenge, answer="235 2.7.0 in")
    async with ScriptedServer(script) as server:
        with connected(await dial_all(dialer, target(server), policy=LOGIN)):
            pass

    assert server.commands[1] == "AUTH CRAM-MD5"


@pytest.mark.parametrize("answer", ["535 5.7.8 wrong", "454 4.7.0 later", ("421 bye", CLOSE), CLOSE])
async def test_a_login_that_fails_is_trouble_of_the_queue_not_of_the_mail(
    dialer: Dialer, answer: object
) -> None:
    policy = replace(LOGIN, use_unencrypted_plain_auth=True)
    async with ScriptedServer(Script(offers=("AUTH PLAIN",), AUTH=answer)) as server:
        with pytest.raises(DialFailure) as failure:
            await dial_all(dialer, target(server), policy=policy)

    assert not failure.value.is_refusal


async def test_unusable_tls_settings_cost_the_encryption_or_where_required_the_connection(
    dialer: Dialer, tmp_path: Path
) -> None:
    broken = tmp_path / "ca.pem"
    broken.write_text("no certificate")
    async with ScriptedServer(Script(offers=("STARTTLS",))) as server:
        wanted = replace(PATIENT, tls=TlsPolicy(ca_file=str(broken)))
        with connected(await dial_all(dialer, target(server), policy=wanted)) as connection:
            assert connection.tls_protocol == ""
        with pytest.raises(DialFailure) as failure:
            await dial_all(
                dialer, target(server), policy=replace(wanted, tls=replace(wanted.tls, require=True))
            )

    assert failure.value.reply.enhanced == "4.3.5"
    assert "STARTTLS" not in server.commands


async def test_its_status_line_counts(dialer: Dialer, closed_port: int) -> None:
    with pytest.raises(DialFailure):
        await dial_all(dialer, target(closed_port))

    assert repr(dialer) == "<Dialer 1 attempts, 1 failed>"
