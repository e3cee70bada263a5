"""TLS and logins over real sockets: nothing said in clear counts inside, nobody guesses passwords."""

from __future__ import annotations

import base64
import socket
import ssl
from pathlib import Path

import pytest

from mta.config.load import load_text
from mta.errors import ConfigError
from mta.ingress.listener import server_tls
from tests.support.certificate import client_tls, write_certificate
from tests.support.inbound import Caller, Inbound

pytestmark = pytest.mark.both_loops

MESSAGE = b"Subject: hello\r\n\r\nText.\r\n"
USERS = """
<smtp-user app>
    password s3cret
    source {app}
</smtp-user>
<source {app}>
    always-allow-relaying yes
</source>
"""
LOGIN_SOURCE = "allow-starttls yes\nrequire-auth yes"
PLAIN = "allow-unencrypted-plain-auth yes"


@pytest.fixture
def tls(tmp_path: Path) -> ssl.SSLContext:
    loaded = load_text(f'smtp-server-tls-certificate "{write_certificate(tmp_path)}"')
    assert loaded.snapshot is not None
    context = server_tls(loaded.snapshot)
    assert context is not None
    return context


def blob(*parts: str) -> str:
    return base64.b64encode("\0".join(parts).encode()).decode()


async def upgrade(caller: Caller) -> None:
    """STARTTLS as a decent client does it."""
    assert (await caller.ask("STARTTLS")).startswith("220 2.0.0")
    await caller.writer.start_tls(client_tls())


async def test_starttls_carries_mail_and_says_so_in_received(tls: ssl.SSLContext) -> None:
    async with Inbound(source="always-allow-relaying yes\nallow-starttls yes", tls=tls) as inbound:
        async with inbound.caller() as caller:
            assert "STARTTLS" in await caller.hello()
            await upgrade(caller)
            assert "STARTTLS" not in await caller.hello()
            await caller.envelope()
            assert (await caller.content(MESSAGE)).startswith("250 2.0.0")
            assert await caller.ask("STARTTLS") == "503 5.5.1 TLS is active already"
            assert (await caller.ask("QUIT")).startswith("221")
            assert await caller.is_closed()

        assert b" with ESMTPS id " in inbound.partition.bodies[0]


async def test_large_message_inside_tls_arrives_whole(tls: ssl.SSLContext) -> None:
    content = b"A: b\r\n\r\n" + (b"x" * 76 + b"\r\n") * 20_000
    async with Inbound(source="always-allow-relaying yes\nallow-starttls yes", tls=tls) as inbound:
        async with inbound.caller() as caller:
            await caller.hello()
            await upgrade(caller)
            await caller.envelope()
            assert (await caller.content(content)).startswith("250 2.0.0")

        assert inbound.partition.bodies[0].endswith(content)
        assert inbound.reception.receiving == 0


async def test_everything_said_before_tls_is_forgotten(tls: ssl.SSLContext) -> None:
    source = "always-allow-relaying yes\nallow-starttls yes"
    async with Inbound(source=source, tls=tls) as inbound, inbound.caller() as caller:
        await caller.envelope()
        await upgrade(caller)

        codes = await caller.codes("RCPT TO:<a@b.example>", "MAIL FROM:<a@b.example>")
        assert codes == ["503 5.5.1", "503 5.5.1"]


@pytest.mark.parametrize(
    "injected", [b"RSET\r\n", b"N", b"\x16\x03\x01", b"MAIL FROM:<a@b.example>\r\nQUIT\r\n"]
)
async def test_commands_sent_in_clear_behind_starttls_end_the_connection(
    tls: ssl.SSLContext, injected: bytes
) -> None:
    async with Inbound(source="allow-starttls yes", tls=tls) as inbound, inbound.caller() as caller:
        await caller.hello()
        caller.send(b"STARTTLS\r\n" + injected)

        assert (await caller.reply()).startswith("421 4.7.0")
        assert await caller.is_closed()


async def test_clear_text_in_place_of_a_handshake_ends_the_connection(tls: ssl.SSLContext) -> None:
    async with Inbound(source="allow-starttls yes", tls=tls) as inbound:
        async with inbound.caller() as caller:
            await caller.hello()
            assert (await caller.ask("STARTTLS")).startswith("220")
            caller.send(b"EHLO again\r\nMAIL FROM:<a@b.example>\r\n")
            assert b"250" not in await caller.reader.read(1000)
        await inbound.reception.empty.wait()


async def test_clear_text_after_the_end_of_tls_is_never_a_command(tls: ssl.SSLContext) -> None:
    """A TLS session that ends in the middle of BDAT must not leave its connection open (CVE-2026-45185)."""
    async with Inbound(source="always-allow-relaying yes\nallow-starttls yes", tls=tls) as inbound:
        async with inbound.caller() as caller:
            await caller.hello()
            await upgrade(caller)
            await caller.envelope()
            assert (await caller.ask("BDAT 4\r\nA: ")).startswith("250")
            caller.send(b"BDAT 100 LAST\r\nA: b\r\n")
            await caller.flush()
            caller.writer.write_eof() if caller.writer.can_write_eof() else caller.writer.close()
        await inbound.reception.empty.wait()

        assert inbound.partition.stored == []
        assert inbound.reception.receiving == 0


async def test_client_that_vanishes_in_the_handshake_frees_its_slot(tls: ssl.SSLContext) -> None:
    async with Inbound(source="allow-starttls yes", tls=tls) as inbound:
        async with inbound.caller() as caller:
            await caller.hello()
            assert (await caller.ask("STARTTLS")).startswith("220")
            caller.reset()
        await inbound.reception.empty.wait()

        assert inbound.reception.guests == set()


async def test_tls_from_the_first_byte(tls: ssl.SSLContext) -> None:
    async with (
        Inbound(source="allow-starttls yes", tls=tls, is_immediate_tls=True) as inbound,
        inbound.caller(tls=client_tls()) as caller,
    ):
        assert caller.greeting.startswith("220 ")
        assert "STARTTLS" not in await caller.hello()
        assert (await caller.ask("QUIT")).startswith("221")


async def test_login_plain_in_all_its_forms(tls: ssl.SSLContext) -> None:
    credentials = blob("", "app", "s3cret")
    for commands in ([f"AUTH PLAIN {credentials}"], ["auth plain", credentials]):
        async with Inbound(USERS, source=LOGIN_SOURCE, tls=tls) as inbound, inbound.caller() as caller:
            await caller.hello()
            await upgrade(caller)
            assert "AUTH LOGIN PLAIN" in await caller.hello()
            assert await caller.codes("MAIL FROM:<a@b.example>") == ["530 5.7.0"]
            assert (await caller.ask(*commands)).startswith("235 2.7.0")
            await caller.envelope()
            await caller.content(MESSAGE)

            assert inbound.partition.envelopes[0].source_user == "app"
            assert b" with ESMTPSA id " in inbound.partition.bodies[0]
            assert await caller.codes(f"AUTH PLAIN {credentials}") == ["503 5.5.1"]


async def test_login_login_is_prompted() -> None:
    async with Inbound(USERS, source=PLAIN) as inbound, inbound.caller() as caller:
        await caller.hello()

        assert await caller.ask("AUTH LOGIN") == "334 " + base64.b64encode(b"Username:").decode()
        assert await caller.ask(blob("app")) == "334 " + base64.b64encode(b"Password:").decode()
        assert await caller.ask(blob("s3cret")) == "235 2.7.0 Authentication successful"
        await caller.envelope()


async def test_login_gives_the_rights_of_its_source_and_no_others() -> None:
    async with Inbound(USERS, source=PLAIN) as inbound, inbound.caller() as caller:
        await caller.hello()
        assert await caller.codes("MAIL FROM:<a@b.example>", "RCPT TO:<c@d.example>", "RSET") == [
            "250 2.1.0",
            "550 5.7.1",
            "250 2.0.0",
        ]
        await caller.ask("AUTH PLAIN " + blob("", "app", "s3cret"))

        assert await caller.codes("MAIL FROM:<a@b.example>", "RCPT TO:<c@d.example>") == [
            "250 2.1.0",
            "250 2.1.5",
        ]


async def test_login_without_a_source_of_its_own_keeps_the_listeners() -> None:
    users = (
        "<smtp-user app>\npassword s3cret\n</smtp-user>\n<source named>\nalways-allow-relaying yes\n</source>"
    )
    async with Inbound(users, source=PLAIN, source_name="named") as inbound, inbound.caller() as caller:
        await caller.hello()
        await caller.ask("AUTH PLAIN " + blob("", "app", "s3cret"))

        assert await caller.codes("MAIL FROM:<a@b.example>", "RCPT TO:<c@d.example>") == [
            "250 2.1.0",
            "250 2.1.5",
        ]


async def test_pipelined_login_is_understood() -> None:
    async with Inbound(USERS, source=PLAIN) as inbound, inbound.caller() as caller:
        caller.send(
            b"EHLO x\r\nAUTH LOGIN\r\n"
            + blob("app").encode()
            + b"\r\n"
            + blob("s3cret").encode()
            + b"\r\nNOOP\r\n"
        )

        assert [reply[:3] for reply in await caller.replies(5)] == ["250", "334", "334", "235", "250"]


async def test_no_login_in_clear_unless_allowed(tls: ssl.SSLContext) -> None:
    async with Inbound(USERS, source="allow-starttls yes", tls=tls) as inbound, inbound.caller() as caller:
        assert "AUTH" not in (await caller.hello()).replace("STARTTLS", "")
        assert (await caller.ask("AUTH PLAIN " + blob("", "app", "s3cret"))).startswith("538 5.7.11")


async def test_no_users_no_auth() -> None:
    async with Inbound(source=PLAIN) as inbound, inbound.caller() as caller:
        assert "AUTH" not in await caller.hello()
        assert await caller.codes("AUTH PLAIN", "AUTH LOGIN") == ["502 5.5.1", "502 5.5.1"]


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        (["AUTH CRAM-MD5"], "504 5.5.4"),
        (["AUTH"], "504 5.5.4"),
        (["AUTH PLAIN a b"], "501 5.5.4"),
        (["AUTH PLAIN ="], "501 5.5.2"),
        (["AUTH PLAIN !!!!"], "501 5.5.2"),
        (["AUTH PLAIN " + blob("app", "s3cret")], "501 5.5.2"),
        (["AUTH PLAIN " + blob("", "", "")], "535 5.7.8"),
        (["AUTH PLAIN " + blob("", "app", "wrong")], "535 5.7.8"),
        (["AUTH PLAIN " + blob("", "nobody", "s3cret")], "535 5.7.8"),
        (["AUTH PLAIN " + blob("", "app", "s3cret", "x")], "501 5.5.2"),
        (["AUTH PLAIN", "*"], "501 5.7.0"),
        (["AUTH PLAIN", ""], "501 5.5.2"),
        (["AUTH PLAIN", "\x00\x01"], "501 5.5.2"),
        (["AUTH LOGIN", "*"], "501 5.7.0"),
        (["AUTH LOGIN", blob("app"), "="], "501 5.5.2"),
        (["AUTH LOGIN", blob("a\x00b"), blob("x")], "535 5.7.8"),
        (["AUTH LOGIN", "\u00e5", ""], "501 5.5.2"),
        (["AUTH PL\u00c4IN"], "504 5.5.4"),
        (["AUTH PLAIN \u00e5"], "501 5.5.4"),
    ],
)
async def test_bad_login_gets_a_code_and_the_conversation_goes_on(lines: list[str], code: str) -> None:
    async with Inbound(USERS, source=PLAIN) as inbound, inbound.caller() as caller:
        await caller.hello()
        replies = await caller.codes(*lines[: 3 if "LOGIN" in lines[0] and len(lines) == 3 else 2])

        assert code in replies
        assert (await caller.ask("RSET")).startswith("250")


async def test_huge_login_line_is_refused_and_does_not_grow_memory() -> None:
    async with Inbound(USERS, source=PLAIN) as inbound, inbound.caller() as caller:
        await caller.hello()
        await caller.ask("AUTH PLAIN")
        assert (await caller.ask(b"A" * 12_500)).startswith("500 5.5.2")
        caller.send(b"A" * 1_000_000)

        assert (await caller.reply()).startswith("421 4.7.0")
        assert await caller.is_closed()


async def test_three_wrong_guesses_end_the_connection() -> None:
    async with Inbound(USERS, source=PLAIN) as inbound, inbound.caller() as caller:
        await caller.hello()
        guess = "AUTH PLAIN " + blob("", "app", "guess")

        assert await caller.codes(guess, guess, guess) == ["535 5.7.8"] * 3
        assert (await caller.reply()).startswith("421 4.7.0")
        assert await caller.is_closed()


async def test_guessing_address_is_locked_out_even_with_the_right_password() -> None:
    source = PLAIN + "\nrequire-auth yes\nsmtp-max-auth-failure-rate 2/h"
    async with Inbound(USERS, source=source) as inbound:
        async with inbound.caller() as caller:
            await caller.hello()
            guess = "AUTH PLAIN " + blob("", "app", "guess")
            assert await caller.codes(guess, guess) == ["535 5.7.8"] * 2
            assert (await caller.reply()).startswith("421 4.7.0")
        async with inbound.caller() as caller:
            await caller.hello()

            assert (await caller.ask("AUTH PLAIN " + blob("", "app", "s3cret"))).startswith("421 4.7.0")


async def test_unknown_user_and_wrong_password_get_the_same_answer() -> None:
    async with Inbound(USERS, source=PLAIN) as inbound, inbound.caller() as caller:
        await caller.hello()

        assert await caller.ask("AUTH PLAIN " + blob("", "app", "x")) == await caller.ask(
            "AUTH PLAIN " + blob("", "nobody", "x")
        )


async def test_password_is_in_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    async with Inbound(USERS, source=PLAIN + "\nlog-commands yes") as inbound, inbound.caller() as caller:
        await caller.hello()
        await caller.ask("AUTH PLAIN " + blob("", "app", "wrong-s3cret"))
        await caller.ask("AUTH LOGIN", blob("app"), blob("s3cret"))

    assert "command=b'EHLO client.test'" in caplog.text
    for secret in ("s3cret", blob("s3cret"), blob("", "app", "wrong-s3cret")):
        assert secret not in caplog.text


async def test_a_failed_login_is_logged_with_its_name_when_somebody_has_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    async with Inbound(USERS, source=PLAIN) as inbound, inbound.caller() as caller:
        await caller.hello()
        await caller.ask("AUTH PLAIN " + blob("", "app", "wrong"))
        assert "client=127.0.0.1 user='app' login failed" in caplog.text
        caplog.clear()

        # Many type their password where the name should be.
        await caller.ask("AUTH PLAIN " + blob("", "hunter2", "wrong"))
        assert "client=127.0.0.1 user=unknown login failed" in caplog.text
        assert "hunter2" not in caplog.text
        caplog.clear()

        await caller.ask("AUTH LOGIN", "*")
        assert "user='app'" not in caplog.text


def test_certificate_that_cannot_be_used_is_a_configuration_error(tmp_path: Path) -> None:
    for text in (
        f"smtp-server-tls-certificate {tmp_path}/none.pem",
        f'smtp-server-tls-certificate "{tmp_path}"',
    ):
        loaded = load_text(text)
        if loaded.snapshot is not None:
            with pytest.raises(ConfigError, match="smtp-server-tls-certificate"):
                server_tls(loaded.snapshot)


def test_protected_key_needs_its_password(tmp_path: Path) -> None:
    path = write_certificate(tmp_path, password="open")
    for words, is_usable in ((f"{path} open", True), (f"{path} shut", False), (f"{path}", False)):
        loaded = load_text(f"smtp-server-tls-certificate {words}")
        assert loaded.snapshot is not None
        if is_usable:
            assert server_tls(loaded.snapshot) is not None
        else:
            with pytest.raises(ConfigError):
                server_tls(loaded.snapshot)


@pytest.mark.parametrize(
    ("text", "lowest", "highest"),
    [
        ("", "TLSv1_2", "TLSv1_3"),
        ("smtp-server-tls-allow-tlsv1.2 no", "TLSv1_3", "TLSv1_3"),
        ("smtp-server-tls-allow-tlsv1.3 no", "TLSv1_2", "TLSv1_2"),
        ("smtp-server-tls-allow-tlsv1 yes", "TLSv1_2", "TLSv1_3"),
    ],
)
def test_protocols_are_those_allowed(text: str, lowest: str, highest: str, tmp_path: Path) -> None:
    loaded = load_text(f"smtp-server-tls-certificate {write_certificate(tmp_path)}\n{text}")
    assert loaded.snapshot is not None
    context = server_tls(loaded.snapshot)
    assert context is not None

    assert (context.minimum_version.name, context.maximum_version.name) == (lowest, highest)


@pytest.mark.parametrize(
    "text",
    [
        "smtp-server-tls-allow-tlsv1.2 no\nsmtp-server-tls-allow-tlsv1.3 no",
        "smtp-server-tls-ciphers NOSUCHCIPHER",
    ],
)
def test_impossible_tls_settings_are_configuration_errors(text: str, tmp_path: Path) -> None:
    loaded = load_text(f"smtp-server-tls-certificate {write_certificate(tmp_path)}\n{text}")
    assert loaded.snapshot is not None

    with pytest.raises(ConfigError, match="smtp-server-tls"):
        server_tls(loaded.snapshot)


def test_listener_may_have_a_certificate_and_ciphers_of_its_own(tmp_path: Path) -> None:
    path = write_certificate(tmp_path)
    text = (
        f"<smtp-listener 127.0.0.1:2525>\ntls-certificate {path}\ntls-ciphers ECDHE+AESGCM\n</smtp-listener>"
    )
    loaded = load_text(text)
    assert loaded.snapshot is not None

    context = server_tls(loaded.snapshot, loaded.snapshot.listeners[0])

    assert context is not None
    assert all("GCM" in cipher["name"] for cipher in context.get_ciphers() if cipher["protocol"] != "TLSv1.3")
    assert server_tls(loaded.snapshot) is None


def test_no_certificate_no_tls() -> None:
    loaded = load_text("")
    assert loaded.snapshot is not None

    assert server_tls(loaded.snapshot) is None


async def test_listeners_of_a_configuration_have_their_sources(tmp_path: Path) -> None:
    text = "smtp-listener 127.0.0.1:2526 source=closed\n<source closed>\nsmtp-service no\n</source>"
    async with Inbound(text) as inbound:
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        await inbound.listener.start(inbound.snapshot, [sock])

        async with Caller(sock.getsockname()[1]) as caller:
            assert caller.greeting.startswith("554 5.7.1")
        async with inbound.caller() as caller:
            assert caller.greeting.startswith("220")


async def test_renewed_certificate_is_shown_after_a_reload(tmp_path: Path) -> None:
    path = write_certificate(tmp_path)
    text = f"smtp-listener 127.0.0.1:2525\nsmtp-server-tls-certificate {path}"
    async with Inbound(text, source="allow-starttls yes") as inbound:
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        await inbound.listener.start(inbound.snapshot, [sock])

        async def shown() -> bytes:
            async with Caller(sock.getsockname()[1]) as caller:
                await caller.hello()
                await upgrade(caller)
                certificate = caller.writer.get_extra_info("ssl_object").getpeercert(True)
                return bytes(certificate)

        before = await shown()
        write_certificate(tmp_path)
        assert await shown() == before
        inbound.listener.reload(inbound.snapshot)
        assert await shown() != before

        path.write_text("broken")
        with pytest.raises(ConfigError):
            inbound.listener.reload(inbound.snapshot)
        assert (await shown())[:1] == b"0"


async def test_immediate_tls_without_a_certificate_is_a_configuration_error() -> None:
    text = "<smtp-listener 127.0.0.1:2525>\nimmediate-tls yes\n</smtp-listener>"
    async with Inbound(text) as inbound:
        with socket.socket() as sock, pytest.raises(ConfigError, match="immediate-tls"):
            await inbound.listener.start(inbound.snapshot, [sock])
