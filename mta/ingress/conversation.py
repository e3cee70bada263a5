"""The commands of one inbound connection that surround transactions (RFC 5321 and the extensions EHLO names).

Greeting, STARTTLS (RFC 3207), AUTH (RFC 4954; the exchange is aiosmtpd's) and the commands that move no mail.
Every mistake counts; too many of them, or too much talk without mail, end the connection with 421.
"""

from __future__ import annotations

import logging
import re
import ssl
from collections.abc import Callable, Mapping
from types import MappingProxyType

from aiosmtpd.smtp import AuthResult, LoginPassword, _AuthMechAttr

from mta.ingress import replies
from mta.ingress.connection import Mode
from mta.ingress.exchange import LoginSession
from mta.ingress.merging import Merging
from mta.ingress.reception import Reception
from mta.ingress.transactions import MAX_IDLE_COMMANDS

__all__ = ["Conversation"]

log = logging.getLogger(__name__)

MAX_FAILED_LOGINS = 3

_CONTROL = re.compile(rb"[\x00-\x1f\x7f]").search
_HELLO_NAME = re.compile(rb"[!-~]{1,255}\Z")
_MECHANISMS = ("LOGIN", "PLAIN")


class Conversation(Merging):
    """One client from greeting to QUIT."""

    __slots__ = ("_failed_logins", "_listener_source", "_tried_login")

    AuthLoginUsernameChallenge = "Username:"
    AuthLoginPasswordChallenge = "Password:"

    def __init__(
        self, reception: Reception, *, source_name: str = "", tls: ssl.SSLContext | None = None
    ) -> None:
        super().__init__(reception, source_name=source_name, tls=tls)
        self._listener_source = source_name
        self._failed_logins = 0
        self._tried_login = ""  # the name that was given, when somebody has it

    # ---- what comes in

    def greet(self) -> None:
        self.say(b"220 %b ESMTP mta ready\r\n" % self.rules.host_name.encode("ascii", "replace"))

    def take_command(self, line: bytes) -> None:
        verb, _, argument = line.partition(b" ")
        verb = verb.upper()
        if self.policy.log_commands:
            shown = b"AUTH ..." if verb == b"AUTH" else line
            log.info("client=%s command=%r", self.source_ip, shown)
        if _CONTROL(line):
            self.fault(replies.CONTROL_CHARACTER)
            return
        method = _COMMANDS.get(verb)
        if method is not None:
            method(self, argument.strip(b" "))
        elif verb in _FOREIGN_PROTOCOLS:
            self.close(replies.NOT_SMTP)
        elif verb in _NOT_IMPLEMENTED:
            self.fault(replies.NOT_IMPLEMENTED)
        else:
            self.fault(replies.UNKNOWN)

    # ---- greeting, TLS, login

    def on_ehlo(self, argument: bytes) -> None:
        if self._hello(argument, is_extended=True):
            self.say(self._extensions())

    def on_helo(self, argument: bytes) -> None:
        if self._hello(argument, is_extended=False):
            self.say(b"250 %b\r\n" % self.rules.host_name.encode("ascii", "replace"))

    def _hello(self, argument: bytes, *, is_extended: bool) -> bool:
        if not _HELLO_NAME.match(argument):
            self.fault(replies.BAD_HELLO)
            return False
        self.clear()
        self.helo = argument.decode("ascii")
        self.idle_commands += 1
        if self.idle_commands > MAX_IDLE_COMMANDS:
            self.close(replies.TOO_MANY_COMMANDS)
            return False
        self.is_extended = is_extended
        self.renew(self.reception.rules())
        return True

    def _extensions(self) -> bytes:
        policy = self.policy
        limit = policy.max_message_size
        words = [
            self.rules.host_name,
            *(["PIPELINING"] if policy.offers_pipelining else []),
            f"SIZE {limit}" if limit is not None else "SIZE",
            "8BITMIME",
            "ENHANCEDSTATUSCODES",
            "DSN",
        ]
        if policy.allow_smtputf8:
            words.append("SMTPUTF8")
        if policy.allow_chunking:
            words.append("CHUNKING")
        if policy.allow_mailmerge:
            words += ["XACK", "XMRG"]
        if policy.allow_mailmerge or policy.verp_default:
            words.append("VERP")
        if self._offers_tls:
            words.append("STARTTLS")
        if self._offers_login:
            mechanisms = " ".join(_MECHANISMS)
            words.append(f"AUTH {mechanisms}")
            if policy.broken_auth_clients:
                words.append(f"AUTH={mechanisms}")
        lines = [f"250-{word}" for word in words[:-1]] + [f"250 {words[-1]}"]
        return ("\r\n".join(lines) + "\r\n").encode("ascii", "replace")

    @property
    def _offers_tls(self) -> bool:
        return self._tls is not None and self.policy.allow_starttls and not self.is_tls

    @property
    def _offers_login(self) -> bool:
        policy = self.policy
        if not policy.allow_auth or not self.rules.logins or self.user:
            return False
        return self.is_tls or (policy.allow_plain_auth and not policy.starttls_before_auth)

    def on_starttls(self, argument: bytes) -> None:
        if argument:
            self.fault(replies.NO_ARGUMENT)
        elif not self._offers_tls:
            self.fault(replies.ALREADY_TLS if self.is_tls else replies.NOT_IMPLEMENTED)
        elif self.has_backlog:
            # Sent in clear, meant to be believed inside TLS (CVE-2011-0411).
            self.close(replies.BEHIND_STARTTLS)
        else:
            self.clear()
            self.helo = self.user = ""
            self.source_name = self._listener_source
            self.takes_short_cut = False
            self.start_tls(replies.START_TLS)

    def on_auth(self, argument: bytes) -> None:
        mechanism, _, initial = argument.partition(b" ")
        if not self.helo or not self.is_extended:
            self.fault(replies.HELLO_FIRST)
        elif self.user or self.originator is not None:
            self.fault(replies.NOT_NOW)
        elif not self._offers_login:
            is_hidden = self.policy.allow_auth and bool(self.rules.logins) and not self.is_tls
            self.fault(replies.TLS_FIRST if is_hidden else replies.NOT_IMPLEMENTED)
        elif mechanism.upper().decode("ascii", "replace") not in _MECHANISMS:
            self.fault(replies.UNKNOWN_MECHANISM)
        elif not argument.isascii() or b" " in initial:
            self.fault(replies.BAD_ARGUMENT)
        elif self._is_locked():
            self.close(replies.LOCKED_OUT)
        else:
            self._prepare_login()
            self.begin_login(self.smtp_AUTH(f"{mechanism.upper().decode()} {initial.decode()}"))

    def _prepare_login(self) -> None:
        """What aiosmtpd's AUTH wants to find."""
        self._tried_login = ""
        session = LoginSession(self.loop)
        session.host_name = self.helo
        session.extended_smtp = True
        self.session = session
        self._auth_require_tls = False
        self._auth_methods = {
            "LOGIN": _AuthMechAttr(self.auth_LOGIN, True),
            "PLAIN": _AuthMechAttr(self.auth_PLAIN, True),
        }

    def _authenticate(self, mechanism: str, auth_data: LoginPassword) -> AuthResult:
        """What aiosmtpd asks when it has name and password."""
        found = self.rules.logins.check(auth_data.login, auth_data.password)
        self._tried_login = self.rules.logins.known(auth_data.login)
        if found is None:
            return AuthResult(success=False, handled=False, message=str(replies.BAD_LOGIN))
        self.user, source = found
        # `{auth}` holds without being asked for; when nobody wrote it, the listener's source goes on.
        if source in self.rules.snapshot.named_sources:
            self.source_name = source
        return AuthResult(success=True, message=str(replies.LOGGED_IN))

    def after_login(self) -> None:
        if self.user:
            self._failed_logins = 0
            self.renew(self.rules)
            return
        self._failed_logins += 1
        self.faults += 1
        now = self.reception.clock.now()
        self.reception.lockout.failed(self.source_ip, self.policy.max_auth_failures, now)
        user = repr(self._tried_login) if self._tried_login else "unknown"
        log.info("client=%s user=%s login failed", self.source_ip, user)
        if self._is_locked() or self._failed_logins >= MAX_FAILED_LOGINS:
            self.close(replies.LOCKED_OUT)

    def _is_locked(self) -> bool:
        now = self.reception.clock.now()
        return self.reception.lockout.is_locked(self.source_ip, self.policy.max_auth_failures, now)

    def drain(self) -> None:
        """Leave at once when idle, else behind the message that is under way."""
        self.takes_short_cut = False
        if self.mode is Mode.OUTSIDE or (self.mode is Mode.COMMANDS and self.originator is None):
            self.close(replies.SHUTTING_DOWN)

    # ---- the rest

    def on_rset(self, argument: bytes) -> None:
        if argument:
            self.fault(replies.NO_ARGUMENT)
            return
        self.clear()
        self.idle(replies.OK)

    def on_noop(self, argument: bytes) -> None:
        self.idle(replies.OK)

    def on_help(self, argument: bytes) -> None:
        self.idle(replies.HELP)

    def on_vrfy(self, argument: bytes) -> None:
        if argument:
            self.idle(replies.NOT_VERIFIED)
        else:
            self.fault(replies.BAD_ARGUMENT)

    def on_expn(self, argument: bytes) -> None:
        self.fault(replies.NOT_IMPLEMENTED)

    def on_quit(self, argument: bytes) -> None:
        if argument:
            self.fault(replies.NO_ARGUMENT)
        else:
            self.close(replies.BYE)


_COMMANDS: Mapping[bytes, Callable[[Conversation, bytes], None]] = MappingProxyType(
    {
        b"EHLO": Conversation.on_ehlo,
        b"HELO": Conversation.on_helo,
        b"MAIL": Conversation.on_mail,
        b"RCPT": Conversation.on_rcpt,
        b"DATA": Conversation.on_data,
        b"BDAT": Conversation.on_bdat,
        b"RSET": Conversation.on_rset,
        b"NOOP": Conversation.on_noop,
        b"HELP": Conversation.on_help,
        b"VRFY": Conversation.on_vrfy,
        b"EXPN": Conversation.on_expn,
        b"AUTH": Conversation.on_auth,
        b"STARTTLS": Conversation.on_starttls,
        b"QUIT": Conversation.on_quit,
        b"XMRG": Conversation.on_xmrg,
        b"XDFN": Conversation.on_xdfn,
        b"XPRT": Conversation.on_xprt,
        b"XACK": Conversation.on_xack,
    }
)
#: Known to RFC 5321 and others, not spoken here.
_NOT_IMPLEMENTED = frozenset(
    b"ETRN TURN ATRN SEND SOML SAML XCLIENT XFORWARD".split(),
)
#: Browsers and others that were made to knock at the wrong door.
_FOREIGN_PROTOCOLS = frozenset(b"GET POST PUT HEAD OPTIONS CONNECT DELETE TRACE PATCH PRI PROXY".split())
