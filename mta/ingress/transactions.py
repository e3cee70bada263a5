"""The transactions of one inbound connection: MAIL, RCPT, DATA and BDAT, and what becomes of the message.

What most clients send most of the time (a plain MAIL, RCPT or DATA alone in a packet, a message that comes in
one piece) takes a short cut past the line buffer: `data_received`. Everything else, pipelined or odd, goes
through the `on_...` methods. Both end in the same state.

250 to a message is said in `accepted` and nowhere else: after `Acceptance` has it on disk. Until then further
commands wait, so replies keep their order.
"""

from __future__ import annotations

import logging
import re
import ssl

from mta.errors import RemoteProtocolError
from mta.ingress import replies
from mta.ingress.accept import AcceptResult
from mta.ingress.connection import Mode
from mta.ingress.reception import Reception, Rules
from mta.ingress.submission import NOBODY, Client, Submission
from mta.ingress.suppression import INVALID_QUEUE, SUPPRESSED_QUEUE, invalid_address
from mta.ingress.wire import Wire
from mta.smtp.address import parse_path, split_domain
from mta.smtp.data import TOO_BIG, ChunkReader
from mta.smtp.params import MailParameters, parse_mail_parameters, parse_rcpt_parameters
from mta.smtp.reply import Reply

__all__ = ["Transactions"]

log = logging.getLogger(__name__)

#: Mistakes, then commands that move no mail, between two messages; Postfix has 20 and 100.
MAX_FAULTS = 20
MAX_IDLE_COMMANDS = 100
#: Refused recipients of one message, after which the client is not worth listening to.
MAX_REFUSED_RECIPIENTS = 1000
#: Return paths that encode a recipient are longer than a mailbox of RFC 5321.
SENDER_LOCAL_LIMIT = 128

_ADDRESS = (
    rb"((?=[^@]{1,64}+@)[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~]++(?:\.[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~]++)*"
    rb"@([A-Za-z0-9_\-]{1,63}+\.[A-Za-z0-9._\-]{1,255}+))"
)
_PLAIN_MAIL = re.compile(
    rb"MAIL FROM:<" + _ADDRESS + rb">(?: SIZE=([0-9]{1,12}+))?(?: BODY=(?:7BIT|(8BITMIME)))?\r\n\Z"
).match
_PLAIN_RCPT = re.compile(rb"RCPT TO:<" + _ADDRESS + rb">\r\n\Z").match
_FROM = re.compile(rb"FROM:[ ]*", re.IGNORECASE)
_TO = re.compile(rb"TO:[ ]*", re.IGNORECASE)
_BDAT = re.compile(rb"([0-9]{1,19})(?: +(LAST))?\Z", re.IGNORECASE)

_NO_PARAMETERS = MailParameters()
_EIGHT_BIT = MailParameters(is_8bit=True)

# As in `connection`: plain names, because they are looked at for every packet.
_CHUNK, _COMMANDS, _DATA, _WAITING = Mode.CHUNK, Mode.COMMANDS, Mode.DATA, Mode.WAITING


class Transactions(Wire):
    """One message after the other; `Conversation` adds what surrounds them."""

    # fmt: off
    __slots__ = (
        "_chunks", "_clients", "_condemned", "_has_too_many", "_is_last_chunk", "_most_plain_recipients",
        "_parameters", "_recipients", "_refused_recipients", "_usual_mail", "_usual_originator", "_was_taken",
        "faults", "helo", "idle_commands", "is_extended", "originator", "takes_short_cut", "user",
    )
    # fmt: on

    def __init__(
        self, reception: Reception, *, source_name: str = "", tls: ssl.SSLContext | None = None
    ) -> None:
        super().__init__(reception, source_name=source_name, tls=tls)
        self.helo = ""
        self.is_extended = False
        self.user = ""
        self.originator: str | None = None
        self._parameters = _NO_PARAMETERS
        self._clients = (NOBODY, NOBODY)
        self._recipients: list[tuple[str, int, str]] = []
        self._condemned: list[tuple[str, int, str, str]] = []
        self._has_too_many = False
        self._chunks: ChunkReader | None = None
        self._is_last_chunk = False
        self.takes_short_cut = False
        self._most_plain_recipients = 0
        self._was_taken = False
        # The last plain MAIL without parameters, and the return path in it.
        self._usual_mail = b""
        self._usual_originator = ""
        self.faults = 0
        self.idle_commands = 0
        self._refused_recipients = 0

    # ---- the short cut

    def data_received(self, data: bytes) -> None:
        # Between events no reply waits in `_out`: whoever says something outside of one also writes it.
        if self.takes_short_cut and not self._buffer:
            try:
                if self.mode is _COMMANDS:
                    if self.originator is None:
                        answer = self._plain_mail(data)
                    elif data == b"DATA\r\n":
                        answer = self._plain_data()
                    else:
                        answer = self._plain_rcpt(data)
                    if answer:
                        self._progress_at = self._time()
                        self._send(answer)
                        return
                elif self.mode is _DATA:
                    self._take_piece(data)
                    return
            except Exception:
                log.exception("client=%s connection given up", self.source_ip)
                self.close(replies.INTERNAL)
                return
        elif self.policy.log_data:
            self.overhear(data)
        super().data_received(data)

    def _take_piece(self, data: bytes) -> None:
        """Content, and perhaps commands behind it."""
        used = self.reader.feed(data)
        self._progress_at = self._time()
        if used == len(data):
            self._take_message()
            if self._out:
                self.process()
        elif used < 0:
            self.account()
        else:
            self.keep(data, used)
            self._take_message()
            self.process()

    def _plain_mail(self, data: bytes) -> bytes:
        """The reply; empty when the long way must look at it."""
        reception = self.reception
        if reception.snapshot() is not self.rules.snapshot:
            return b""
        if data == self._usual_mail and self._was_taken:
            # Many applications have one return path for all they send; it was looked at the first time.
            self.originator = self._usual_originator
            return replies.SENDER_OK
        match = _PLAIN_MAIL(data)
        if match is None:
            return b""
        address, domain, size, is_8bit = match.groups()
        if not reception.knows_domain(domain):
            return b""
        # Where the last message found room there is some for one whose size isn't told; its content decides.
        if (size or not self._was_taken) and not self._has_room(int(size or 0)):
            return b""
        self.originator = originator = address.decode("ascii")
        if is_8bit:
            self._parameters = _EIGHT_BIT
        elif not size:
            self._usual_mail = data
            self._usual_originator = originator
        return replies.SENDER_OK

    def _has_room(self, size: int) -> bool:
        """Whether a message of this size can be taken now."""
        return size <= self.max_size and self.reception.acceptance.refusal(size) is None

    def _plain_rcpt(self, data: bytes) -> bytes:
        """The reply; empty when the long way must look at it."""
        match = _PLAIN_RCPT(data)
        if match is None or self._chunks is not None:
            return b""
        address, domain = match.groups()
        recipients = self._recipients
        if not self.reception.knows_domain(domain) or len(recipients) >= self._most_plain_recipients:
            return b""
        recipients.append((address.decode("ascii"), 0, ""))
        return replies.RECIPIENT_OK

    def _plain_data(self) -> bytes:
        """The reply; empty when the long way must look at it."""
        if not self._recipients or self._chunks is not None or self._has_too_many:
            return b""
        self.begin_content(_DATA, self._data_reader)
        return replies.GO_AHEAD

    # ---- limits and rules

    def fault(self, reply: Reply) -> None:
        self.reply(reply)
        self.faults += 1
        if self.faults > MAX_FAULTS:
            self.close(replies.TOO_MANY_FAULTS)

    def idle(self, reply: Reply) -> None:
        """Answer a command that moves no mail."""
        self.reply(reply)
        self.idle_commands += 1
        if self.idle_commands > MAX_IDLE_COMMANDS:
            self.close(replies.TOO_MANY_COMMANDS)

    def renew(self, rules: Rules) -> None:
        """Follow a new configuration, login or greeting."""
        self.rules = rules
        self.policy = rules.policy(self.source_ip, self.source_name)
        is_unobserved = self.policy.replies_directly and not self.policy.log_commands
        is_open = bool(self.helo) and not self.lacks_login and not self.reception.is_draining
        self.takes_short_cut = is_open and is_unobserved
        self._most_plain_recipients = self.policy.max_recipients if self.policy.takes_plain_recipients else 0
        self._data_reader.limit(self.max_size, self.policy.max_line)
        marks = f"{'S' if self.is_tls else ''}{'A' if self.user else ''}"
        # Without and with SMTPUTF8 (RFC 3848, RFC 6531).
        protocols = (f"ESMTP{marks}", f"UTF8SMTP{marks}") if self.is_extended else ("SMTP", "SMTP")
        self._clients = (self._client(protocols[0]), self._client(protocols[1]))

    def _client(self, protocol: str) -> Client:
        """What its messages say of the client."""
        source_mta = f"{self.helo} ({self.source_ip})" if self.source_ip else self.helo
        return Client(protocol, self.helo, self.source_ip, self.received_on, self.user, source_mta)

    @property
    def lacks_login(self) -> bool:
        return self.policy.require_auth and not self.user

    @property
    def max_size(self) -> int:
        """Octets of the largest message that can be taken now."""
        limit = self.policy.max_message_size
        ceiling = self.reception.receive_memory
        return ceiling if limit is None else min(limit, ceiling)

    # ---- envelope

    def on_mail(self, argument: bytes) -> None:
        if self.originator is not None:
            self.fault(replies.NESTED_MAIL)
            return
        rules = self.reception.rules()
        if rules is not self.rules:
            self.renew(rules)
        start = _FROM.match(argument)
        if not self.helo:
            self.fault(replies.HELLO_FIRST)
        elif self.reception.is_draining:
            self.close(replies.SHUTTING_DOWN)
        elif self.lacks_login:
            self.fault(replies.LOGIN_FIRST)
        elif start is None:
            self.fault(replies.MAIL_SYNTAX)
        else:
            refusal = self._sender(argument, start.end())
            if refusal is None:
                self.say(replies.SENDER_OK)
            else:
                self._log_refusal(refusal)
                self.fault(refusal)

    def _sender(self, argument: bytes, start: int) -> Reply | None:
        """Take the return path, or say why not."""
        policy = self.policy
        path = parse_path(argument, start, is_utf8=policy.allow_smtputf8, local_limit=SENDER_LOCAL_LIMIT)
        if path is None or (path.address and "@" not in path.address):
            return replies.BAD_SENDER
        try:
            parameters = _parameters(argument, path.end)
            found = parse_mail_parameters(
                parameters,
                with_smtputf8=policy.allow_smtputf8,
                with_verp=policy.allow_mailmerge or policy.verp_default,
            )
        except RemoteProtocolError as error:
            return _reply(error)
        if not path.address.isascii() and not found.is_smtputf8:
            return replies.NEEDS_SMTPUTF8
        if found.size > self.max_size:
            return TOO_BIG
        refusal = self.reception.acceptance.refusal(max(found.size, 0))
        if refusal is not None:
            return refusal
        self.originator = self._qualified(path.address)
        self._parameters = found
        return None

    def _qualified(self, address: str) -> str:
        """The address with its domain completed when that is a bare host name (auto-qualify-domain)."""
        suffix = self.rules.domain_suffix
        domain = address.rpartition("@")[2]
        is_bare = "." not in domain and ":" not in domain and domain.lower() != "localhost"
        return (
            f"{address}.{suffix}"
            if address and is_bare and suffix and self.policy.qualifies_domains
            else address
        )

    def on_rcpt(self, argument: bytes) -> None:
        start = _TO.match(argument)
        if self.originator is None or self._chunks is not None:
            self.fault(replies.MAIL_FIRST)
        elif start is None:
            self.fault(replies.RCPT_SYNTAX)
        elif len(self._recipients) + len(self._condemned) >= self.policy.max_recipients:
            self._too_many()
        else:
            self._recipient(argument, start.end())

    def _recipient(self, argument: bytes, start: int) -> None:
        is_utf8 = self._parameters.is_smtputf8
        path = parse_path(argument, start, is_utf8=is_utf8)
        if path is None or not path.address:
            if self.policy.accept_invalid:
                self._condemn(invalid_address(argument[start:]), 0, "", INVALID_QUEUE)
            else:
                self._refuse_recipient(replies.BAD_RECIPIENT, "")
            return
        if "@" in path.address:
            address = self._qualified(path.address)
        else:
            address = f"{path.address}@{self.rules.host_name}"
        try:
            parameters = _parameters(argument, path.end)
            found = parse_rcpt_parameters(parameters, is_utf8=is_utf8)
        except RemoteProtocolError as error:
            self.fault(_reply(error))
            return
        refusal = self.rules.relaying.refusal(self.policy, address, split_domain(address))
        if refusal is not None:
            self._refuse_recipient(refusal, address)
            return
        refusal = self.rules.relaying.suppressed(self.policy, address)
        if refusal is None:
            self.add_recipient(address, found.notify, found.orcpt)
            self.say(replies.RECIPIENT_OK)
        elif refusal.is_permanent and self.policy.accept_invalid:
            self._condemn(address, found.notify, found.orcpt, SUPPRESSED_QUEUE)
        else:
            self._refuse_recipient(refusal, address)

    def add_recipient(self, address: str, notify: int, orcpt: str) -> None:
        """One more who gets the message."""
        self._recipients.append((address, notify, orcpt))

    def _condemn(self, address: str, notify: int, orcpt: str, queue: str) -> None:
        """Take a recipient whose mail bounces at once."""
        self._condemned.append((address, notify, orcpt, queue))
        self.say(replies.RECIPIENT_OK)

    def _too_many(self) -> None:
        """One recipient more than the limit: refused, or the reason to refuse the message."""
        if self.policy.too_many_recipients_fail:
            self._has_too_many = True
            self.say(replies.RECIPIENT_OK)
        else:
            self._refuse_recipient(replies.TOO_MANY_RECIPIENTS, "")

    @property
    def has_recipients(self) -> bool:
        return bool(self._recipients or self._condemned)

    def _refuse_recipient(self, reply: Reply, address: str) -> None:
        self.reply(reply)
        self._log_refusal(reply, address)
        self._refused_recipients += 1
        if self._refused_recipients > MAX_REFUSED_RECIPIENTS:
            self.close(replies.TOO_MANY_FAULTS)

    # ---- content

    def on_data(self, argument: bytes) -> None:
        if argument:
            self.fault(replies.NO_ARGUMENT)
        elif self.originator is None or self._chunks is not None:
            self.fault(replies.MAIL_FIRST)
        elif not self.has_recipients:
            self.fault(replies.NO_RECIPIENTS)
        elif self._has_too_many:
            self.clear()
            self.fault(replies.TOO_MANY_FAIL)
        else:
            self.begin_content(_DATA, self._data_reader)
            self.say(replies.GO_AHEAD)

    def on_bdat(self, argument: bytes) -> None:
        match = _BDAT.match(argument)
        if not self.policy.allow_chunking:
            self.fault(replies.NOT_IMPLEMENTED)
            return
        if match is None:
            # Nobody can tell where the next command begins.
            self.close(replies.BDAT_SYNTAX)
            return
        octets = int(match[1])
        if octets > 2 * self.max_size:
            self.close(TOO_BIG)
            return
        if self._chunks is None:
            self._chunks = ChunkReader(self.max_size, self.policy.max_line)
        self._is_last_chunk = match[2] is not None
        self._chunks.expect(octets)
        if self.originator is None:
            self._chunks.refuse(replies.MAIL_FIRST)
        elif not self.has_recipients:
            self._chunks.refuse(replies.NO_RECIPIENTS)
        elif self._has_too_many:
            self._chunks.refuse(replies.TOO_MANY_FAIL)
        self.begin_content(_CHUNK, self._chunks)
        if not octets:
            self.take_content()

    def take_content(self) -> None:
        reader = self.reader
        if isinstance(reader, ChunkReader):
            if not self._is_last_chunk and reader.refusal is None:
                self.mode = _COMMANDS
                self.account()
                self.say(b"250 2.0.0 %d octets received\r\n" % reader.size)
                return
            reader.finish()
        self._take_message()

    def _take_message(self) -> None:
        """All of it is here."""
        reader = self.reader
        refusal = reader.refusal
        if refusal is not None:
            self.mode = _COMMANDS
            self._log_refusal(refusal)
            self.clear()
            self.fault(refusal)
            return
        parameters = self._parameters
        self.mode = _WAITING
        self.reception.acceptance.accept(
            Submission(
                self.originator or "",
                self._recipients,
                reader.chunks,
                reader.size,
                self.policy,
                self._clients[parameters.is_smtputf8],
                "smtp",
                parameters.is_8bit or reader.is_8bit,
                parameters.is_smtputf8,
                parameters.ret,
                parameters.envelope_id,
                wants_verp=parameters.wants_verp,
                condemned=self._condemned,
            ),
            self.accepted,
        )

    def accepted(self, result: AcceptResult) -> None:
        """The message is on disk, or refused."""
        refusal = result.refusal
        if refusal is None:
            self._was_taken = True
            self.faults = self.idle_commands = 0
            answer = f"250 2.0.0 OK, queued as {result.queue_id}\r\n".encode()
        else:
            self._was_taken = False
            self._log_refusal(refusal)
            answer = b"%d %b\r\n" % (refusal.code, refusal.text.encode("utf-8"))
        self.clear()
        if self.mode is not _WAITING:
            return
        self.mode = _COMMANDS
        if self.reception.is_draining:
            self.say(answer)
            self.close(replies.SHUTTING_DOWN)
        elif self.takes_short_cut and not self._buffer and not self._out and not self._has_ended:
            self._send(answer)
        else:
            self.say(answer)
            self.process()

    def clear(self) -> None:
        """No transaction is under way."""
        self.originator = None
        self._parameters = _NO_PARAMETERS
        self._recipients = []
        if self._condemned:
            self._condemned = []
        self._has_too_many = False
        self._chunks = None
        self._refused_recipients = 0
        if not self.takes_short_cut:
            self.forget()
        self.release()

    def forget(self) -> None:
        """Clear what only commands leave behind that end the short cut; for subclasses."""

    def _log_refusal(self, reply: Reply, recipient: str = "") -> None:
        self.reception.rejects.recipient(
            reply,
            source_ip=self.source_ip,
            received_on=self.received_on,
            source_mta=f"{self.helo} ({self.source_ip})",
            source_user=self.user,
            originator=self.originator or "",
            recipient=recipient,
        )


def _parameters(argument: bytes, end: int) -> bytes:
    """What stands behind the path; raises RemoteProtocolError unless a blank parts the two."""
    if end < len(argument) and argument[end] != 32:
        raise RemoteProtocolError("5.5.4 Something stands behind the address", 501)
    return argument[end + 1 :]


def _reply(error: RemoteProtocolError) -> Reply:
    text = str(error)
    return Reply(error.reply_code, text, text.partition(" ")[0])
