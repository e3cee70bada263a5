"""`mta send`: a test message through an SMTP port, and what the server said to it.

Uses aiosmtplib as any application would; it knows nothing of the server's inside.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import ssl
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import formatdate, make_msgid
from typing import NamedTuple

import aiosmtplib
import click

from mta.cli.invocation import Exit, common_options, invocation
from mta.errors import LocalProtocolError
from mta.message import headers

__all__ = ["Answer", "Letter", "send"]

FILLER = b"The quick brown fox jumps over the lazy dog; twice a day.\r\n"
REPLY_TIMEOUT = 60.0


class Answer(NamedTuple):
    """What the server said: to one recipient, or ("" as recipient) to the message."""

    recipient: str
    code: int
    text: str


@dataclass(frozen=True, slots=True)
class Letter:
    """The message as the options describe it; each copy has a Message-ID of its own."""

    sender: str
    recipients: Sequence[str]
    subject: str = "Test message"
    body: bytes = b""
    fields: Sequence[tuple[str, str]] = ()
    size: int = 0

    def content(self) -> bytes:
        """The message with CRLF line ends, filled up to `size` octets. Raises LocalProtocolError."""
        given = {name.lower() for name, _ in self.fields}
        usual = (
            ("From", self.sender or "mailer-daemon@localhost"),
            ("To", ", ".join(self.recipients)),
            ("Subject", self.subject),
            ("Date", formatdate(localtime=True)),
            ("Message-ID", make_msgid(domain=self.sender.rpartition("@")[2] or "localhost")),
            ("MIME-Version", "1.0"),
            ("Content-Type", "text/plain; charset=utf-8"),
        )
        every = [*self.fields, *(field for field in usual if field[0].lower() not in given)]
        head = b"".join(headers.make_field(name.encode(), value.encode()) for name, value in every)
        body = self.body.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n") or b"This is a test message.\r\n"
        missing = self.size - len(head) - 2 - len(body)
        if missing > 0:
            lines, rest = divmod(missing, len(FILLER))
            body += FILLER * lines + (b"x" * (rest - 2) + b"\r\n" if rest > 2 else b"")
        return head + b"\r\n" + body


@dataclass(frozen=True, slots=True)
class Server:
    """Where to send, and how to get in."""

    host: str
    port: int
    starttls: bool = False
    user: str = ""
    password: str = ""
    parameters: Sequence[str] = ()  # of MAIL FROM
    rcpt_parameters: Sequence[str] = ()


@click.command()
@click.option("--to", "recipients", multiple=True, required=True, metavar="ADDRESS", help="May be repeated.")
@click.option("--from", "sender", default="test@localhost", show_default=True, help='"" for the null sender.')
@click.option("--server", default="127.0.0.1:2525", show_default=True, metavar="HOST:PORT")
@click.option("--subject", default="Test message", show_default=True)
@click.option("--body", help="Text, or @FILE, or - for standard input.")
@click.option(
    "--header", "fields", multiple=True, metavar="NAME:VALUE", help="A header field; may be repeated."
)
@click.option("--vmta", help="Virtual MTA or pool (x-virtual-mta).")
@click.option("--job", help="Job id (x-job).")
@click.option("--size", default=0, metavar="OCTETS", help="Fill the message up to this size.")
@click.option("--count", default=1, show_default=True, help="Messages to send.")
@click.option("--connections", default=1, show_default=True, help="Connections to use for them.")
@click.option("--starttls", is_flag=True, help="Encrypt; the certificate is not checked.")
@click.option("--user", default="", help="Log in with this name.")
@click.option("--password", default="", envvar="MTA_PASSWORD", help="Or in $MTA_PASSWORD.")
@click.option("--notify", metavar="WHEN", help="DSNs: never, or a list of success, failure, delay.")
@click.option("--ret", type=click.Choice(["full", "hdrs"]), help="What DSNs return.")
@click.option("--envid", help="Envelope id for DSNs.")
@common_options
@click.pass_context
def send(
    context: click.Context,
    recipients: tuple[str, ...],
    sender: str,
    server: str,
    subject: str,
    body: str | None,
    fields: tuple[str, ...],
    vmta: str | None,
    job: str | None,
    size: int,
    count: int,
    connections: int,
    starttls: bool,
    user: str,
    password: str,
    notify: str | None,
    ret: str | None,
    envid: str | None,
) -> int:
    """Send a test message through an SMTP port, and print what the server says.

    Leaves with 0 when every recipient was accepted, 69 when one was refused or no server was there, 75 when
    the server wants it tried again later.
    """
    extra = [_field(text) for text in fields]
    extra += [("X-Virtual-MTA", vmta)] if vmta else []
    extra += [("X-Job", job)] if job else []
    letter = Letter(sender, recipients, subject, _body(body), extra, size)
    host, _, port = server.rpartition(":")
    if not (host and port.isdigit()):
        raise click.BadParameter(f"{server!r} is no HOST:PORT", param_hint="--server")
    way = Server(
        host.strip("[]"),
        int(port),
        starttls,
        user,
        password,
        [*([f"RET={ret.upper()}"] if ret else []), *([f"ENVID={envid}"] if envid else [])],
        [f"NOTIFY={notify.upper()}"] if notify else [],
    )
    answers: list[Answer] = []
    failure = ""
    try:
        answers = asyncio.run(deliver(way, letter, count, max(1, min(connections, count))))
    except* (aiosmtplib.SMTPException, OSError) as group:
        failure = _in_words(group.exceptions[0], way)
    except* LocalProtocolError as group:
        raise click.UsageError(str(group.exceptions[0])) from None
    return _report(context, answers, failure, count)


def _in_words(error: BaseException, server: Server) -> str:
    """What went wrong, without the furniture of the library."""
    if isinstance(error, aiosmtplib.SMTPResponseException):
        return f"{error.code} {error.message}"
    cause = error.__cause__
    if isinstance(error, aiosmtplib.SMTPConnectError) and isinstance(cause, OSError) and cause.errno:
        return f"{server.host} port {server.port}: {os.strerror(cause.errno)}"
    return str(error) or type(error).__name__


async def deliver(server: Server, letter: Letter, count: int, connections: int) -> list[Answer]:
    """Send `count` copies over so many connections; raises an ExceptionGroup when one breaks."""
    answers: list[Answer] = []
    numbers = itertools.repeat(None, count)
    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(_session(server, letter, numbers, answers))
    return answers


async def _session(server: Server, letter: Letter, numbers: Iterator[None], answers: list[Answer]) -> None:
    async with _connected(server) as client:
        for _ in numbers:
            answers += await _transaction(client, server, letter)


async def _transaction(client: aiosmtplib.SMTP, server: Server, letter: Letter) -> list[Answer]:
    """One message; a refusal of all recipients or of the content ends it, not the session."""
    content = letter.content()
    parameters = [*server.parameters]
    if not content.isascii() and client.supports_extension("8bitmime"):
        parameters.append("BODY=8BITMIME")
    encoding = "ascii"
    if not all(address.isascii() for address in (letter.sender, *letter.recipients)):
        parameters.append("SMTPUTF8")
        encoding = "utf-8"
    answers: list[Answer] = []
    try:
        await client.mail(letter.sender, options=parameters, encoding=encoding)
        accepted = 0
        for recipient in letter.recipients:
            try:
                await client.rcpt(recipient, options=server.rcpt_parameters, encoding=encoding)
                accepted += 1
            except aiosmtplib.SMTPResponseException as error:
                answers.append(Answer(recipient, error.code, error.message))
        if accepted:
            reply = await client.data(content)
            answers.append(Answer("", reply.code, reply.message))
        else:
            await client.rset()
    except aiosmtplib.SMTPResponseException as error:
        answers.append(Answer("", error.code, error.message))
        if client.is_connected:
            await client.rset()
    return answers


@asynccontextmanager
async def _connected(server: Server) -> AsyncIterator[aiosmtplib.SMTP]:
    client = aiosmtplib.SMTP(
        hostname=server.host,
        port=server.port,
        start_tls=False,
        timeout=REPLY_TIMEOUT,
        tls_context=_trusting(),
    )
    await client.connect()
    try:
        if server.starttls:
            await client.starttls()
        if server.user:
            await client.login(server.user, server.password)
        await client.ehlo()
        yield client
    finally:
        if client.is_connected:
            try:
                await client.quit()
            except aiosmtplib.SMTPException:
                client.close()


def _trusting() -> ssl.SSLContext:
    """A test of our own server must not fail for its certificate."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _report(context: click.Context, answers: Sequence[Answer], failure: str, count: int) -> int:
    """Print the answers; returns the exit code."""
    out = invocation(context).output
    refused = [answer for answer in answers if answer.code >= 400]
    accepted = sum(1 for answer in answers if not answer.recipient and answer.code < 400)
    if out.as_json:
        data = {"accepted": accepted, "answers": [answer._asdict() for answer in answers], "error": failure}
        out.json(data, is_success=not refused and not failure, message=failure)
    elif count == 1:
        for answer in answers:
            whom = f"<{answer.recipient}>: " if answer.recipient else ""
            click.echo(f"{whom}{answer.code} {answer.text}")
    else:
        for (code, text), number in sorted(_counted(refused).items()):
            click.echo(f"{number} x {code} {text}")
        click.echo(f"{accepted} of {count} messages accepted")
    if failure and not out.as_json:
        click.echo(f"mta: {failure}", err=True)
    if failure or any(answer.code >= 500 for answer in refused):
        return Exit.UNAVAILABLE
    return Exit.TEMPORARY if refused else 0


def _counted(answers: Sequence[Answer]) -> dict[tuple[int, str], int]:
    found: dict[tuple[int, str], int] = {}
    for answer in answers:
        found[answer.code, answer.text] = found.get((answer.code, answer.text), 0) + 1
    return found


def _field(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not (colon and name.strip()):
        raise click.BadParameter(f"{text!r} is no NAME:VALUE", param_hint="--header")
    return name.strip(), value.strip()


def _body(text: str | None) -> bytes:
    if text is None:
        return b""
    if text == "-":
        return sys.stdin.buffer.read()
    if not text.startswith("@"):
        return text.encode() + b"\n"
    try:
        with open(text[1:], "rb") as file:
            return file.read()
    except OSError as error:
        raise click.BadParameter(f"can't read {text[1:]}: {error.strerror}", param_hint="--body") from error
