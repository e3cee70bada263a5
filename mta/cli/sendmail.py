"""`mta-sendmail`: what cron, PHP and mail programs call when they call /usr/sbin/sendmail.

It reads a message on standard input and hands it to the server's SMTP port; the usual flags of sendmail mean
what they mean there, those about queue handling inside sendmail are taken and ignored. Either all recipients
are accepted or nothing is sent, so that the caller may simply try again. Exit codes are those of sysexits(3).

It is started once per message: it loads the standard library only, and the SMTP part after the message.
"""

from __future__ import annotations

import argparse
import os
import selectors
import socket
import sys
from collections.abc import Callable, Sequence
from typing import BinaryIO, NoReturn, TypeVar

from mta.message import headers

__all__ = ["Refused", "main", "prepare", "submit"]

USAGE, NO_USER, UNAVAILABLE, OS_ERROR, TEMPORARY, NO_PERMISSION = 64, 67, 69, 71, 75, 77

#: Where the server listens when neither --server nor $MTA_SERVER says so: the first that answers.
SERVERS = ("127.0.0.1:25", "127.0.0.1:2525")
CONNECT_TIMEOUT = 10.0
REPLY_TIMEOUT = 300.0

Address = tuple[str, int]
Connected = TypeVar("Connected")

_RECIPIENT_FIELDS = (b"to", b"cc", b"bcc")


class Refused(Exception):
    """The message was not taken; `code` is the exit code."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the flags say; returns the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    mode = {"mailq": "p", "newaliases": "i"}.get(os.path.basename(sys.argv[0]), "m")
    options = _parser(mode).parse_intermixed_args(words)
    try:
        return _run(options)
    except Refused as refused:
        print(f"mta-sendmail: {refused}", file=sys.stderr)
        return refused.code
    except KeyboardInterrupt:
        return TEMPORARY


def _run(options: argparse.Namespace) -> int:
    if options.mode == "p":
        from mta.cli.main import main as mta

        return mta(["list"])
    if options.mode == "i":
        return 0  # aliases are part of the server's configuration: there is nothing to rebuild
    if options.mode == "s":
        return _converse(_connect(_servers(options), socket.create_connection))
    if options.mode != "m":
        raise Refused(f"-b{options.mode} is not for this program: see mta --help", USAGE)
    message = _read(sys.stdin.buffer, dot_ends=not (options.ignore_dots or "i" in options.o))
    message, recipients = prepare(
        message, options.recipients, sender=options.sender, full_name=options.full_name, from_header=options.t
    )
    if not recipients:
        raise Refused("no recipients: name them on the command line, or in To, Cc or Bcc with -t", USAGE)
    submit(
        _servers(options),
        _envelope_sender(options.sender),
        recipients,
        message,
        notify=options.notify,
        ret=options.ret,
        envelope_id=options.envelope_id,
    )
    return 0


def prepare(
    message: bytes, recipients: Sequence[str], *, sender: str | None, full_name: str, from_header: bool
) -> tuple[bytes, list[str]]:
    """The message with CRLF line ends and the fields it lacks, and everybody it goes to.

    With `from_header` (-t) the recipients in To, Cc and Bcc are added. Bcc is always taken out. Raises
    Refused for an address or name that holds a line end.
    """
    from email.utils import formataddr, formatdate, getaddresses, make_msgid

    for text in (*recipients, sender or "", full_name):
        if not text.isprintable():
            raise Refused(f"{text!r} holds what can't be sent", USAGE)
    message = _with_crlf(message)
    block = message[: headers.header_end(message)]
    if block and not next(headers.fields(block)).name:
        block, message = b"", b"\r\n" + message  # no header at all
    rest = message[len(block) :]
    found = [_qualified(address) for address in recipients]
    if from_header:
        values = [
            value.decode("utf-8", "surrogateescape")
            for name in _RECIPIENT_FIELDS
            for value in headers.get_all(block, name)
        ]
        found += [_qualified(address) for _, address in getaddresses(values) if address]
    block = headers.remove(block, (b"bcc",))
    missing: list[bytes] = []
    if not headers.has(block, b"from"):
        address = _envelope_sender(sender) or _envelope_sender(None)
        # Internationalised addresses stand as they are (RFC 6532); the library knows the others only.
        author = formataddr((full_name, address)) if address.isascii() else f"<{address}>"
        missing.append(headers.make_field(b"From", author.encode("utf-8", "replace")))
    if not headers.has(block, b"date"):
        missing.append(headers.make_field(b"Date", formatdate(localtime=True).encode()))
    if not headers.has(block, b"message-id"):
        missing.append(headers.make_field(b"Message-ID", make_msgid(domain=socket.gethostname()).encode()))
    if not rest.startswith(b"\r\n"):
        rest = b"\r\n" + rest
    return headers.prepend(block, *missing) + rest, list(dict.fromkeys(found))


def submit(
    servers: Sequence[Address],
    sender: str,
    recipients: Sequence[str],
    message: bytes,
    *,
    notify: str = "",
    ret: str = "",
    envelope_id: str = "",
) -> str:
    """Send by SMTP, to all recipients or to nobody, through the first server that answers.

    Returns the server's last words; raises Refused.
    """
    import smtplib

    try:
        # Its own idea of a host name is to ask the DNS, which may take its time.
        with smtplib.SMTP(local_hostname=socket.gethostname(), timeout=CONNECT_TIMEOUT) as client:
            greeting = _connect(servers, lambda address, _timeout: client.connect(*address))
            if client.sock is not None:
                client.sock.settimeout(REPLY_TIMEOUT)
            _expect("connection", greeting, UNAVAILABLE)
            client.ehlo_or_helo_if_needed()
            mail_options, rcpt_options = _parameters(
                client.has_extn, [sender, *recipients], message, notify, ret, envelope_id
            )
            _expect("sender", client.mail(sender, mail_options), NO_PERMISSION)
            for recipient in recipients:
                _expect(f"<{recipient}>", client.rcpt(recipient, rcpt_options), NO_USER)
            return _expect("message", client.data(message), UNAVAILABLE)
    except smtplib.SMTPDataError as error:
        return _expect("message", (error.smtp_code, _bytes(error.smtp_error)), UNAVAILABLE)
    except smtplib.SMTPResponseException as error:
        return _expect("connection", (error.smtp_code, _bytes(error.smtp_error)), UNAVAILABLE)
    except (OSError, smtplib.SMTPException) as error:
        raise Refused(f"the connection broke: {error}", TEMPORARY) from error
    except ValueError as error:  # a line end, or what has no form in SMTP, in an address or a parameter
        raise Refused(f"can't be sent: {error}", USAGE) from error


def _parameters(
    offers: Callable[[str], bool],
    addresses: Sequence[str],
    message: bytes,
    notify: str,
    ret: str,
    envelope_id: str,
) -> tuple[list[str], list[str]]:
    """The options of MAIL and RCPT that the message needs and the server offers."""
    mail: list[str] = []
    rcpt: list[str] = []
    if not message.isascii() and offers("8bitmime"):
        mail.append("BODY=8BITMIME")
    if not all(address.isascii() for address in addresses):
        if not offers("smtputf8"):
            raise Refused("the server takes no internationalised addresses", UNAVAILABLE)
        mail.append("SMTPUTF8")
    if offers("dsn"):
        if ret:
            mail.append(f"RET={'HDRS' if ret.lower().startswith('h') else 'FULL'}")
        if envelope_id:
            mail.append(f"ENVID={_xtext(envelope_id)}")
        if notify:
            rcpt.append(f"NOTIFY={notify.upper()}")
    return mail, rcpt


def _expect(what: str, reply: tuple[int, bytes], code: int) -> str:
    """The text of a positive reply; raises Refused for any other."""
    number, text = reply[0], reply[1].decode("utf-8", "replace").replace("\n", " ")
    if 200 <= number < 400:
        return text
    raise Refused(f"{what} refused: {number} {text}", TEMPORARY if number < 500 else code)


def _read(stream: BinaryIO, *, dot_ends: bool) -> bytes:
    """Standard input to its end, or to a line with a single dot."""
    if not dot_ends:
        return stream.read()
    lines: list[bytes] = []
    for line in stream:
        if line.rstrip(b"\r\n") == b".":
            break
        lines.append(line)
    return b"".join(lines)


def _with_crlf(message: bytes) -> bytes:
    """Line ends as SMTP demands them, whatever they were."""
    message = message.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
    return message if not message or message.endswith(b"\r\n") else message + b"\r\n"


def _envelope_sender(given: str | None) -> str:
    """-f, or who calls us; "" for the null sender."""
    if given is None:
        import pwd

        try:
            given = pwd.getpwuid(os.getuid()).pw_name
        except KeyError:
            given = str(os.getuid())
    given = given.strip().removeprefix("<").removesuffix(">")
    return _qualified(given) if given else ""


def _qualified(address: str) -> str:
    """An address with a domain: that of this machine where there is none."""
    address = address.strip().removeprefix("<").removesuffix(">")
    return address if "@" in address else f"{address}@{socket.gethostname()}"


def _servers(options: argparse.Namespace) -> list[Address]:
    given = options.server or os.environ.get("MTA_SERVER")
    found = []
    for text in (given,) if given else SERVERS:
        host, colon, port = text.rpartition(":")
        if not colon:
            host, port = text, "25"
        if not port.isdigit():
            raise Refused(f"{text!r} is no HOST:PORT", USAGE)
        found.append((host.strip("[]"), int(port)))
    return found


def _connect(servers: Sequence[Address], connect: Callable[[Address, float], Connected]) -> Connected:
    """What `connect` returns for the first server that answers."""
    reason = ""
    for address in servers:
        try:
            return connect(address, CONNECT_TIMEOUT)
        except OSError as error:
            reason = f"no server at {address[0]}:{address[1]}: {error.strerror or error}"
    raise Refused(reason, TEMPORARY)


def _converse(connection: socket.socket) -> int:
    """-bs: standard input and output become an SMTP session with the server."""
    with connection, selectors.DefaultSelector() as ready:
        connection.settimeout(REPLY_TIMEOUT)
        ready.register(connection, selectors.EVENT_READ)
        ready.register(0, selectors.EVENT_READ)
        while True:
            for key, _ in ready.select():
                if key.fd == 0:
                    data = os.read(0, 65536)
                    if data:
                        connection.sendall(data)
                    else:
                        ready.unregister(0)
                        connection.shutdown(socket.SHUT_WR)
                else:
                    data = connection.recv(65536)
                    if not data:
                        return 0
                    sys.stdout.buffer.write(data)
                    sys.stdout.buffer.flush()


def _xtext(text: str) -> str:
    """RFC 3461 4."""
    return "".join(
        c if "!" <= c <= "~" and c not in "+=" else "".join(f"+{o:02X}" for o in c.encode()) for c in text
    )


def _bytes(text: bytes | str) -> bytes:
    return text if isinstance(text, bytes) else text.encode()


class _Parser(argparse.ArgumentParser):
    """Errors leave with EX_USAGE."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(USAGE, f"mta-sendmail: {message}\n")


def _parser(mode: str) -> argparse.ArgumentParser:
    parser = _Parser(
        prog="mta-sendmail",
        description="Hand a message on standard input to the mail server.",
        add_help=False,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--help", action="help", help="print this and stop")
    add("recipients", nargs="*", metavar="ADDRESS")
    add(
        "--server",
        metavar="HOST:PORT",
        help="where the server listens ($MTA_SERVER, else port 25 of this machine, else 2525)",
    )
    add("-t", action="store_true", help="send to the addresses in To, Cc and Bcc as well")
    add("-f", "-r", dest="sender", metavar="ADDRESS", help="envelope sender; <> for none")
    add("-F", dest="full_name", default="", metavar="NAME", help="name for the From line, when there is none")
    add(
        "-i",
        dest="ignore_dots",
        action="store_true",
        help="a line with a single dot does not end the message",
    )
    add(
        "-b", dest="mode", default=mode, metavar="MODE", help="m send (default), s SMTP session, p list queue"
    )
    add("-N", dest="notify", default="", metavar="WHEN", help="never, or a list of success, failure, delay")
    add("-R", dest="ret", default="", metavar="WHAT", help="what reports return: hdrs or full")
    add("-V", dest="envelope_id", default="", metavar="ID", help="envelope id for reports")
    add("-o", action="append", default=[], metavar="OPTION", help="-oi as -i; the others are ignored")
    for flag in "ABCDLOXdh":
        add(f"-{flag}", action="append", help=argparse.SUPPRESS)
    add("-q", nargs="?", help=argparse.SUPPRESS)
    for flag in "GUmnvx":
        add(f"-{flag}", action="store_true", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
