"""One outgoing mail transaction, from MAIL to the reply after the final dot.

Pure: it says what to write and is told the replies; the session beside it owns the socket and the body.

Theory of operation. With PIPELINING (RFC 2920) MAIL, every RCPT and DATA leave in one write and the
replies come back in that order; without it each command waits for the reply before it. Either way exactly
one reply belongs to each command, and the stage says which command the next reply answers:

    MAIL ──▶ RCPT × n ──▶ DATA ──354──▶ END (body, dot) ──▶ done
      │          │          ├──354, nobody accepted──▶ LONE_DOT ──▶ done      (RFC 2920 3.1)
      └──────────┴──────────┴── refused ──▶ done, RSET needed before the next MAIL

A reply that can't be meant for its command (354 to MAIL, 250 to DATA) means that both sides count
differently: from there on every reply could be somebody else's, so the transaction breaks and the
connection with it. Recipients without a result are then deferred; nothing bounces by mistake.

Each recipient ends with one `Outcome`. Whoever had the dot's reply outstanding when the connection went
is `uncertain`: the server may have the message (RFC 1047), and a retry may deliver it twice.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Protocol

import msgspec

from mta.errors import LocalProtocolError, RemoteProtocolError
from mta.smtp.extensions import Extensions
from mta.smtp.params import encode_xtext
from mta.smtp.reply import Reply

__all__ = [
    "EnvelopeLike",
    "Fate",
    "Move",
    "Outcome",
    "RecipientLike",
    "Stage",
    "Transaction",
    "internal_reply",
]


class RecipientLike(Protocol):
    """What RCPT TO needs to know; `mta.message.envelope.Recipient` is one."""

    @property
    def address(self) -> str: ...
    @property
    def notify(self) -> int: ...
    @property
    def orcpt(self) -> str: ...


class EnvelopeLike(Protocol):
    """What MAIL FROM needs to know; `mta.message.envelope.Envelope` is one."""

    @property
    def originator(self) -> str: ...
    @property
    def envelope_id(self) -> str: ...
    @property
    def ret(self) -> int: ...
    @property
    def is_8bit(self) -> bool: ...
    @property
    def is_smtputf8(self) -> bool: ...


class Fate(enum.Enum):
    """What became of one recipient in one transaction."""

    DELIVERED = "delivered"
    DEFERRED = "deferred"
    FAILED = "failed"
    #: Never judged by the server: try again without counting an attempt.
    UNTRIED = "untried"


class Stage(enum.IntEnum):
    """The command that the next reply answers."""

    MAIL = 0
    RCPT = 1
    DATA = 2
    END = 3
    LONE_DOT = 4
    DONE = 5


class Move(enum.Enum):
    """What the session does after a reply."""

    WAIT = enum.auto()  # more replies are on their way
    WRITE = enum.auto()  # write `take_command()` (no PIPELINING)
    BODY = enum.auto()  # write the body and the final dot
    LONE_DOT = enum.auto()  # write the dot alone: nobody is there to read a body
    DONE = enum.auto()  # every recipient has its outcome


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """The result for one recipient: `reply` is the server's, or ours (`internal_reply`)."""

    fate: Fate
    reply: Reply
    stage: Stage
    uncertain: bool = False


_NOTIFY_NAMES = ((1, "NEVER"), (2, "SUCCESS"), (4, "FAILURE"), (8, "DELAY"))
_RET_NAMES = {1: "FULL", 2: "HDRS"}

#: What no command has in it beside the CR LF at its end.
_BREAKS = b"\r\n\0"

# Members as plain names: an attribute of an enum class costs more than the comparison it serves.
_MAIL, _RCPT, _DATA, _END, _LONE_DOT, _DONE = Stage
_WAIT, _WRITE, _BODY, _SEND_DOT, _FINISHED = Move
_DELIVERED, _DEFERRED, _FAILED, _UNTRIED = Fate


class Transaction(msgspec.Struct, eq=False):
    """The state of one transaction; `recipients` are the ones that go into it, in this order.

    `size` is in octets, of the message as far as known when the transaction starts (RFC 1870: an estimate).
    """

    envelope: EnvelopeLike
    recipients: Sequence[RecipientLike]
    size: int
    extensions: Extensions
    stage: Stage = _MAIL
    #: One for each recipient once all have theirs; empty until then.
    outcomes: list[Outcome] = []
    #: The server has taken the message for all recipients: they share one outcome.
    is_delivered: bool = False
    #: The server's side of the transaction is still open: RSET must come before the next MAIL.
    needs_reset: bool = False
    #: The server said that it closes the connection (421), or it can't be used any more.
    is_closing: bool = False
    #: Set before `start`: the content goes in a BDAT (RFC 3030), which the session writes at `Move.BODY`.
    in_chunks: bool = False
    #: Set by the session once the final dot is written.
    is_body_sent: bool = False
    #: Those whom RCPT refused, by their place.
    _refused: dict[int, Outcome] = {}
    #: The recipient that the next RCPT reply is for.
    _next: int = 0
    #: The commands still to be written; only there without PIPELINING.
    _rcpts: list[bytes] = []

    def start(self) -> bytes:
        """What to write first; b"" when the server's offers rule the message out (stage is DONE then).

        Raises LocalProtocolError when an address could break out of its command.
        """
        extensions, envelope, recipients = self.extensions, self.envelope, self.recipients
        limit = extensions.size
        if limit is not None and self.size > limit:
            words = f"message of {self.size} octets exceeds the server's limit of {limit}"
            return self._rule_out(internal_reply(552, "5.3.4", words))
        first, count = recipients[0], len(recipients)
        if count == 1 and not (first.notify or first.orcpt):
            rcpts = f"RCPT TO:<{first.address}>\r\n"
        else:
            rcpts = "".join([self._rcpt_command(recipient) for recipient in recipients])
        is_utf8 = envelope.is_smtputf8 or not (rcpts.isascii() and envelope.originator.isascii())
        if is_utf8 and not extensions.smtputf8:
            words = "the server does not offer SMTPUTF8, which this message needs"
            return self._rule_out(internal_reply(550, "5.6.7", words))
        mail = f"MAIL FROM:<{envelope.originator}>"
        if extensions.has_size:
            mail += f" SIZE={self.size}"
        if envelope.is_8bit or is_utf8 or extensions.dsn:
            mail += self._mail_options(is_utf8)
        wire = f"{mail}\r\n{rcpts}DATA\r\n".encode()
        # Nothing but the commands meant: the last wall against addresses that carry a command of their own.
        if len(wire) != len(wire.translate(None, _BREAKS)) + 2 * count + 4:
            raise LocalProtocolError("an address holds a line break")
        if self.in_chunks:
            wire = wire[: -len(b"DATA\r\n")]
        if extensions.pipelining:
            return wire
        self._rcpts = rcpts.encode().splitlines(keepends=True)
        return f"{mail}\r\n".encode()

    def take_command(self) -> bytes:
        """The next command after `Move.WRITE`."""
        return self._rcpts[self._next] if self.stage is _RCPT else b"DATA\r\n"

    def receive(self, reply: Reply) -> Move:
        """Take the reply to the next unanswered command.

        Raises RemoteProtocolError when the reply can't belong to that command; call `lose` then.
        """
        stage = self.stage
        kind = reply.code // 100
        if stage is _END and kind == 2 and self.is_body_sent:  # the usual end
            outcome = Outcome(_DELIVERED, reply, _END)
            if self._refused:
                self._end_all(outcome)
            else:
                self.outcomes = [outcome] * len(self.recipients)
                self.is_delivered = True
            self.stage = _DONE
            return _FINISHED
        if reply.code == 421 and stage is not _LONE_DOT:
            return self._receive_closing(reply, stage)
        if kind == 3 and (stage is not _DATA or reply.code != 354):
            raise RemoteProtocolError(f"{reply.code} in answer to {_describe(stage)}")
        if stage is _RCPT:
            return self._receive_rcpt(reply, kind)
        if stage is _MAIL:
            return self._receive_mail(reply, kind)
        if stage is _DATA:
            return self._receive_data(reply, kind)
        if stage is _END:
            return self._receive_end(reply, kind)
        if stage is _LONE_DOT:
            self.stage = _DONE
            return _FINISHED
        raise RemoteProtocolError("a reply to no command")

    def receive_three(self, mail: Reply, rcpt: Reply, data: Reply) -> bool:
        """A short cut for what is usual: one recipient, an envelope in one piece, and three times yes.

        True when these three were the replies to it: the move is `BODY`. False, and nothing is taken, when
        anything is otherwise; `receive` is for them one by one then. Hot path.
        """
        if (
            self.stage is not _MAIL
            or len(self.recipients) != 1
            or mail.code != 250
            or rcpt.code != 250
            or data.code != 354
            or not self.extensions.pipelining
        ):
            return False
        self.stage = _END
        return True

    def lose(self, reply: Reply, *, untried: bool = False, in_transfer: Fate = Fate.DEFERRED) -> None:
        """No further reply will come: give every recipient without one an outcome.

        `reply` says what happened (`internal_reply`). `untried` puts them back uncounted when the server has
        not answered anything of this transaction; `in_transfer` is for those whose body was on its way.
        """
        stage = self.stage
        if stage is _END:
            self._end_all(Outcome(in_transfer, reply, _END, uncertain=self.is_body_sent))
        elif stage is _MAIL and untried:
            self._end_all(Outcome(Fate.UNTRIED, reply, _MAIL))
        elif stage is not _DONE:
            self._end_all(Outcome(Fate.DEFERRED, reply, stage))
        self.is_closing = True
        self.stage = _DONE

    def refuse(self, reply: Reply) -> None:
        """Our own no: the message can't be sent to this server, or at all."""
        self._end_all(Outcome(Fate.FAILED, reply, self.stage))
        self.stage = _DONE

    def abandon(self, reply: Reply) -> None:
        """We stop here ourselves: whoever has no outcome has not been tried."""
        self._end_all(Outcome(Fate.UNTRIED, reply, self.stage))
        self.is_closing = True
        self.stage = _DONE

    # -- replies by stage ------------------------------------------------------------------------------

    def _receive_mail(self, reply: Reply, kind: int) -> Move:
        self.stage = _RCPT
        if kind == 2:
            return _WAIT if self.extensions.pipelining else _WRITE
        self._end_all(Outcome(_fate(kind), reply, _MAIL))
        if self.extensions.pipelining:
            return _WAIT  # the RCPTs and DATA are answered too, whatever for
        self.stage = _DONE
        return _FINISHED

    def _receive_rcpt(self, reply: Reply, kind: int) -> Move:
        index = self._next
        if kind != 2 and not self.outcomes:  # MAIL was not refused
            self._refused[index] = Outcome(self._rcpt_fate(reply, kind), reply, _RCPT)
        self._next = index = index + 1
        if index == len(self.recipients):
            if len(self._refused) == index:
                self.outcomes = list(self._refused.values())
            if self.in_chunks:
                if self.outcomes:
                    return self._end_refused()
                self.stage = _END
                return _BODY
            self.stage = _DATA
            if not self.extensions.pipelining and self.outcomes:
                return self._end_refused()
        return _WAIT if self.extensions.pipelining else _WRITE

    def _rcpt_fate(self, reply: Reply, kind: int) -> Fate:
        """RFC 5321 4.5.3.1.10: 452 and 552 for "too many recipients" mean: in another transaction, please."""
        if reply.code in (452, 552) and (not reply.enhanced or reply.enhanced.endswith(".5.3")):
            # Only beside an accepted one: else the next transaction would be the same one again, for ever.
            if self._next > len(self._refused):
                return Fate.UNTRIED
            if reply.enhanced:
                return Fate.DEFERRED
        return _fate(kind)

    def _receive_data(self, reply: Reply, kind: int) -> Move:
        if kind == 3:
            self.stage = _LONE_DOT if self.outcomes else _END
            return _SEND_DOT if self.outcomes else _BODY
        if kind == 2:
            raise RemoteProtocolError(f"{reply.code} in answer to DATA")
        self._end_all(Outcome(_fate(kind), reply, _DATA))
        return self._end_refused()

    def _receive_end(self, reply: Reply, kind: int) -> Move:
        if not self.is_body_sent:
            # The server judges before it has heard us out. A refusal is believed; a connection in the
            # middle of a body can't be used again.
            if kind == 2:
                raise RemoteProtocolError("the message was accepted before its end")
            self.is_closing = True
        self._end_all(Outcome(_fate(kind), reply, _END))
        self.stage = _DONE
        return _FINISHED

    def _receive_closing(self, reply: Reply, stage: Stage) -> Move:
        """421: the server goes. Whoever has no result yet is deferred with these words."""
        if stage is _DONE:
            raise RemoteProtocolError("a reply to no command")
        self._end_all(Outcome(Fate.DEFERRED, reply, stage))
        self.is_closing = True
        self.stage = _DONE
        return _FINISHED

    def _end_refused(self) -> Move:
        self.needs_reset = True
        self.stage = _DONE
        return _FINISHED

    def _end_all(self, outcome: Outcome) -> None:
        """Whoever has none yet gets this one."""
        if self.outcomes:
            return
        count, refused = len(self.recipients), self._refused
        if refused:
            self.outcomes = [refused.get(index, outcome) for index in range(count)]
        else:
            self.outcomes = [outcome] * count

    # -- commands --------------------------------------------------------------------------------------

    def _rule_out(self, reply: Reply) -> bytes:
        """What the server offered already tells that it will not take this."""
        self.refuse(reply)
        return b""

    def _mail_options(self, is_utf8: bool) -> str:
        """What MAIL says behind the size."""
        envelope, extensions, options = self.envelope, self.extensions, ""
        # Where 8BITMIME is missing the octets go out all the same, as everybody does: recoding the body would
        # break its signatures, and receivers that can't take it are long gone.
        if envelope.is_8bit and extensions.eightbitmime:
            options += " BODY=8BITMIME"
        if is_utf8:
            options += " SMTPUTF8"
        if extensions.dsn:
            if envelope.ret in _RET_NAMES:
                options += f" RET={_RET_NAMES[envelope.ret]}"
            if envelope.envelope_id:
                options += f" ENVID={encode_xtext(envelope.envelope_id)}"
        return options

    def _rcpt_command(self, recipient: RecipientLike) -> str:
        if not self.extensions.dsn or not (recipient.notify or recipient.orcpt):
            return f"RCPT TO:<{recipient.address}>\r\n"
        command = f"RCPT TO:<{recipient.address}>"
        if recipient.notify:
            command += " NOTIFY=" + ",".join(name for bit, name in _NOTIFY_NAMES if recipient.notify & bit)
        if recipient.orcpt:
            kind, _, address = recipient.orcpt.partition(";")
            command += f" ORCPT={kind};{encode_xtext(address)}"
        return command + "\r\n"


class InternalReply(Reply, frozen=True, gc=False):
    """A reply that no server gave: what we found out ourselves, in the same form."""


def internal_reply(code: int, enhanced: str, words: str) -> Reply:
    """Our own finding as a reply, marked as ours for whoever reads the record."""
    return InternalReply(code, f"{enhanced} [internal] {words}", enhanced)


def is_internal(reply: Reply) -> bool:
    """Whether a reply is one of ours (a server may write "[internal]" too)."""
    return type(reply) is InternalReply


def _fate(kind: int) -> Fate:
    if kind == 2:
        return _DELIVERED
    return _DEFERRED if kind == 4 else _FAILED


def _describe(stage: Stage) -> str:
    return "the end of data" if stage in (_END, _LONE_DOT) else stage.name
