"""The mock receiver: an SMTP server that takes mail, counts it, and answers as it is told.

It stands in for other people's mail servers in tests, benchmarks and the demonstration, and must never be
the slowest part of them: one protocol object a connection, no task, no future, the replies to one read
written at once, bodies only kept when somebody wants them. It checks next to nothing (the order of commands
and no more) and stores no mail.
"""

from __future__ import annotations

import asyncio
import ssl

from mta.sink.certificate import server_context
from mta.sink.counters import ClientTotals, Delivery, Totals
from mta.sink.dialogue import Dialogue
from mta.sink.options import ReceiverOptions, Tls, hello_replies
from mta.sink.script import Action, Rule, Stage

__all__ = ["Receiver", "ReceiverOptions", "Tls"]

END_OF_DATA = b"\r\n.\r\n"
#: Longer command lines end the connection (RFC 5321 4.5.3.1.4 says 512; long parameters need more).
COMMAND_LIMIT = 8192

OK = b"250 2.0.0 Ok\r\n"
SENDER_OK = b"250 2.1.0 Ok\r\n"
RECIPIENT_OK = b"250 2.1.5 Ok\r\n"
GO_AHEAD = b"354 End data with <CR><LF>.<CR><LF>\r\n"
ORDER = b"503 5.5.1 Bad sequence of commands\r\n"
NO_RECIPIENTS = b"554 5.5.1 No valid recipients\r\n"
UNKNOWN = b"500 5.5.1 Command unrecognized\r\n"
TOO_LONG = b"421 4.5.2 Line too long, closing\r\n"
TOO_BIG = b"552 5.3.4 Message too big\r\n"
TOO_MANY_RECIPIENTS = b"452 4.5.3 Too many recipients\r\n"
TOO_MANY_MESSAGES = b"421 4.7.0 Too many messages on this connection\r\n"
TLS_READY = b"220 2.0.0 Ready to start TLS\r\n"
BYE = b"221 2.0.0 Bye\r\n"


class Receiver:
    """Listens on any number of addresses; counts in `totals`, `clients`, `greetings`, `options.answers`."""

    def __init__(self, options: ReceiverOptions | None = None) -> None:
        self.options = options or ReceiverOptions()
        self.totals = Totals()
        self.clients: dict[str, ClientTotals] = {}
        self.greetings: dict[str, int] = {}
        self.context: ssl.SSLContext | None = None
        self.keeps_bodies = self.options.delivered is not None and self.options.with_bodies
        self.hello_in_clear, self.hello_encrypted = hello_replies(self.options)
        self._sessions: set[Session] = set()
        self._servers: list[asyncio.Server] = []

    def __repr__(self) -> str:
        totals = self.totals
        return f"<Receiver open={totals.open} connections={totals.connections} messages={totals.messages}>"

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Where it listens."""
        return [socket.getsockname()[:2] for server in self._servers for socket in server.sockets]

    @property
    def port(self) -> int:
        """The port of the first address."""
        return self.addresses[0][1]

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Listen on one more address; returns its port. OSError when it is taken."""
        if self.options.tls is not Tls.OFF and self.context is None:
            self.context = server_context([self.options.host_name, "localhost"])
        implicit = self.context if self.options.tls is Tls.IMPLICIT else None
        server = await asyncio.get_running_loop().create_server(
            lambda: Session(self), host, port, backlog=4096, ssl=implicit
        )
        self._servers.append(server)
        found: int = server.sockets[0].getsockname()[1]
        return found

    def close(self) -> None:
        """Stop listening and drop every connection."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        for session in tuple(self._sessions):
            session.abort()

    async def __aenter__(self) -> Receiver:
        if not self._servers:
            await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def enter(self, session: Session, address: str) -> tuple[ClientTotals, bytes]:
        """Count a new connection; the second value is the refusal (empty = welcome)."""
        client = self.clients.get(address)
        if client is None:
            client = self.clients[address] = ClientTotals()
        options, totals = self.options, self.totals
        refusal = ""
        if options.max_connections and totals.open >= options.max_connections:
            refusal = "421 4.3.2 Too many connections to this receiver\r\n"
        elif options.max_connections_per_ip and client.open >= options.max_connections_per_ip:
            refusal = f"421 4.7.0 Too many connections from {address}\r\n"
        if refusal:
            totals.refused_connections += 1
            client.refused += 1
        totals.connections += 1
        totals.open += 1
        totals.peak = max(totals.peak, totals.open)
        client.connections += 1
        client.open += 1
        client.peak = max(client.peak, client.open)
        self._sessions.add(session)
        return client, refusal.encode()

    def leave(self, session: Session, client: ClientTotals) -> None:
        """A connection has ended."""
        self._sessions.discard(session)
        self.totals.open -= 1
        client.open -= 1


class Session(Dialogue):
    """The dialogue with one client."""

    def __init__(self, receiver: Receiver) -> None:
        super().__init__()
        self._receiver = receiver
        self._options = receiver.options
        self._script = receiver.options.script or None
        self._client: ClientTotals | None = None
        self._number = 0
        self._peer = ""
        self._greeting = ""
        self._tls = ""
        self._messages = 0
        self._sender: bytes | None = None
        self._recipients: list[bytes] = []
        self._verdict: bytes | None = None
        self._verdict_delay = 0.0
        self._in_data = False
        self._rest = b""
        self._tail = b""
        self._size = 0
        self._body: list[bytes] = []

    # --- the connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        peer = transport.get_extra_info("peername")
        self._peer = peer[0] if peer else ""
        self._client, refusal = self._receiver.enter(self, self._peer)
        self._number = self._receiver.totals.connections
        self._note_tls()
        if refusal:
            self.send(refusal)
            self.end()
        else:
            self._answer(
                Stage.CONNECT, b"", f"220 {self._options.host_name} ESMTP mock receiver\r\n".encode()
            )
        self._flush_reply()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._client is not None:
            if self._in_data:
                self._receiver.totals.lost += 1
            self._receiver.leave(self, self._client)
            self._client = None

    def encrypted(self) -> None:
        """STARTTLS has succeeded: everything before it is forgotten (RFC 3207 4.2)."""
        self._note_tls()
        self._greeting = ""
        self._reset()
        early, self._rest = self._rest, b""
        self.data_received(early)

    def data_received(self, data: bytes) -> None:
        if self.is_ending:
            if self.is_upgrading:
                # The client's first words came with the end of its handshake, before we heard of it.
                self._rest += data
            return
        if self._rest:
            data = self._rest + data
            self._rest = b""
        position = 0
        length = len(data)
        while position < length and not self.is_ending:
            if self._in_data:
                position = self._take_body(data, position)
                continue
            end = data.find(b"\n", position)
            if end < 0:
                self._rest = data[position:]
                if len(self._rest) > COMMAND_LIMIT:
                    self.send(TOO_LONG)
                    self.end()
                break
            line = data[position : end - 1] if end and data[end - 1] == 13 else data[position:end]
            position = end + 1
            self._command(line)
        self._flush_reply()

    def _flush_reply(self) -> None:
        self.flush(self._options.latency if self._options.every_reply else 0.0)

    def _note_tls(self) -> None:
        secured = self.transport.get_extra_info("ssl_object")
        if secured is not None:
            self._tls = secured.version() or "TLS"
            self._receiver.totals.tls += 1

    # --- commands

    def _command(self, line: bytes) -> None:
        match line[:4].upper():
            case b"MAIL":
                self._mail(line)
            case b"RCPT":
                self._rcpt(line)
            case b"DATA":
                self._data()
            case b"EHLO" | b"HELO":
                self._hello(line)
            case b"RSET":
                if self._answer(Stage.RSET, line, OK) < 400:
                    self._reset()
            case b"NOOP":
                self._answer(Stage.NOOP, line, OK)
            case b"STAR":
                self._starttls(line)
            case b"QUIT":
                self._receiver.totals.quits += 1
                if self._answer(Stage.QUIT, line, BYE):
                    self.end()
            case b"AUTH":
                self._answer(Stage.AUTH, line, UNKNOWN)
            case _:
                self.send(UNKNOWN)

    def _hello(self, line: bytes) -> None:
        self._greeting = line[5:].strip().decode("utf-8", "replace")
        self._reset()
        house = self._receiver
        if line[:1] in b"hH":
            reply = f"250 {self._options.host_name}\r\n".encode()
        else:
            reply = house.hello_encrypted if self._tls else house.hello_in_clear
        self._answer(Stage.EHLO, line[5:], reply)

    def _starttls(self, line: bytes) -> None:
        context = self._receiver.context
        if self._tls or context is None or self._options.tls is not Tls.STARTTLS:
            self._answer(Stage.STARTTLS, line, UNKNOWN)
        elif self._answer(Stage.STARTTLS, line, TLS_READY) == 220:
            self.upgrade(context)

    def _mail(self, line: bytes) -> None:
        limit = self._options.max_messages_per_connection
        if limit and self._messages >= limit:
            self.send(TOO_MANY_MESSAGES)
            self.end()
            return
        if self._sender is not None or not self._greeting:
            self.send(ORDER)
            return
        address = line[line.find(b"<") + 1 : line.rfind(b">")]
        if self._script is None:
            self.send(SENDER_OK)
        elif self._answer(Stage.MAIL, address, SENDER_OK) // 100 != 2:
            return
        self._sender = address

    def _rcpt(self, line: bytes) -> None:
        if self._sender is None:
            self.send(ORDER)
            return
        address = line[line.find(b"<") + 1 : line.rfind(b">")]
        answers = self._options.answers.obtain(address[address.rfind(b"@") + 1 :])
        reply = RECIPIENT_OK
        if answers.at_dot:
            if not self._recipients:
                self._verdict = answers.verdict(address)
                self._verdict_delay = answers.latency
        else:
            verdict = answers.verdict(address)
            if verdict is not None:
                reply = verdict + b"\r\n"
            if answers.latency:
                self.delay(answers.latency)
        limit = self._options.max_recipients
        if limit and len(self._recipients) >= limit:
            reply = TOO_MANY_RECIPIENTS
        code = 250
        if self._script is not None:
            code = self._answer(Stage.RCPT, address, reply)
        else:
            self.send(reply)
            if reply is not RECIPIENT_OK:
                code = int(reply[:3])
        if code // 100 == 2:
            self._recipients.append(address)
        elif code:
            self._count([address], code)

    def _data(self) -> None:
        if self._sender is None or not self._recipients:
            self.send(ORDER if self._sender is None else NO_RECIPIENTS)
            return
        if self._script is None:
            self.send(GO_AHEAD)
        else:
            code = self._answer(Stage.DATA, b"", GO_AHEAD)
            if code != 354:
                self._count(self._recipients, code)
                if code:
                    self._reset()
                return
        self._in_data = True
        self._size = 0
        # The line end of DATA itself: a dot right behind it ends an empty message.
        self._tail = b"\r\n"

    # --- the message

    def _take_body(self, data: bytes, position: int) -> int:
        """Take body octets from `position` on; returns where the next command starts."""
        tail = self._tail
        kept = self._receiver.keeps_bodies
        # The end may lie across two reads; what the first of them brought is at most four octets of it.
        across = (tail + data[position : position + 4]).find(END_OF_DATA)
        if across >= 0:
            end = position + across + len(END_OF_DATA) - len(tail)
        else:
            found = data.find(END_OF_DATA, position)
            if found < 0:
                self._size += len(data) - position
                self._tail = (tail + data[-4:])[-4:]
                if kept:
                    self._body.append(data[position:] if position else data)
                return len(data)
            end = found + len(END_OF_DATA)
        self._size += end - position - 3
        if kept:
            self._body.append(data[position:end])
        self._in_data = False
        self._finish()
        return end

    def _finish(self) -> None:
        """The final dot has arrived."""
        totals = self._receiver.totals
        totals.transactions += 1
        number = totals.transactions
        reply = b"250 2.0.0 Ok: queued as %X\r\n" % number
        options = self._options
        if options.max_size and self._size > options.max_size:
            reply = TOO_BIG
        elif self._verdict is not None:
            reply = self._verdict + b"\r\n"
        if options.latency and not options.every_reply:
            self.delay(options.latency)
        if self._verdict_delay:
            self.delay(self._verdict_delay)
        if self._script is None:
            self.send(reply)
            code = int(reply[:3])
        else:
            code = self._answer(Stage.DOT, b"", reply)
        if code // 100 == 2:
            self._accepted(number)
        else:
            self._count(self._recipients, code)
        self._messages += 1
        self._reset()

    def _accepted(self, number: int) -> None:
        house = self._receiver
        totals = house.totals
        totals.last_at = self.now()
        if not totals.messages:
            totals.first_at = totals.last_at
        totals.messages += 1
        totals.bytes += self._size
        self._count(self._recipients, 250)
        if self._client is not None:
            self._client.messages += 1
            self._client.greeting = self._greeting
        house.greetings[self._greeting] = house.greetings.get(self._greeting, 0) + 1
        self._options.answers.obtain(domain_of(self._recipients[0])).totals.messages += 1
        delivered = self._options.delivered
        if delivered is not None:
            delivered(
                Delivery(
                    f"{number:X}",
                    (self._sender or b"").decode("utf-8", "replace"),
                    tuple(address.decode("utf-8", "replace") for address in self._recipients),
                    self._peer,
                    self._greeting,
                    self._number,
                    self._size,
                    b"".join(self._body)[: self._size] if self._receiver.keeps_bodies else b"",
                    self._tls,
                )
            )

    def _count(self, recipients: list[bytes], code: int) -> None:
        """Count the final answer to these recipients; without a reply they are nobody's."""
        totals = self._receiver.totals
        for address in recipients:
            domain = self._options.answers.obtain(domain_of(address)).totals
            if 200 <= code < 300:
                totals.accepted += 1
                domain.accepted += 1
            elif 400 <= code < 500:
                totals.deferred += 1
                domain.deferred += 1
            elif code >= 500:
                totals.refused += 1
                domain.refused += 1

    def _reset(self) -> None:
        self._sender = None
        self._recipients = []
        self._verdict = None
        self._verdict_delay = 0.0
        if self._body:
            self._body = []

    # --- replies

    def _answer(self, stage: Stage, argument: bytes, reply: bytes) -> int:
        """Send the ordinary reply, or do what the script says; returns the code that counts (0 = none)."""
        rule = self._script.find(stage, argument) if self._script is not None else None
        if rule is None:
            self.send(reply)
            code = int(reply[:3])
        else:
            code = self._obey(rule)
        if code == 421:
            self.end()
        return code

    def _obey(self, rule: Rule) -> int:
        if rule.delay:
            self.delay(rule.delay)
        match rule.action:
            case Action.REPLY | Action.RAW:
                self.send(rule.reply)
            case Action.DRIP:
                self.drip(rule.reply, rule.interval)
            case Action.CLOSE:
                self.end()
            case Action.RESET:
                self.reset()
            case Action.SILENCE:
                pass
        return rule.code


def domain_of(address: bytes) -> bytes:
    """What stands behind the last `@` (the whole when there is none)."""
    return address[address.rfind(b"@") + 1 :]
